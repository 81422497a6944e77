//! JSON whose exact bytes matter, because something signed commits to their hash.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;
use tradewind_market::{Hash32, offer::details_digest};

/// A value together with the JSON text that it was read from or first written as. The text goes through every
/// gateway and every store unchanged, so that its hash stays what was signed.
#[derive(Clone)]
pub struct Exact<T> {
    text: Box<RawValue>,
    value: T,
}

impl<T: Serialize> Exact<T> {
    /// Fixes the text of a value that is about to be signed.
    pub fn new(value: T) -> Result<Self, serde_json::Error> {
        let text = serde_json::value::to_raw_value(&value)?;
        Ok(Self { text, value })
    }
}

impl<T> Exact<T> {
    /// What the text says.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What the text says, without the text.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The text, byte for byte.
    pub fn text(&self) -> &str {
        self.text.get()
    }

    /// Digest of the text, as offers hold it.
    pub fn digest(&self) -> Hash32 {
        details_digest(self.text().as_bytes())
    }
}

impl<T: fmt::Debug> fmt::Debug for Exact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> PartialEq for Exact<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl<T> Eq for Exact<T> {}

impl<T> Serialize for Exact<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Exact<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let value = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self { text, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_survives_what_parsing_would_change() {
        let sent = r#"{"b": 1.50,  "a":"\u0041"}"#;
        let read: Exact<serde_json::Value> = serde_json::from_str(sent).unwrap();
        assert_eq!(read.text(), sent);
        assert_eq!(serde_json::to_string(&vec![&read]).unwrap(), format!("[{sent}]"));
        assert_eq!(read.digest(), details_digest(sent.as_bytes()));
        let parsed_again = Exact::new(read.value().clone()).unwrap();
        assert_ne!(
            parsed_again.digest(),
            read.digest(),
            "which is why the text is kept"
        );
    }
}
