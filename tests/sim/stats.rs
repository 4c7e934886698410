//! Figures: of one run, and of many together.

use std::time::Duration;

use ::media::Fact;
use proxy::Observed;
use registry::{Change, Record};

use crate::clock::Time;
use crate::edge::Entry;
use crate::flows::{KINDS, Kind};

/// Counted from what crosses the machines' border.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) media_in: u64,
    pub(crate) media_out: u64,
    pub(crate) media_refused: u64,
    pub(crate) latches: u64,
    pub(crate) latch_moves: u64,
    pub(crate) joins: u64,
    pub(crate) silences: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
    pub(crate) retransmitted: u64,
    pub(crate) moved: u64,
    pub(crate) calls: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, entry: &Entry) {
        match entry {
            Entry::Received(_) => self.messages_in += 1,
            Entry::Sent(_) => self.messages_out += 1,
            Entry::Judged { sent, .. } => {
                self.media_in += 1;
                self.media_out += u64::from(sent.is_some());
                self.media_refused += u64::from(sent.is_none());
            }
            Entry::Fact(Fact::Latched { moved, .. }) => {
                self.latches += 1;
                self.latch_moves += u64::from(*moved);
            }
            Entry::Fact(Fact::Silent { .. }) => self.silences += 1,
            Entry::Command(::media::Command::Join { .. }) => self.joins += 1,
            Entry::Observed(Observed::Refused { .. }) => self.refused += 1,
            Entry::Observed(Observed::Dropped { .. }) => self.dropped += 1,
            Entry::Observed(Observed::Retransmitted { .. }) => self.retransmitted += 1,
            Entry::Observed(Observed::Registered { moved: true, .. }) => self.moved += 1,
            Entry::Observed(Observed::CallStarted { .. }) => self.calls += 1,
            Entry::Fact(_)
            | Entry::Command(_)
            | Entry::Observed(_)
            | Entry::Ports(..)
            | Entry::Changed(Change::Put(Record::Binding(_) | Record::Call(_)) | Change::Delete(_))
            | Entry::Timer
            | Entry::Line(_)
            | Entry::Own { .. } => {}
        }
    }
}

/// What became of the calls and of the rest of the script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) virtual_time: Time,
    pub(crate) steps: u64,
    pub(crate) datagrams: u64,
    pub(crate) tally: Tally,
    pub(crate) calls: u64,
    /// Answered, and ended by a BYE of one of the phones.
    pub(crate) completed: u64,
    /// Of these: audio measured, and enough both ways.
    pub(crate) audible: u64,
    pub(crate) early: u64,
    pub(crate) cancelled: u64,
    pub(crate) rejected: u64,
    /// Exchanges in the middle of calls, by kind.
    pub(crate) flows: [u64; KINDS],
    /// What was heard because of them: RTCP on an RTP port, UDPTL, video.
    pub(crate) muxed: u64,
    pub(crate) faxed: u64,
    pub(crate) seen: u64,
    /// Checks of ICE that were answered.
    pub(crate) checked: u64,
    pub(crate) informed: u64,
    pub(crate) vanished: u64,
    pub(crate) failed: u64,
    pub(crate) rebinds: u64,
    pub(crate) retransmissions: u64,
    pub(crate) attack_packets: u64,
    pub(crate) attack_answers: u64,
    pub(crate) lost: u64,
    pub(crate) filtered: u64,
    pub(crate) idle_calls: u64,
    /// Second answers to one INVITE.
    pub(crate) surplus: u64,
    /// Calls that found no free port.
    pub(crate) exhausted: u64,
    /// Client transactions of phones and core, and those that did not end as they should.
    pub(crate) transactions: u64,
    pub(crate) wrong: u64,
    /// Without the planned answer because the script stood in the way.
    pub(crate) disturbed: u64,
    /// Phones and cores by transport, as siplatch speaks with them.
    pub(crate) phones: [u64; 5],
    pub(crate) upstreams: [u64; 5],
    /// Completed calls with a stream at one end, and with another transport at each.
    pub(crate) streamed: u64,
    pub(crate) crossed: u64,
    /// Which transports met in a completed call: caller's and callee's, a phone's and the core's.
    pub(crate) kinds: u32,
    pub(crate) ways: u32,
    /// Connections ended by the script, and how often a phone's did for whatever reason.
    pub(crate) hangs: u64,
    pub(crate) reopened: u64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.virtual_time += other.virtual_time;
        macro_rules! sum {
            ($($field:ident)*) => { $(self.$field += other.$field;)* };
        }
        sum!(steps datagrams calls completed audible early cancelled rejected informed muxed faxed seen checked vanished failed rebinds
            retransmissions attack_packets attack_answers lost filtered idle_calls surplus exhausted transactions wrong disturbed
            streamed crossed hangs reopened);
        for (sum, count) in self.flows.iter_mut().zip(other.flows) {
            *sum += count;
        }
        for (sum, count) in self.phones.iter_mut().zip(other.phones) {
            *sum += count;
        }
        for (sum, count) in self.upstreams.iter_mut().zip(other.upstreams) {
            *sum += count;
        }
        self.kinds |= other.kinds;
        self.ways |= other.ways;
        macro_rules! tally {
            ($($field:ident)*) => { $(self.tally.$field += other.tally.$field;)* };
        }
        tally!(messages_in messages_out media_in media_out media_refused latches latch_moves joins silences refused
            dropped retransmitted moved calls);
    }

    /// Transactions that ended as they should, in per cent.
    pub(crate) fn right(&self) -> f64 {
        100.0 * (self.transactions - self.wrong) as f64 / self.transactions.max(1) as f64
    }

    /// Kinds of exchanges that never happened.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let kinds = Kind::ALL.into_iter().filter(|(kind, _)| self.flows[*kind as usize] == 0);
        kinds.map(|(_, name)| name).collect()
    }

    fn exchanges(&self) -> String {
        let kinds = Kind::ALL.map(|(kind, name)| format!("{} {name}", self.flows[kind as usize]));
        let lines: Vec<String> = kinds.chunks(6).map(|kinds| kinds.join(", ")).collect();
        format!(
            "sim: exchanges   {};\nsim:             heard: {} RTCP on an RTP port, {} of T.38, {} of video, {} answers to ICE checks\n",
            lines.join(",\nsim:             "),
            self.muxed,
            self.faxed,
            self.seen,
            self.checked,
        )
    }

    fn transports(&self) -> String {
        let [udp, tcp, tls, ws, wss] = self.phones;
        let [core_udp, core_tcp, core_tls, ..] = self.upstreams;
        format!(
            "sim: transports  phones: {udp} UDP, {tcp} TCP, {tls} TLS, {ws} WS, {wss} WSS; cores: {core_udp} UDP, \
             {core_tcp} TCP, {core_tls} TLS\n\
             sim:             completed calls: {} with a stream, {} crossed; {} of 25 pairs of phones, {} of 15 of phone \
             and core\n\
             sim:             connections: {} ended by the script, {} of phones ended in all\n\
             sim: transactions {} of phones and cores: {} with the planned answer, {} whose way the script had broken,\n\
             sim:             {} did not end as they should: {:.3} % did\n",
            self.streamed,
            self.crossed,
            self.kinds.count_ones(),
            self.ways.count_ones(),
            self.hangs,
            self.reopened,
            self.transactions,
            self.transactions - self.wrong - self.disturbed,
            self.disturbed,
            self.wrong,
            self.right(),
        )
    }

    /// Lines for people.
    pub(crate) fn text(&self, seeds: usize, wall: Duration) -> String {
        let hours = self.virtual_time.as_secs_f64() / 3600.0;
        let t = &self.tally;
        format!(
            "sim: {seeds} seeds, {hours:.1} h of virtual time in {:.1} s ({:.0} ms a seed)\n\
             sim: calls       {} placed, {} completed ({} measured audible both ways), {} after a long idle time,\n\
             sim:             {} cancelled, {} rejected, {} with early media, {} requests inside dialogs answered,\n\
             sim:             {} answered twice (forks), {} found no port, {} ended by a vanished phone,\n\
             sim:             {} not completed for want of a path\n\
             sim: network     {} datagrams, {} lost on links, {} filtered by NATs, {} rebinds\n\
             sim: signalling  {} messages in, {} out, {} retransmissions of phones and core, {} of siplatch\n\
             sim: media       {} packets in, {} out, {} refused, {} latches, {} latch moves, {} spirals joined\n\
             sim: attacks     {} packets sent, {} answered with a refusal, {} requests refused, {} messages dropped\n",
            wall.as_secs_f64(),
            wall.as_secs_f64() * 1000.0 / seeds.max(1) as f64,
            self.calls,
            self.completed,
            self.audible,
            self.idle_calls,
            self.cancelled,
            self.rejected,
            self.early,
            self.informed,
            self.surplus,
            self.exhausted,
            self.vanished,
            self.failed,
            self.datagrams,
            self.lost,
            self.filtered,
            self.rebinds,
            t.messages_in,
            t.messages_out,
            self.retransmissions,
            t.retransmitted,
            t.media_in,
            t.media_out,
            t.media_refused,
            t.latches,
            t.latch_moves,
            t.joins,
            self.attack_packets,
            self.attack_answers,
            t.refused,
            t.dropped,
        ) + &self.exchanges()
            + &self.transports()
    }
}
