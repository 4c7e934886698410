//! What siplatch changes in a message, one file per field. The whole list is
//! in `docs/rfc.md`; a byte diff in the tests holds us to it.

pub(crate) mod body;
pub(crate) mod contact;
pub(crate) mod identity;
pub(crate) mod keep;
pub(crate) mod own;
pub(crate) mod record_route;
pub(crate) mod refer;
pub(crate) mod service_route;
pub(crate) mod via;

pub(crate) use own::Own;
