//! Other listeners while siplatch runs: new sockets are opened first, and only
//! when all of them are there does anything change.

use std::io::ErrorKind;

use net::{Sleep, Streams};
use proxy::config::Listener;
use wire::ListenerId;

use super::{Open, Socket, Sockets, mend};
use crate::metrics::label::Label as _;
use crate::view::View;

/// Sockets that were opened and whose listeners nobody knows yet.
#[derive(Debug, Default)]
pub(in crate::edge) struct Opened(Vec<(ListenerId, Open)>);

impl Opened {
    /// Opens the listeners that were added; or says why one cannot be, and closes the others again.
    pub(in crate::edge) fn all(
        listeners: &[Listener],
        added: &[ListenerId],
        (streams, sleep): (&mut Streams, &Sleep),
    ) -> Result<Self, String> {
        let mut opened = Self::default();
        for id in added {
            let Some(listener) = listeners.get(usize::from(id.0)).filter(|listener| listener.accepts) else { continue };
            match Open::new(*id, listener.transport, listener.bind, (streams, sleep)) {
                Ok(socket) => opened.0.push((*id, socket)),
                Err(error) => {
                    for (id, _) in opened.0 {
                        streams.unlisten(id);
                    }
                    return Err(refused(listeners, *id, listener, &error));
                }
            }
        }
        Ok(opened)
    }
}

fn refused(listeners: &[Listener], id: ListenerId, listener: &Listener, error: &std::io::Error) -> String {
    let (bind, transport) = (listener.bind, listener.transport);
    let ours = |(other, at): (&Listener, u16)| {
        let wild = other.bind.ip().is_unspecified() || bind.ip().is_unspecified();
        let kind = other.transport.reliable() == transport.reliable();
        at != id.0 && wild && kind && other.bind.port() == bind.port()
    };
    let mend = if error.kind() == ErrorKind::AddrInUse && listeners.iter().zip(0..).any(ours) {
        "siplatch itself has this port, at another address: restart it, or write another port".to_owned()
    } else {
        mend(error.kind(), transport, bind.port())
    };
    format!("refused: siplatch cannot listen on {} {bind}: {error}\n  mend: {mend}\n", transport.label())
}

impl Sockets {
    /// Takes the sockets over and closes those of retired listeners. One that
    /// stays is not touched, open or not.
    pub(in crate::edge) fn take_over(
        &mut self,
        listeners: &[Listener],
        opened: Opened,
        streams: &mut Streams,
        view: &View,
    ) {
        for (config, id) in listeners.iter().zip(0..) {
            match self.all.get_mut(usize::from(id)) {
                Some(socket) => {
                    if config.retired && !socket.config.retired {
                        tracing::info!(bind = %config.bind, "no longer listening");
                        (socket.open, socket.narrow) = (Open::Not, false);
                        streams.unlisten(ListenerId(id));
                    }
                    socket.config = config.clone();
                }
                None => self.all.push(Socket::new(config)),
            }
        }
        for (id, open) in opened.0 {
            if let Some(socket) = self.all.get_mut(usize::from(id.0)) {
                tracing::info!(side = socket.config.side.as_str(), bind = %socket.config.bind, "listening");
                socket.open = open;
                view.listener(id, Ok(()));
            }
        }
    }
}
