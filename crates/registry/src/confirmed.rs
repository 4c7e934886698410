//! What an upstream registrar confirmed, as far as it is needed again: to
//! answer a refresh in its place (RFC 5853 §3.4), to register a phone again in
//! its place (RFC 5626 §8), and to know it by the GRUUs that it was given
//! (RFC 5627 §4).

use serde::{Deserialize, Serialize};

/// The last 2xx to a phone's REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confirmed {
    /// The expiry that it granted, seconds.
    pub seconds: u32,
    /// The expiry that the phone was told, seconds.
    pub told: u32,
    /// A digest of all that a mere refresh does not change.
    pub asked: u64,
    /// A digest of the whole REGISTER but its branch and number: of one that is
    /// the same, nothing has to be read again. 0 where none is known.
    pub again: u64,
    /// A digest of who was authenticated; `None` when nobody was.
    pub credentials: Option<u64>,
    /// Public and temporary GRUUs of the phone, the latest last.
    pub gruus: Vec<Vec<u8>>,
    /// What it takes to register it again in its place; `None` where nobody could.
    pub renewal: Option<Box<Renewal>>,
}

/// A REGISTER that can be sent in a phone's place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Renewal {
    /// The phone's own, as it came, without credentials; empty when only the shift counts.
    pub request: Vec<u8>,
    /// The realm that accepted the phone's credentials; empty when none asked for any.
    pub realm: Vec<u8>,
    /// The user name in them.
    pub username: Vec<u8>,
    /// How many of our own went out under its Call-ID: by so much its numbers are higher upstream (RFC 3261 §10.2).
    pub shift: u32,
}
