//! A prepared configuration takes the place of the present one, between two
//! turns of the loop: whole, or not at all. Whatever can fail comes first.

use std::sync::Arc;
use std::time::Instant;

use net::entropy;
use proxy::Input;
use tokio::sync::oneshot;

use super::Edge;
use super::corners::Corners;
use super::sockets::Opened;
use crate::config::reload::Plan;
use crate::view::asks;

/// A configuration that was read, validated and compared, and whose names resolve.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What is to be done.
    pub(crate) plan: Plan,
    /// Who waits for it, with the reason if it cannot be done.
    pub(crate) done: oneshot::Sender<Result<(), String>>,
}

impl<B: FnOnce()> Edge<B> {
    /// Applies it, or leaves everything as it was.
    pub(super) fn reload(&mut self, now: Instant, prepared: Prepared) {
        let Prepared { plan, done } = prepared;
        let result = self.apply(now, plan);
        // Whoever is told that it is done finds it done.
        self.settle(now);
        // Whoever asked may have gone; the log says it, too.
        let _ = done.send(result);
    }

    fn apply(&mut self, now: Instant, plan: Plan) -> Result<(), String> {
        if self.stop.is_some() {
            return Err("refused: siplatch is stopping\n".to_owned());
        }
        let Plan { settings, added, removed, changes: _, names: _ } = plan;
        let listeners = &settings.proxy.listeners;
        let opened = Opened::all(listeners, &added, (&mut self.streams, &self.sleep))?;
        // One for each side and family, should they all be new.
        let no_seed = |error| format!("refused: the system gives no random numbers: {error}\n");
        let seeds = [entropy::seed(), entropy::seed(), entropy::seed(), entropy::seed()];
        let seeds = seeds.into_iter().collect::<Result<Vec<_>, _>>().map_err(no_seed)?;

        let settings = Arc::new(settings);
        if let Some(certificates) = &settings.certificates {
            self.streams.set_tls(Arc::clone(certificates));
        }
        let (view, before) = (&self.shared.view, Arc::clone(&self.settings));
        // Messages to listeners that close leave first.
        for failure in self.sockets.send() {
            self.inputs.push_back(Input::Unsent { flow: failure.flow });
        }
        self.sockets.take_over(&settings.proxy.listeners, opened, &mut self.streams, view);
        for (listener, id) in settings.proxy.listeners.iter().zip(0..) {
            let was = before.proxy.listeners.get(usize::from(id));
            if was.is_some_and(|was| asks(was) && was.advertise != listener.advertise) {
                view.address_unknown(wire::ListenerId(id));
            }
        }
        removed.iter().for_each(|id| view.listener_gone(*id));
        view.forget_places();
        self.pressure.forget();
        self.stun.reconfigure(now, &settings, seeds);
        for (listener, id) in settings.proxy.listeners.iter().zip(0..) {
            let id = wire::ListenerId(id);
            if asks(listener) && self.sockets.of(id).is_some() {
                self.stun.opened(now, id);
            }
        }
        self.relay.reconfigure(now, &settings, &self.stun);
        if !self.corners.as_ref().is_some_and(|corners| corners.fits(&settings.proxy)) {
            // The sockets of the former ones are closed before the new ones are opened.
            self.corners = None;
            self.corners = Corners::open(&settings.proxy, settings.marks.signalling, &self.sleep);
        }
        self.inputs.push_back(Input::Reconfigure(Arc::clone(&settings.proxy)));
        self.shared.take(Arc::clone(&settings));
        let turn = (before.turn != settings.turn || before.certificates != settings.certificates)
            .then_some(())
            .filter(|()| before.turn.is_some() || settings.turn.is_some());
        self.settings = settings;
        self.follow_servers();
        self.rewriting.ask(super::rewriting::reflector(&self.settings), super::rewriting::watch);
        if turn.is_some() {
            self.renew_turn(now);
        }
        self.admit();
        self.bells.ring_all();
        Ok(())
    }
}
