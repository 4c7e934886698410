//! Octets from messages, as [`Json::octets`](super::json::Json::octets) writes them.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

/// Octets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text(pub(super) Vec<u8>);

impl From<Text> for Vec<u8> {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<Text> for Box<[u8]> {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

impl From<Text> for Arc<[u8]> {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        octets.map(Self).map_err(|_| de::Error::custom("a character that is no octet"))
    }
}
