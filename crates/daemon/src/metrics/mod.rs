//! What people count. The table of all series is in [`table`]; here each event
//! of the signalling machine and of the workers is recorded, by one exhaustive
//! match each: an event without a decision does not compile.

pub(crate) mod label;
pub(crate) mod process;
pub(crate) mod table;

use media::stats::Totals;
use media::{Fact, SpliceCounts};
use nat::Side;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder};
use proxy::{Observed, UpstreamState, config::Role};
use wire::Transport;

use label::{BindingEvent, Class, Connected, Direction, FailoverTo, FoundBy, Label, Labels, Latch, Truth, refusal};
use table::{Kind, Name, TABLE, Values};

/// All series of the program.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    families: Vec<Family>,
}

/// A series, and beside it the counters and gauges of all combinations of its
/// labels by their place; none where a label is given from outside.
#[derive(Debug)]
enum Family {
    Counter(CounterVec, Vec<Counter>),
    Gauge(GaugeVec, Vec<Gauge>),
    Histogram(HistogramVec),
}

impl Metrics {
    /// Every series of the table, at zero.
    pub(crate) fn new(role: Role) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut families = Vec::new();
        for series in TABLE {
            if series.name as usize != families.len() {
                return Err(prometheus::Error::Msg(format!("{} is out of its place in the table", series.id)));
            }
            let names: Vec<&str> = series.labels.iter().map(|(name, _)| *name).collect();
            let opts = Opts::new(series.id, series.help);
            let all = combinations(series.labels);
            families.push(match series.kind {
                Kind::Counter => {
                    let family = CounterVec::new(opts, &names)?;
                    registry.register(Box::new(family.clone()))?;
                    let cells = all.iter().map(|values| family.get_metric_with_label_values(values));
                    Family::Counter(family.clone(), cells.collect::<Result<_, _>>()?)
                }
                Kind::Gauge => {
                    let family = GaugeVec::new(opts, &names)?;
                    registry.register(Box::new(family.clone()))?;
                    let cells = all.iter().map(|values| family.get_metric_with_label_values(values));
                    Family::Gauge(family.clone(), cells.collect::<Result<_, _>>()?)
                }
                Kind::Histogram(buckets) => {
                    let family = HistogramVec::new(HistogramOpts::from(opts).buckets(buckets.to_vec()), &names)?;
                    registry.register(Box::new(family.clone()))?;
                    for values in all {
                        // Asking for it makes it.
                        family.get_metric_with_label_values(&values)?;
                    }
                    Family::Histogram(family)
                }
            });
        }
        let metrics = Self { registry, families };
        metrics.set(Name::BuildInfo, &[env!("CARGO_PKG_VERSION"), role.label()], 1.0);
        Ok(metrics)
    }

    /// Adds to a series.
    pub(crate) fn add(&self, name: Name, labels: &[&str], by: f64) {
        if let Some(family) = self.families.get(name as usize) {
            family.add(labels, by);
        }
    }

    /// Adds one.
    pub(crate) fn count(&self, name: Name, labels: &[&str]) {
        self.add(name, labels, 1.0);
    }

    /// Adds one where all labels are enums of ours: their places are the place of the counter.
    pub(crate) fn tick(&self, name: Name, labels: impl Labels) {
        if let Some(Family::Counter(_, cells)) = self.families.get(name as usize)
            && let Some(cell) = cells.get(labels.place())
        {
            cell.inc();
        }
    }

    /// Sets a gauge that has no labels.
    pub(crate) fn gauge(&self, name: Name, value: f64) {
        if let Some(Family::Gauge(_, cells)) = self.families.get(name as usize)
            && let Some(cell) = cells.first()
        {
            cell.set(value);
        }
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, name: Name, labels: &[&str], value: f64) {
        if let Some(Family::Gauge(family, _)) = self.families.get(name as usize)
            && let Ok(gauge) = family.get_metric_with_label_values(labels)
        {
            gauge.set(value);
        }
    }

    /// Adds a value to a histogram.
    pub(crate) fn measure(&self, name: Name, labels: &[&str], value: f64) {
        if let Some(Family::Histogram(family)) = self.families.get(name as usize)
            && let Ok(histogram) = family.get_metric_with_label_values(labels)
        {
            histogram.observe(value);
        }
    }

    /// What the labels name is no more.
    pub(crate) fn end(&self, name: Name, labels: &[&str]) {
        if let Some(Family::Gauge(family, _)) = self.families.get(name as usize) {
            // One that never was needs no end.
            let _ = family.remove_label_values(labels);
        }
    }

    /// Brings a counter that somebody else keeps up to its present value.
    pub(crate) fn follow(&self, name: Name, labels: &[&str], value: f64) {
        if let Some(Family::Counter(family, _)) = self.families.get(name as usize)
            && let Ok(counter) = family.get_metric_with_label_values(labels)
        {
            counter.inc_by((value - counter.get()).max(0.0));
        }
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Counts what has happened to a single message; false for any other event.
    pub(crate) fn traffic(&self, event: &Observed) -> bool {
        if let Observed::RequestIn { side, method } = event {
            self.tick(Name::Requests, (Direction::In, *side, *method));
        } else if let Observed::RequestOut { side, method } = event {
            self.tick(Name::Requests, (Direction::Out, *side, *method));
        } else if let Observed::ResponseIn { side, status } = event {
            self.tick(Name::Responses, (Direction::In, *side, Class::from(*status)));
        } else if let Observed::ResponseOut { side, status } = event {
            self.tick(Name::Responses, (Direction::Out, *side, Class::from(*status)));
        } else if let Observed::Retransmitted { side } = event {
            self.tick(Name::Retransmissions, (*side,));
        } else {
            return false;
        }
        true
    }

    /// An event of the signalling machine.
    pub(crate) fn observe(&self, event: &Observed) {
        match event {
            Observed::RequestIn { .. }
            | Observed::RequestOut { .. }
            | Observed::ResponseIn { .. }
            | Observed::ResponseOut { .. }
            | Observed::Retransmitted { .. } => _ = self.traffic(event),
            Observed::Dropped { side, reason } => self.tick(Name::Dropped, (*side, *reason)),
            Observed::Forgotten { side } => self.tick(Name::TransactionsForgotten, (*side,)),
            Observed::Refused { side, method: _, status, reason: _, source: _ } => {
                self.count(Name::Refused, &[side.label(), refusal(*status)]);
            }
            Observed::Overloaded { urgency } => self.tick(Name::Overloaded, (*urgency,)),
            Observed::Oversize { outcome } => self.tick(Name::Oversize, (*outcome,)),
            Observed::AuthenticationFailed { side, method: _, source: _ } => {
                self.tick(Name::AuthenticationFailures, (*side,));
            }
            Observed::TimedOut { side, method } => self.tick(Name::Timeouts, (*side, *method)),
            Observed::Registered { aor: _, flow: _, moved } => {
                let event = if *moved { BindingEvent::Moved } else { BindingEvent::Bound };
                self.tick(Name::RegistrationsTotal, (event,));
            }
            Observed::Unregistered { aor: _, expired } => {
                let event = if *expired { BindingEvent::Expired } else { BindingEvent::Removed };
                self.tick(Name::RegistrationsTotal, (event,));
            }
            Observed::PhoneGone { aor: _ } => self.tick(Name::RegistrationsTotal, (BindingEvent::Gone,)),
            Observed::Refresh { absorbed } => self.tick(Name::Refreshes, (Truth::from(*absorbed),)),
            Observed::CallTold { call: _, outcome } => self.tick(Name::CallsTold, (*outcome,)),
            Observed::Renewed { outcome } => self.tick(Name::Renewals, (*outcome,)),
            Observed::ContactWithoutToken { found } => {
                self.tick(Name::ContactsWithoutToken, (Truth::from(*found),));
            }
            Observed::CallStarted { call: _, from: _, to: _, session: _ } => self.tick(Name::CallsStarted, ()),
            Observed::CallAnswered { call: _, session: _ } => self.tick(Name::CallsAnswered, ()),
            Observed::CallEnded { call: _, cause, answered } => {
                self.tick(Name::CallsTotal, (*cause, Truth::from(*answered)));
            }
            Observed::CallEnding { call: _, status: _, reason: _, own: _ } => {}
            Observed::PortsExhausted { side } => self.tick(Name::PortsExhausted, (*side,)),
            Observed::Upstream { upstream, state } => {
                let up = matches!(state, UpstreamState::Up | UpstreamState::Returning);
                self.set(Name::UpstreamUp, &[&upstream.to_string()], f64::from(u8::from(up)));
            }
            Observed::UpstreamTransport { upstream, transport } => {
                for other in [Transport::Udp, Transport::Tcp, Transport::Tls] {
                    let used = f64::from(u8::from(other == *transport));
                    self.set(Name::UpstreamTransport, &[&upstream.to_string(), other.label()], used);
                }
            }
            Observed::Failover { upstream: _, other, cause } => {
                let to = if *other { FailoverTo::Upstream } else { FailoverTo::Address };
                self.tick(Name::Failovers, (to, *cause));
            }
            Observed::AdvertisedChanged { listener: _, address, by } => {
                let by = match (address, *by) {
                    (None, _) => FoundBy::Lost,
                    (Some(_), "upstream") => FoundBy::Upstream,
                    (Some(_), _) => FoundBy::Stun,
                };
                self.tick(Name::MappingChanges, (by,));
            }
        }
    }

    /// An event of a media worker.
    pub(crate) fn fact(&self, fact: &Fact) {
        match fact {
            Fact::Latched { stream: _, epoch: _, end: _, component, side, source: _, moved } => {
                let kind = if *moved { Latch::Moved } else { Latch::First };
                self.count(Name::Latches, &[side.label(), component.label(), kind.label()]);
            }
            Fact::Silent { stream: _, epoch: _ } => self.count(Name::MediaSilences, &[]),
            // Counted again in the worker's totals.
            Fact::Counted { stream: _, legs: _ } | Fact::Closed { stream: _, legs: _ } => {}
            Fact::Unheard { stream: _, epoch: _, end: _, silence } => {
                self.count(Name::MediaUnheard, &[silence.side.label(), silence.reason.label()]);
            }
            Fact::Heard { stream: _, epoch: _, end: _, side } => self.count(Name::MediaHeard, &[side.label()]),
            Fact::Failed { stream: _ } => self.count(Name::MediaFailures, &[]),
            Fact::Spliced { stream: _, legs } => legs.iter().for_each(|(side, counts)| self.spliced(*side, counts)),
            // What comes of it is counted for the call.
            Fact::Mapped { stream: _, end: _, component: _, mapped: _ } => {}
            Fact::Totals(totals) => self.totals(totals),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
    fn spliced(&self, side: Side, counts: &SpliceCounts) {
        let SpliceCounts { bytes_in, bytes_out, accepted, dialled, refused, busy, failed, unbound } = *counts;
        let side = side.label();
        self.add(Name::MediaTcpBytes, &[Direction::In.label(), side], bytes_in as f64);
        self.add(Name::MediaTcpBytes, &[Direction::Out.label(), side], bytes_out as f64);
        for (outcome, count) in [
            (Connected::Accepted, accepted),
            (Connected::Dialled, dialled),
            (Connected::Refused, refused),
            (Connected::Busy, busy),
            (Connected::Failed, failed),
            (Connected::Unbound, unbound),
        ] {
            self.add(Name::MediaTcpConnections, &[side, outcome.label()], count.into());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
    fn totals(&self, totals: &Totals) {
        let Totals { packets_in, bytes_in, packets_out, bytes_out, drops, neighbours, passed } = totals;
        for (index, side) in [Side::Inner, Side::Outer].into_iter().enumerate() {
            let (side, came, went) = (side.label(), Direction::In.label(), Direction::Out.label());
            self.add(Name::MediaPackets, &[came, side], packets_in[index] as f64);
            self.add(Name::MediaBytes, &[came, side], bytes_in[index] as f64);
            self.add(Name::MediaPackets, &[went, side], packets_out[index] as f64);
            self.add(Name::MediaBytes, &[went, side], bytes_out[index] as f64);
        }
        for reason in media::Drop::ALL {
            self.add(Name::MediaDrops, &[reason.label()], drops[reason.index()] as f64);
        }
        self.add(Name::MediaNeighbours, &[], *neighbours as f64);
        self.add(Name::MediaKernel, &[], *passed as f64);
    }
}

impl Family {
    fn add(&self, labels: &[&str], by: f64) {
        // The labels of every call stand beside their series in one page; a
        // wrong number of them counts nothing and fails the test below.
        match self {
            Self::Counter(family, _) => {
                if let Ok(counter) = family.get_metric_with_label_values(labels) {
                    counter.inc_by(by);
                }
            }
            Self::Gauge(family, _) => {
                if let Ok(gauge) = family.get_metric_with_label_values(labels) {
                    gauge.add(by);
                }
            }
            // Values are measured, not added.
            Self::Histogram(_) => {}
        }
    }
}

/// Every combination of label values; none where a label is given from outside.
fn combinations(labels: &[(&str, Values)]) -> Vec<Vec<&'static str>> {
    let mut all: Vec<Vec<&'static str>> = vec![Vec::new()];
    for (_, values) in labels {
        let Values::Of(values) = values else { return Vec::new() };
        all = all
            .iter()
            .flat_map(|head| values.iter().map(|value| head.iter().copied().chain([*value]).collect()))
            .collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use proxy::{Cause, MethodLabel};
    use registry::PassId;
    use wire::sip::Status;

    use super::*;

    fn line(metrics: &Metrics, start: &str) -> String {
        let page = metrics.page().unwrap();
        page.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
    }

    #[test]
    fn events_move_their_series() {
        let metrics = Metrics::new(Role::Border).unwrap();
        metrics.observe(&Observed::RequestIn { side: Side::Outer, method: MethodLabel::Invite });
        metrics.observe(&Observed::ResponseOut { side: Side::Outer, status: Status(180) });
        metrics.observe(&Observed::Refused {
            side: Side::Outer,
            method: MethodLabel::Register,
            status: Status(403),
            reason: "no",
            source: "192.0.2.1:5060".parse().unwrap(),
        });
        metrics.observe(&Observed::CallEnded { call: PassId(1), cause: Cause::CallerBye, answered: true });
        metrics.observe(&Observed::Upstream { upstream: 0, state: UpstreamState::Up });
        metrics.observe(&Observed::Upstream { upstream: 1, state: UpstreamState::Down });
        metrics.observe(&Observed::Failover { upstream: 1, other: true, cause: proxy::FailoverCause::Silent });
        for expected in [
            r#"siplatch_requests_total{direction="in",method="INVITE",side="outer"} 1"#,
            r#"siplatch_requests_total{direction="in",method="BYE",side="outer"} 0"#,
            r#"siplatch_responses_total{class="1xx",direction="out",side="outer"} 1"#,
            r#"siplatch_refused_total{side="outer",status="403"} 1"#,
            r#"siplatch_calls_total{answered="yes",cause="caller_bye"} 1"#,
            r#"siplatch_upstream_up{upstream="0"} 1"#,
            r#"siplatch_upstream_up{upstream="1"} 0"#,
            r#"siplatch_failovers_total{cause="silent",to="upstream"} 1"#,
            r#"siplatch_ports_exhausted_total{side="inner"} 0"#,
        ] {
            assert_eq!(line(&metrics, expected), expected);
        }
    }

    #[test]
    fn places_are_those_of_the_combinations() {
        let metrics = Metrics::new(Role::Border).unwrap();
        for side in [Side::Inner, Side::Outer] {
            for direction in [Direction::In, Direction::Out] {
                for class in ["1xx", "6xx", "other"] {
                    let status = Status(class.as_bytes()[0].saturating_sub(b'0').into());
                    metrics.tick(Name::Responses, (direction, side, Class::from(Status(status.0 * 100))));
                    let labels =
                        format!(r#"class="{class}",direction="{}",side="{}""#, direction.label(), side.label());
                    let expected = format!("siplatch_responses_total{{{labels}}} 1");
                    assert_eq!(line(&metrics, &expected), expected);
                }
            }
        }
    }

    #[test]
    fn values_fall_into_their_buckets() {
        let metrics = Metrics::new(Role::Border).unwrap();
        for value in [0.0, 0.004, 0.9] {
            metrics.measure(Name::MediaLoss, &[Side::Outer.label()], value);
        }
        for expected in [
            r#"siplatch_media_loss_ratio_bucket{side="outer",le="0"} 1"#,
            r#"siplatch_media_loss_ratio_bucket{side="outer",le="0.005"} 2"#,
            r#"siplatch_media_loss_ratio_count{side="outer"} 3"#,
            r#"siplatch_media_loss_ratio_count{side="inner"} 0"#,
        ] {
            assert_eq!(line(&metrics, expected), expected);
        }
    }

    #[test]
    fn totals_are_added_up() {
        let metrics = Metrics::new(Role::Office).unwrap();
        let totals = Totals { packets_in: [2, 3], bytes_out: [0, 7], neighbours: 4, passed: 2, ..Totals::default() };
        metrics.fact(&Fact::Totals(Box::new(totals.clone())));
        metrics.fact(&Fact::Totals(Box::new(totals)));
        for expected in [
            r#"siplatch_media_packets_total{direction="in",side="outer"} 6"#,
            r#"siplatch_media_bytes_total{direction="out",side="outer"} 14"#,
            "siplatch_media_neighbours_refused_total 8",
            "siplatch_media_kernel_packets_total 4",
        ] {
            assert_eq!(line(&metrics, expected), expected);
        }
    }

    #[test]
    fn every_series_without_given_labels_is_there_from_the_start() {
        let page = Metrics::new(Role::Standalone).unwrap().page().unwrap();
        for series in TABLE {
            let given = series.labels.iter().any(|(_, values)| matches!(values, Values::Given(_)));
            assert!(given || page.contains(&format!("# TYPE {} ", series.id)), "{}", series.id);
        }
    }
}
