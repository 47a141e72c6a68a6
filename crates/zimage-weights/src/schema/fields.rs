//! Reads the fields of a config with errors that name file, key and value.

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Largest size or count in a config. Products of three of them fit 64 bits, so shapes cannot overflow.
const MAX_COUNT: u64 = 1 << 20;

/// The object of a config file.
pub(super) struct Fields<'a> {
    file: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(file: &str, value: &'a Value) -> Result<Self> {
        let found = || Error::Config {
            file: file.to_owned(),
            key: "the config".to_owned(),
            found: abridged(value),
            expected: "an object".to_owned(),
        };
        Ok(Self { file: file.to_owned(), map: value.as_object().ok_or_else(found)? })
    }

    /// The value of a key, where it is there and not null.
    pub(super) fn optional(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn required(&self, key: &str) -> Result<&'a Value> {
        let missing = || Error::ConfigMissing { file: self.file.clone(), key: key.to_owned() };
        self.optional(key).ok_or_else(missing)
    }

    /// A size or a count: a whole number from 1.
    pub(super) fn count(&self, key: &str) -> Result<usize> {
        let value = self.required(key)?;
        as_count(value).ok_or_else(|| self.wrong(key, value, format_args!("a whole number from 1 to {MAX_COUNT}")))
    }

    /// A list of sizes.
    pub(super) fn counts(&self, key: &str) -> Result<Vec<usize>> {
        let value = self.required(key)?;
        let counts = value.as_array().and_then(|list| list.iter().map(as_count).collect());
        counts.ok_or_else(|| self.wrong(key, value, format_args!("a list of whole numbers from 1 to {MAX_COUNT}")))
    }

    /// A finite number above zero.
    pub(super) fn positive(&self, key: &str) -> Result<f64> {
        let value = self.required(key)?;
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| self.wrong(key, value, "a number above 0"))
    }

    /// A finite number.
    pub(super) fn number(&self, key: &str) -> Result<f64> {
        let value = self.required(key)?;
        value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| self.wrong(key, value, "a number"))
    }

    /// The key must have exactly this value.
    pub(super) fn must_be(&self, key: &str, expected: impl Into<Value>) -> Result<()> {
        self.required(key)?;
        self.if_there_must_be(key, expected)
    }

    /// The key may be absent or null; otherwise it must have exactly this value.
    pub(super) fn if_there_must_be(&self, key: &str, expected: impl Into<Value>) -> Result<()> {
        let expected = expected.into();
        match self.optional(key) {
            Some(value) if *value != expected => Err(self.wrong(key, value, abridged(&expected))),
            _ => Ok(()),
        }
    }

    /// The key must be absent or null.
    pub(super) fn must_be_absent(&self, key: &str) -> Result<()> {
        match self.optional(key) {
            Some(value) => Err(self.wrong(key, value, "nothing: this program has no such part")),
            None => Ok(()),
        }
    }

    /// An [`Error::Config`] about a key.
    pub(super) fn wrong(&self, key: &str, found: &Value, expected: impl Display) -> Error {
        Error::Config {
            file: self.file.clone(),
            key: key.to_owned(),
            found: abridged(found),
            expected: expected.to_string(),
        }
    }

    /// An [`Error::Config`] about a key, unless `holds`.
    pub(super) fn check(&self, holds: bool, key: &str, found: impl Into<Value>, expected: impl Display) -> Result<()> {
        if holds { Ok(()) } else { Err(self.wrong(key, &found.into(), expected)) }
    }
}

fn as_count(value: &Value) -> Option<usize> {
    let n = value.as_u64().filter(|n| (1..=MAX_COUNT).contains(n))?;
    usize::try_from(n).ok()
}

/// A value as JSON, short enough for a message.
fn abridged(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
