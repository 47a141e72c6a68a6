//! Element types as safetensors files name them.

use std::fmt;

use serde::Serialize;
use zimage_kernels::blocks::Format;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $size:literal;)*) => {
        /// Element type of a stored tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[non_exhaustive]
        pub enum Dtype { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl Dtype {
            /// Every element type, in order of declaration.
            pub const ALL: &[Dtype] = &[$(Dtype::$variant),*];

            /// The name that a safetensors header uses, `"BF16"`.
            pub fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name),* }
            }

            /// Bytes of one element.
            pub fn size(self) -> usize {
                match self { $(Dtype::$variant => $size),* }
            }
        }
    };
}

dtypes! {
    /// 64-bit float.
    F64 = "F64", 8;
    /// 32-bit float.
    F32 = "F32", 4;
    /// IEEE half float.
    F16 = "F16", 2;
    /// Brain float: the upper half of an `F32`.
    BF16 = "BF16", 2;
    /// 8-bit float with 4 exponent bits, no infinities.
    F8E4M3 = "F8_E4M3", 1;
    /// 8-bit float with 5 exponent bits.
    F8E5M2 = "F8_E5M2", 1;
    /// 8-bit power of two, a block scale.
    F8E8M0 = "F8_E8M0", 1;
    /// Complex of two 32-bit floats.
    C64 = "C64", 8;
    /// Signed 64-bit integer.
    I64 = "I64", 8;
    /// Signed 32-bit integer.
    I32 = "I32", 4;
    /// Signed 16-bit integer.
    I16 = "I16", 2;
    /// Signed 8-bit integer.
    I8 = "I8", 1;
    /// Unsigned 64-bit integer.
    U64 = "U64", 8;
    /// Unsigned 32-bit integer.
    U32 = "U32", 4;
    /// Unsigned 16-bit integer.
    U16 = "U16", 2;
    /// Unsigned 8-bit integer.
    U8 = "U8", 1;
    /// One byte per truth value.
    Bool = "BOOL", 1;
}

impl Dtype {
    /// The element type that a safetensors header calls `name`.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }

    /// The weight storage format with the same bytes, if the kernels can read this element type as a weight.
    pub fn format(self) -> Option<Format> {
        match self {
            Dtype::F32 => Some(Format::F32),
            Dtype::BF16 => Some(Format::BF16),
            Dtype::F16 => Some(Format::F16),
            _ => None,
        }
    }

    /// Bytes of a tensor of this type and shape, or `None` where the product does not fit a `usize`.
    pub fn size_of(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(self.size(), |bytes, &n| bytes.checked_mul(n))
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
