//! Which server transaction does a request belong to (RFC 3261 §17.2.3), and
//! does a response belong to its client transaction (§17.1.3)?

use sha2::{Digest as _, Sha256};
use wire::sip::{Message, Method, Name, Start, Via};

/// Pieces of a key that are longer than this are kept as their hash: a key
/// lives for 64·T1, and how long a branch is, is the sender's choice.
const LONGEST: usize = 96;

/// Branch, sent-by and method; for senders without the magic cookie
/// (RFC 2543) the fields that make up their transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The pieces, a zero behind each.
    text: Box<[u8]>,
    /// How long the first of them is.
    branch: u8,
}

impl Key {
    /// How many octets it has.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The key of a request. An ACK gives the key of its INVITE.
    pub(crate) fn of(message: Message<'_>, via: &Via<'_>) -> Self {
        match (message.method(), message.start()) {
            (Method::Ack, _) => Self::of_invite(message, via),
            (_, Some(Start::Request { method, .. })) => Self::build(message, via, message.slice(method)),
            (_, Some(Start::Response { .. }) | None) => Self { text: Box::default(), branch: 0 },
        }
    }

    /// The key of the INVITE that a CANCEL or an ACK is for (§9.2, §17.2.3).
    pub(crate) fn of_invite(message: Message<'_>, via: &Via<'_>) -> Self {
        Self::build(message, via, b"INVITE")
    }

    /// The keys of all transactions of one branch begin so; `None` for senders
    /// without the magic cookie.
    pub(crate) fn of_branch(via: &Via<'_>) -> Option<Self> {
        let branch = via.branch().filter(|b| b.starts_with(b"z9hG4bK") && b.len() > 7)?;
        Some(Self::join(&[branch]))
    }

    /// What it begins with: its branch, where that is no longer than a piece may be.
    pub(crate) fn branch(&self) -> &[u8] {
        self.text.get(..usize::from(self.branch)).unwrap_or_default()
    }

    /// True for a key of that branch.
    pub(crate) fn is_of(&self, branch: &Self) -> bool {
        self.text.starts_with(&branch.text)
    }

    fn build(message: Message<'_>, via: &Via<'_>, method: &[u8]) -> Self {
        let branch = via.branch().unwrap_or_default();
        if branch.starts_with(b"z9hG4bK") && branch.len() > 7 {
            Self::join(&[branch, via.sent_by, method])
        } else {
            let from = message.tag_in_from().unwrap_or_default();
            let number = message.cseq().map(|c| c.digits).unwrap_or_default();
            Self::join(&[via.raw, message.call_id(), from, number, message.request_uri(), method])
        }
    }

    fn join(pieces: &[&[u8]]) -> Self {
        let mut text = Vec::with_capacity(pieces.iter().map(|piece| piece.len().min(LONGEST) + 1).sum());
        let mut branch = None;
        for piece in pieces {
            if piece.len() > LONGEST {
                text.extend_from_slice(&Sha256::digest(piece));
            } else {
                text.extend_from_slice(piece);
            }
            branch.get_or_insert(text.len() as u8);
            text.push(0);
        }
        Self { text: text.into(), branch: branch.unwrap_or(0) }
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
