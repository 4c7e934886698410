//! SIP messages (RFC 3261) as ranges over received bytes.

pub mod compose;
pub mod cseq;
pub mod edit;
mod essentials;
pub mod field;
pub mod framing;
mod index;
mod lex;
pub mod message;
pub mod method;
pub mod multipart;
pub mod name_addr;
pub mod params;
pub mod session_id;
pub mod status;
pub mod uri;
mod uri_equal;
pub mod via;

pub use cseq::CSeq;
pub use field::{Field, Name};
pub use framing::Framing;
pub use message::{Index, Limits, Message, Start, Stored};
pub use method::Method;
pub use name_addr::{Contact, NameAddr};
pub use params::{Param, Params};
pub use session_id::SessionId;
pub use status::Status;
pub use uri::{Host, Scheme, Uri};
pub use via::Via;
