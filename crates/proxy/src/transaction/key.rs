//! Which server transaction does a request belong to (RFC 3261 §17.2.3), and
//! does a response belong to its client transaction (§17.1.3)?

use sha2::{Digest as _, Sha256};
use wire::sip::{Message, Method, Name, Start, Via};

use crate::hashes::Hashes;

/// Pieces of a key that are longer than this are kept as their hash: a key
/// lives for 64·T1, and how long a branch is, is the sender's choice.
const LONGEST: usize = 96;

/// Branch, sent-by and method; for senders without the magic cookie
/// (RFC 2543) the fields that make up their transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Of its branch, for tables.
    hash: u64,
    /// The pieces, a zero behind each.
    text: Box<[u8]>,
}

impl Key {
    /// How many octets it has.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The key of a request. An ACK gives the key of its INVITE.
    pub(crate) fn of(hashes: &Hashes, message: Message<'_>, via: &Via<'_>) -> Self {
        match (message.method(), message.start()) {
            (Method::Ack, _) => Self::of_invite(hashes, message, via),
            (_, Some(Start::Request { method, .. })) => Self::build(hashes, message, via, message.slice(method)),
            (_, Some(Start::Response { .. }) | None) => Self::join(hashes, &[]),
        }
    }

    /// The key of the INVITE that a CANCEL or an ACK is for (§9.2, §17.2.3).
    pub(crate) fn of_invite(hashes: &Hashes, message: Message<'_>, via: &Via<'_>) -> Self {
        Self::build(hashes, message, via, b"INVITE")
    }

    /// The keys of all transactions of one branch begin so; `None` for senders
    /// without the magic cookie.
    pub(crate) fn of_branch(hashes: &Hashes, via: &Via<'_>) -> Option<Self> {
        let branch = via.branch().filter(|b| b.starts_with(b"z9hG4bK") && b.len() > 7)?;
        Some(Self::join(hashes, &[branch]))
    }

    /// A keyed hash of its first piece, the branch.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// True for a key of that branch.
    pub(crate) fn is_of(&self, branch: &Self) -> bool {
        self.text.starts_with(&branch.text)
    }

    fn build(hashes: &Hashes, message: Message<'_>, via: &Via<'_>, method: &[u8]) -> Self {
        let branch = via.branch().unwrap_or_default();
        if branch.starts_with(b"z9hG4bK") && branch.len() > 7 {
            Self::join(hashes, &[branch, via.sent_by, method])
        } else {
            let from = message.tag_in_from().unwrap_or_default();
            let number = message.cseq().map(|c| c.digits).unwrap_or_default();
            Self::join(hashes, &[via.raw, message.call_id(), from, number, message.request_uri(), method])
        }
    }

    fn join(hashes: &Hashes, pieces: &[&[u8]]) -> Self {
        let mut text = Vec::with_capacity(pieces.iter().map(|piece| piece.len().min(LONGEST) + 1).sum());
        let mut hash = None;
        for piece in pieces {
            if piece.len() > LONGEST {
                text.extend_from_slice(&Sha256::digest(piece));
            } else {
                text.extend_from_slice(piece);
            }
            hash.get_or_insert_with(|| hashes.of(&[&text]));
            text.push(0);
        }
        Self { hash: hash.unwrap_or(0), text: text.into() }
    }
}

/// True when a response that bears the branch of `request` is one to it: of the
/// same method (§17.1.3), or of the CANCEL for an INVITE. When it is to be
/// passed on, a Via must be left below ours.
pub(crate) fn belongs(request: Message<'_>, passed: bool, response: Message<'_>) -> bool {
    let method = request.method();
    // The answer to a CANCEL is for us alone: ours is the only Via.
    let cancelled = method == Method::Invite && response.method() == Method::Cancel;
    cancelled || response.method() == method && (!passed || response.values(Name::Via).nth(1).is_some())
}

#[cfg(test)]
mod tests;
