//! Parameters of a request: from the query of a GET, or the JSON of a POST. Text and numbers are taken for each other,
//! as toncenter does, since its clients send either.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

use super::reply::Refusal;
use crate::address::Address;

/// Named values, not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    /// Those of a query string. Of a name that comes twice, the last counts.
    pub(super) fn of_query(pairs: Vec<(String, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
    }

    /// Those of a body; one without bytes has none.
    pub(super) fn of_body(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let value = serde_json::from_slice(body).map_err(|error| Refusal::malformed(format!("no JSON: {error}")))?;
        Self::of_value(value)
    }

    /// Those of a JSON object.
    pub(super) fn of_value(value: Value) -> Result<Self, Refusal> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            Value::Null => Ok(Self::default()),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(Refusal::malformed("parameters are a JSON object"))
            }
        }
    }

    /// A value as it came; `null` is none.
    pub(super) fn raw(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text, or a whole number as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.raw(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) if !number.is_f64() => Ok(Some(number.to_string())),
            Some(_) => Err(Refusal::malformed(format!("`{name}` is text, or a whole number"))),
        }
    }

    /// A text that must be there.
    pub(super) fn needed(&self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| Refusal::malformed(format!("`{name}` is missing")))
    }

    /// A whole number.
    pub(super) fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text.parse().map_err(|_| Refusal::malformed(format!("`{name}` is no number in range")))?;
        Ok(Some(number))
    }

    /// An address in any form.
    pub(super) fn address(&self) -> Result<Address, Refusal> {
        let text = self.needed("address")?;
        text.parse().map_err(|error| Refusal::malformed(format!("{error}")))
    }

    /// A hash in hexadecimal or base64.
    pub(super) fn hash(&self, name: &str) -> Result<Option<[u8; 32]>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes = if text.len() == 64 { hex::decode(&text).ok() } else { base64_any(&text) };
        let hash = bytes.and_then(|bytes| bytes.try_into().ok());
        hash.map(Some).ok_or_else(|| Refusal::malformed(format!("`{name}` is no hash of 32 bytes, in hex or base64")))
    }

    /// A bag of cells in base64, of one root.
    pub(super) fn boc(&self, name: &str) -> Result<Cell, Refusal> {
        boc(&self.needed(name)?).map_err(|why| Refusal::malformed(format!("`{name}` {why}")))
    }
}

/// The root of a bag of cells in base64.
pub(super) fn boc(text: &str) -> Result<Cell, &'static str> {
    let bytes = base64_any(text).ok_or("is no base64")?;
    Boc::decode(bytes).map_err(|_| "is no bag of cells with one root")
}

/// Base64 of either alphabet.
fn base64_any(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
