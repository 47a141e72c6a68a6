//! Reads the keys of a GGUF file with errors that name file, key and value.

use std::fmt::Display;

use crate::container::{Array, Gguf, Value};
use crate::{Error, Result};

/// The keys of a file.
pub(super) struct Keys<'a>(pub(super) &'a Gguf);

impl<'a> Keys<'a> {
    fn required(&self, key: &str) -> Result<&'a Value> {
        let missing = || Error::ConfigMissing { file: self.0.label().to_owned(), key: key.to_owned() };
        self.0.metadata().get(key).ok_or_else(missing)
    }

    /// The key must have exactly this text.
    pub(super) fn must_be(&self, key: &str, expected: &str) -> Result<()> {
        let value = self.required(key)?;
        if value.as_str() == Some(expected) { Ok(()) } else { Err(self.wrong(key, value, expected)) }
    }

    /// A whole number.
    pub(super) fn count(&self, key: &str) -> Result<u64> {
        let value = self.required(key)?;
        value.as_u64().ok_or_else(|| self.wrong(key, value, "a whole number"))
    }

    /// A finite number above zero. One of 32 bits becomes the shortest decimal that is read as the same 32 bits, which is
    /// what the config had from which it was made: 1e-6, and not 9.99999997e-7.
    pub(super) fn positive(&self, key: &str) -> Result<f64> {
        let value = self.required(key)?;
        let number = match value {
            Value::F32(number) => number.to_string().parse().ok(),
            Value::F64(number) => Some(*number),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
        number.ok_or_else(|| self.wrong(key, value, "a number above 0"))
    }

    fn array(&self, key: &str, expected: &str) -> Result<&'a Array> {
        let value = self.required(key)?;
        if let Value::Array(array) = value { Ok(array) } else { Err(self.wrong(key, value, expected)) }
    }

    /// The number of values of a list.
    pub(super) fn len(&self, key: &str) -> Result<usize> {
        self.array(key, "a list").map(Array::len)
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let expected = "a list of texts";
        let array = self.array(key, expected)?;
        let text = |value| if let Value::String(text) = value { Some(text) } else { None };
        array.iter().map(text).collect::<Option<_>>().ok_or_else(|| self.wrong(key, array, expected))
    }

    /// A list of whole numbers that are not negative.
    pub(super) fn counts(&self, key: &str) -> Result<Vec<u64>> {
        let expected = "a list of whole numbers";
        let array = self.array(key, expected)?;
        let counts = array.iter().map(|value| value.as_u64()).collect::<Option<_>>();
        counts.ok_or_else(|| self.wrong(key, array, expected))
    }

    /// An [`Error::Config`] about a key.
    pub(super) fn wrong(&self, key: &str, found: impl Display, expected: impl Display) -> Error {
        super::tokenizer::wrong(self.0.label(), key, found, expected)
    }
}
