//! The values in the metadata of a GGUF file.

use std::fmt;

use bytes::Bytes;

use super::read::Reader;
use super::{GgufProblem, write};

/// Longest array that is written out in full where people read it.
const MAX_SHOWN: usize = 16;

macro_rules! values {
    ($($(#[$doc:meta])* $variant:ident($of:ty) = $number:literal, $name:literal, $least:literal;)*) => {
        /// A value of the metadata.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value { $($(#[$doc])* $variant($of),)* }

        /// Type of a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ValueType { $($(#[$doc])* $variant,)* }

        impl ValueType {
            fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(ValueType::$variant),)*
                    _ => None,
                }
            }

            /// The number in the file.
            fn number(self) -> u32 {
                match self { $(ValueType::$variant => $number),* }
            }

            /// The name in messages: `u32`, `string`.
            pub fn name(self) -> &'static str {
                match self { $(ValueType::$variant => $name),* }
            }

            /// The least number of bytes that a value takes.
            fn least(self) -> u64 {
                match self { $(ValueType::$variant => $least),* }
            }
        }

        impl Value {
            /// Its type.
            pub fn kind(&self) -> ValueType {
                match self { $(Value::$variant(_) => ValueType::$variant),* }
            }
        }
    };
}

values! {
    /// Unsigned, 8 bits.
    U8(u8) = 0, "u8", 1;
    /// Signed, 8 bits.
    I8(i8) = 1, "i8", 1;
    /// Unsigned, 16 bits.
    U16(u16) = 2, "u16", 2;
    /// Signed, 16 bits.
    I16(i16) = 3, "i16", 2;
    /// Unsigned, 32 bits.
    U32(u32) = 4, "u32", 4;
    /// Signed, 32 bits.
    I32(i32) = 5, "i32", 4;
    /// Float, 32 bits.
    F32(f32) = 6, "f32", 4;
    /// A truth value.
    Bool(bool) = 7, "bool", 1;
    /// A text.
    String(String) = 8, "string", 8;
    /// Several values of one type.
    Array(Array) = 9, "array", 12;
    /// Unsigned, 64 bits.
    U64(u64) = 10, "u64", 8;
    /// Signed, 64 bits.
    I64(i64) = 11, "i64", 8;
    /// Float, 64 bits.
    F64(f64) = 12, "f64", 8;
}

impl Value {
    /// Reads the type of a value, then the value. `key` is for messages.
    pub(super) fn read(reader: &mut Reader<'_>, key: &str) -> Result<Value, GgufProblem> {
        let what = format!("the value of {key}");
        let kind = read_type(reader, key, &what)?;
        if kind == ValueType::Array {
            Array::read(reader, key, &what).map(Value::Array)
        } else {
            kind.read(reader, &what)
        }
    }

    /// Writes the type of the value, then the value.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.kind().number().to_le_bytes());
        match self {
            Value::U8(value) => bytes.push(*value),
            Value::I8(value) => bytes.extend(value.to_le_bytes()),
            Value::U16(value) => bytes.extend(value.to_le_bytes()),
            Value::I16(value) => bytes.extend(value.to_le_bytes()),
            Value::U32(value) => bytes.extend(value.to_le_bytes()),
            Value::I32(value) => bytes.extend(value.to_le_bytes()),
            Value::F32(value) => bytes.extend(value.to_le_bytes()),
            Value::Bool(value) => bytes.push(u8::from(*value)),
            Value::String(value) => write::text(bytes, value),
            Value::Array(value) => value.write(bytes),
            Value::U64(value) => bytes.extend(value.to_le_bytes()),
            Value::I64(value) => bytes.extend(value.to_le_bytes()),
            Value::F64(value) => bytes.extend(value.to_le_bytes()),
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// The number, if it is a whole one of any width and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(value) => Some(value.into()),
            Value::U16(value) => Some(value.into()),
            Value::U32(value) => Some(value.into()),
            Value::U64(value) => Some(value),
            Value::I8(value) => u64::try_from(value).ok(),
            Value::I16(value) => u64::try_from(value).ok(),
            Value::I32(value) => u64::try_from(value).ok(),
            Value::I64(value) => u64::try_from(value).ok(),
            Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
        }
    }
}

fn read_type(reader: &mut Reader<'_>, key: &str, what: &str) -> Result<ValueType, GgufProblem> {
    let number = reader.u32(what)?;
    ValueType::from_number(number).ok_or_else(|| GgufProblem::ValueType { key: key.to_owned(), number })
}

impl ValueType {
    /// Reads a value of this type, which is not an array.
    fn read(self, reader: &mut Reader<'_>, what: &str) -> Result<Value, GgufProblem> {
        Ok(match self {
            ValueType::U8 => Value::U8(u8::from_le_bytes(reader.array(what)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(reader.array(what)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(reader.array(what)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(reader.array(what)?)),
            ValueType::U32 => Value::U32(reader.u32(what)?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(reader.array(what)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(reader.array(what)?)),
            ValueType::Bool => Value::Bool(match reader.array(what)? {
                [0] => false,
                [1] => true,
                [byte] => return Err(GgufProblem::Bool { what: what.to_owned(), byte }),
            }),
            ValueType::String => Value::String(reader.text(what)?.to_owned()),
            ValueType::Array => unreachable!("arrays are read by their own type: this is a bug"),
            ValueType::U64 => Value::U64(reader.u64(what)?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(reader.array(what)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(reader.array(what)?)),
        })
    }
}

/// Values of one type, as compact as in the file: a vocabulary has hundreds of thousands of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    kind: ValueType,
    len: usize,
    data: Bytes,
}

impl Array {
    fn read(reader: &mut Reader<'_>, key: &str, what: &str) -> Result<Array, GgufProblem> {
        let kind = read_type(reader, key, what)?;
        if kind == ValueType::Array {
            return Err(GgufProblem::NestedArray { key: key.to_owned() });
        }
        let len = reader.count(kind.least(), &format!("values in {key}"))?;
        let begin = reader.at();
        match kind {
            ValueType::String => (0..len).try_for_each(|_| reader.skip_text(what))?,
            _ => reader.take(len as u64 * kind.least(), what).map(drop)?,
        }
        // The copy is what is checked, so that nobody who writes to the file meanwhile can change what was found.
        let data = reader.copied(begin);
        let mut copy = Reader::new(&data);
        (0..len).try_for_each(|_| kind.read(&mut copy, what).map(drop))?;
        Ok(Array { kind, len, data })
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.kind.number().to_le_bytes());
        bytes.extend((self.len as u64).to_le_bytes());
        bytes.extend(&*self.data);
    }

    /// An array of texts.
    pub fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut len, mut data) = (0, Vec::new());
        for text in texts {
            len += 1;
            write::text(&mut data, text);
        }
        Self { kind: ValueType::String, len, data: data.into() }
    }

    /// An array of whole numbers of 32 bits.
    pub fn of_i32(values: &[i32]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { kind: ValueType::I32, len: values.len(), data: data.into() }
    }

    /// Type of the values.
    pub fn kind(&self) -> ValueType {
        self.kind
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = Value> {
        let mut reader = Reader::new(&self.data);
        let mut next = move || self.kind.read(&mut reader, "a value").expect("read before: this is a bug");
        (0..self.len).map(move |_| next())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(value) => value.fmt(f),
            Value::I8(value) => value.fmt(f),
            Value::U16(value) => value.fmt(f),
            Value::I16(value) => value.fmt(f),
            Value::U32(value) => value.fmt(f),
            Value::I32(value) => value.fmt(f),
            Value::F32(value) => value.fmt(f),
            Value::Bool(value) => value.fmt(f),
            Value::String(value) => f.write_str(value),
            Value::Array(value) => value.fmt(f),
            Value::U64(value) => value.fmt(f),
            Value::I64(value) => value.fmt(f),
            Value::F64(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Array {
    /// The values of a short array, the length of a long one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len > MAX_SHOWN {
            return write!(f, "{} values of type {}", self.len, self.kind.name());
        }
        let values: Vec<String> = self.iter().map(|value| value.to_string()).collect();
        write!(f, "[{}]", values.join(", "))
    }
}
