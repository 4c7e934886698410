//! Octets from messages as readable text: each octet is the character of the
//! same number, so nothing is lost and a person can read the rest.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Octets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text(Vec<u8>);

impl From<&Vec<u8>> for Text {
    fn from(octets: &Vec<u8>) -> Self {
        Self(octets.clone())
    }
}

impl From<Text> for Vec<u8> {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.is_ascii() => serializer.serialize_str(text),
            Ok(_) | Err(_) => {
                serializer.serialize_str(&self.0.iter().map(|octet| char::from(*octet)).collect::<String>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        octets.map(Self).map_err(|_| de::Error::custom("a character that is no octet"))
    }
}
