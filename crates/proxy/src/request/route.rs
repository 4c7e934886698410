//! Step 4: RFC 3261 §16.4, which of the Route entries name us, and what the
//! request says about where it belongs.

use registry::PassId;
use wire::Flow;
use wire::sip::{Message, Name, NameAddr, Uri};

use super::Reject;
use crate::Proxy;
use crate::token::Token;

/// What routing information a request carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Routed {
    /// Route entries of ours on top, to be removed.
    pub(crate) pops: usize,
    /// A strict router put our Record-Route entry into the Request-URI: the
    /// last Route entry is the real one.
    pub(crate) strict: bool,
    /// Token of a Contact of ours in the Request-URI.
    pub(crate) uri: Option<Token>,
    /// The pass that our Route entries name.
    pub(crate) pass: Option<PassId>,
    /// The way to a phone that was our Path entry.
    pub(crate) path: Option<Token>,
    /// An entry claims to be ours, but its token is not.
    pub(crate) forged: bool,
    /// The first Route entry behind ours.
    pub(crate) next: Option<Vec<u8>>,
}

impl Proxy {
    pub(super) fn route(&self, flow: Flow, message: Message<'_>) -> Result<Routed, Reject> {
        let bad = |_| Reject::new(400, "Bad Route");
        let mut routed = Routed::default();
        let uri = message.uri().map_err(|_| Reject::new(400, "Bad Request-URI"))?;
        match self.token_in(&uri) {
            Some(Token::Route(pass, _)) => {
                routed.strict = message.values(Name::Route).next().is_some();
                routed.pass = Some(pass);
            }
            token => routed.uri = token,
        }
        if routed.strict
            && let Some(last) = message.values(Name::Route).last()
        {
            let target = NameAddr::parse(last).map_err(bad)?;
            if let Ok(uri) = target.uri() {
                routed.uri = self.token_in(&uri);
            }
        }
        let mut routes = message.values(Name::Route).peekable();
        while let Some(value) = routes.next() {
            let entry = NameAddr::parse(value).map_err(bad)?;
            // What a token of ours proves need not be read.
            let named = entry.user_and_place().and_then(|(user, _)| self.key.open(user));
            let (named, uri) = match named {
                Some(Token::Route(..)) => (named, None),
                Some(Token::Binding(_) | Token::Leg(..) | Token::Flow(_)) | None => {
                    let uri = entry.uri().map_err(bad)?;
                    (self.token_in(&uri), Some(uri))
                }
            };
            let ours = match (named, uri) {
                (Some(Token::Route(pass, _)), _) if routed.pass.is_none_or(|p| p == pass) => {
                    routed.pass = Some(pass);
                    true
                }
                // Another pass of a spiral: that one's turn comes later.
                (Some(_), _) | (None, None) => false,
                (None, Some(uri)) => match self.path_token(&uri) {
                    Some(token) if routed.path.is_none() => {
                        routed.path = Some(token);
                        true
                    }
                    Some(_) => false,
                    None => {
                        routed.forged |= self.is_forged(flow, &uri);
                        self.names_us(flow, &uri) || self.has_our_name(&uri)
                    }
                },
            };
            let is_last_of_strict = routed.strict && routes.peek().is_none();
            if !ours || is_last_of_strict {
                if !is_last_of_strict {
                    routed.next = Some(value.to_vec());
                }
                break;
            }
            routed.pops += 1;
        }
        routed.path = routed.path.filter(|token| !self.is_outgoing(flow, *token));
        Ok(routed)
    }

    /// True for one of the names that we go by, at a port of ours. Counts in a
    /// Route only: a phone's outbound proxy is written by name, and so may be
    /// the domain that the core serves.
    fn has_our_name(&self, uri: &Uri<'_>) -> bool {
        let Some(host) = uri.host else { return false };
        let ours = |name: &String| name.as_bytes().eq_ignore_ascii_case(host.0);
        let port = |port| {
            let live = self.config.listeners.iter().filter(|l| l.accepts && !l.retired);
            live.into_iter().any(|l| l.bind.port() == port || l.advertise_port == Some(port))
        };
        self.config.names.iter().any(ours) && uri.port.is_none_or(port)
    }

    /// Step 4 for an ACK, which is never refused aloud.
    pub(crate) fn route_of(&self, flow: Flow, message: Message<'_>) -> Option<Routed> {
        self.route(flow, message).ok()
    }

    /// True for a request without user part whose Request-URI is our own address.
    pub(crate) fn is_to_us(&self, flow: Flow, message: Message<'_>) -> bool {
        message.uri().is_ok_and(|uri| uri.user.is_none() && self.token_in(&uri).is_none() && self.names_us(flow, &uri))
    }
}

#[cfg(test)]
mod tests;
