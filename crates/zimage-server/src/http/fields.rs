//! Requests of dialects whose clients send more than their documents say: fields are taken by name, in whatever form
//! clients write their type, and what nobody took is known at the end.

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The fields of a request.
#[derive(Clone, Debug, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The members of a JSON object.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for anything else.
    pub fn from_json(bytes: &[u8]) -> Result<Fields, Refusal> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(Refusal::invalid("body", "the body is not a JSON object")),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                Err(Refusal::invalid("body", format!("the body is not JSON: line {line}, column {column}")))
            }
        }
    }

    /// Adds a field of a form.
    pub fn add_text(&mut self, name: String, text: String) {
        self.0.insert(name, Value::String(text));
    }

    /// Takes a field as it is. `null` is as good as absent.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when it is something else.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::invalid(name, format!("{name}: it is not a string"))),
        }
    }

    /// Takes a whole number; forms write it as text, and JavaScript may write it as `4.0`.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when it is something else.
    pub fn integer(&mut self, name: &'static str) -> Result<Option<i64>, Refusal> {
        const EXACT: f64 = (1_u64 << 53) as f64;
        let Some(value) = self.take(name) else { return Ok(None) };
        let whole = |number: f64| (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64);
        let number = match &value {
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| Refusal::invalid(name, format!("{name}: it is not a whole number")))
    }

    /// Takes a whole number that is not negative and not beyond 32 bits.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when it is something else.
    pub fn count(&mut self, name: &'static str) -> Result<Option<u32>, Refusal> {
        let Some(number) = self.integer(name)? else { return Ok(None) };
        let count = u32::try_from(number);
        count.map(Some).map_err(|_| Refusal::invalid(name, format!("{name}: {number} is out of range")))
    }

    /// Takes a number.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when it is something else.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number.map(Some).ok_or_else(|| Refusal::invalid(name, format!("{name}: it is not a number")))
    }

    /// Takes a truth value.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when it is something else.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::invalid(name, format!("{name}: it is neither true nor false"))),
        }
    }

    /// Takes a list or an object; forms write it as JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when it is not of this kind.
    pub fn structure<T: serde::de::DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, Refusal> {
        let value = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) => serde_json::from_str(&text),
            Some(value) => serde_json::from_value(value),
        };
        value.map(Some).map_err(|_| Refusal::invalid(name, format!("{name}: it is not of the documented form")))
    }

    /// The names of the fields that nobody took and that say something.
    pub fn rest(&self) -> Vec<String> {
        self.0.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }

    /// Everything that is there.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

#[cfg(test)]
mod tests;
