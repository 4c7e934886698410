//! Other listeners while siplatch runs: new sockets are opened first, and only
//! when all of them are there does anything change.

use std::io::ErrorKind;

use net::UdpListener;
use proxy::config::Listener;
use wire::{ListenerId, Transport};

use super::{Socket, Sockets, mend};
use crate::view::View;

/// Sockets that were opened and serve nobody yet; closed when dropped.
#[derive(Debug, Default)]
pub(in crate::edge) struct Opened(Vec<(ListenerId, UdpListener)>);

impl Opened {
    /// Opens the listeners that were added; or says why one cannot be.
    pub(in crate::edge) fn all(listeners: &[Listener], added: &[ListenerId]) -> Result<Self, String> {
        let mut opened = Self::default();
        for id in added {
            let Some(listener) = listeners.get(usize::from(id.0)) else { continue };
            let (bind, transport) = (listener.bind, listener.transport.via().to_ascii_lowercase());
            if listener.transport != Transport::Udp {
                return Err(format!(
                    "refused: listener {transport} {bind} cannot be added while siplatch runs\n  mend: restart siplatch\n"
                ));
            }
            let socket = UdpListener::bind(*id, bind).map_err(|error| {
                let ours = |(other, at): (&Listener, u16)| {
                    let wild = other.bind.ip().is_unspecified() || bind.ip().is_unspecified();
                    at != id.0 && wild && other.transport == listener.transport && other.bind.port() == bind.port()
                };
                let mend = if error.kind() == ErrorKind::AddrInUse && listeners.iter().zip(0..).any(ours) {
                    "siplatch itself has this port, at another address: restart it, or write another port".to_owned()
                } else {
                    mend(error.kind(), bind.port())
                };
                format!("refused: siplatch cannot listen on {transport} {bind}: {error}\n  mend: {mend}\n")
            })?;
            opened.0.push((*id, socket));
        }
        Ok(opened)
    }
}

impl Sockets {
    /// Takes the sockets over and closes those of retired listeners. One that
    /// stays is not touched, open or not.
    pub(in crate::edge) fn take_over(&mut self, listeners: &[Listener], opened: Opened, view: &View) {
        for (index, config) in listeners.iter().enumerate() {
            match self.all.get_mut(index) {
                Some(socket) => {
                    if config.retired && !socket.config.retired {
                        tracing::info!(bind = %config.bind, "no longer listening");
                        socket.open = None;
                    }
                    socket.config = config.clone();
                }
                None => self.all.push(Socket { config: config.clone(), open: None, said: false }),
            }
        }
        for (id, listener) in opened.0 {
            if let Some(socket) = self.all.get_mut(usize::from(id.0)) {
                tracing::info!(side = socket.config.side.as_str(), bind = %socket.config.bind, "listening");
                socket.open = Some(listener);
                view.listener(id, Ok(()));
            }
        }
    }
}
