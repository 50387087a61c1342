//! The consumer's own metrics. All of them exist from the start, with the labels stream, group and consumer.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder};

use super::ConsumeStats;
use crate::entry::GroupMember;
use redis_stream_core::escape::escape;

/// Bounds in seconds, from an empty handler to a minute.
const QUICK: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
/// Bounds in seconds, from an immediate delivery to a lag of a day.
const SLOW: [f64; 15] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0];

/// The metrics of one consumer. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) handled: IntCounter,
    pub(super) failed: IntCounter,
    /// Not exposed: the count of `acknowledgement_duration` serves the same purpose.
    pub(super) acknowledged: IntCounter,
    pub(super) claimed: IntCounter,
    pub(super) dead_lettered: IntCounter,
    pub(super) deleted: IntCounter,
    pub(super) reconnects: IntCounter,
    pub(super) in_flight: IntGauge,
    pub(super) breaker_open: IntGauge,
    pub(super) handler_duration: Histogram,
    pub(super) acknowledgement_duration: Histogram,
    pub(super) end_to_end_latency: Histogram,
}

impl Metrics {
    /// Registers all metrics, in a new registry.
    ///
    /// # Errors
    ///
    /// Never: the error of the registry if two metrics had the same name.
    pub fn new(member: &GroupMember) -> Result<Self, prometheus::Error> {
        let labels = [("stream", &member.stream), ("group", &member.group), ("consumer", &member.consumer)];
        let labels = labels.map(|(name, value)| (name.to_owned(), escape(value).into_owned()));
        let registry = Registry::new();
        let register = MetricRegister { registry: &registry, labels: labels.into() };
        Ok(Self {
            handled: register.counter(
                "streamgauge_consumer_entries_handled_total",
                "Deliveries that the handler finished successfully.",
            )?,
            failed: register.counter(
                "streamgauge_consumer_entries_failed_total",
                "Deliveries whose handler failed; the entry is delivered again, or dead-lettered.",
            )?,
            acknowledged: IntCounter::new("acknowledged", "Entries acknowledged.")?,
            claimed: register.counter(
                "streamgauge_consumer_entries_claimed_total",
                "Pending entries claimed from other consumers that were idle, or that released them.",
            )?,
            dead_lettered: register.counter(
                "streamgauge_consumer_entries_dead_lettered_total",
                "Entries put on the dead-letter stream.",
            )?,
            deleted: register.counter(
                "streamgauge_consumer_entries_deleted_total",
                "Pending entries that were deleted or trimmed from the stream before they were handled.",
            )?,
            reconnects: register.counter(
                "streamgauge_consumer_reconnects_total",
                "Reconnects after a lost connection; a consumer has two connections.",
            )?,
            in_flight: register.gauge(
                "streamgauge_consumer_entries_in_flight",
                "Entries delivered to this process: queued, being handled, not acknowledged, or waiting to be tried again.",
            )?,
            breaker_open: register.gauge(
                "streamgauge_consumer_circuit_breaker_open",
                "1 while the circuit breaker is open and entries are tried one at a time; otherwise 0.",
            )?,
            handler_duration: register.histogram(
                "streamgauge_consumer_handler_duration_seconds",
                "Time that the handler took for a delivery.",
                &QUICK,
            )?,
            acknowledgement_duration: register.histogram(
                "streamgauge_consumer_acknowledgement_duration_seconds",
                "Time from the end of the handler to the reply of XACK.",
                &QUICK,
            )?,
            end_to_end_latency: register.histogram(
                "streamgauge_consumer_end_to_end_latency_seconds",
                "Time from the ID to the acknowledgement, by the server's clock.",
                &SLOW,
            )?,
            registry: registry.clone(),
        })
    }

    /// Returns the metrics in the Prometheus text format.
    ///
    /// # Errors
    ///
    /// The error of the encoder, which does not fail for metrics of this type.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    pub(super) fn stats(&self) -> ConsumeStats {
        ConsumeStats {
            handled: self.handled.get(),
            failed: self.failed.get(),
            acknowledged: self.acknowledged.get(),
            claimed: self.claimed.get(),
            dead_lettered: self.dead_lettered.get(),
            deleted: self.deleted.get(),
        }
    }
}

struct MetricRegister<'a> {
    registry: &'a Registry,
    labels: HashMap<String, String>,
}

impl MetricRegister<'_> {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).const_labels(self.labels.clone())
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(self.opts(name, help))?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(self.opts(name, help))?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts { common_opts: self.opts(name, help), buckets: buckets.to_vec() };
        self.add(Histogram::with_opts(opts)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_are_0_at_the_start() {
        let member =
            GroupMember { stream: b"orders".to_vec(), group: b"mail".to_vec(), consumer: b"\xff".to_vec() };
        let page = Metrics::new(&member).unwrap().render().unwrap();
        insta::assert_snapshot!(String::from_utf8(page).unwrap(), @r#"
        # HELP streamgauge_consumer_acknowledgement_duration_seconds Time from the end of the handler to the reply of XACK.
        # TYPE streamgauge_consumer_acknowledgement_duration_seconds histogram
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.0001"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.00025"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.0005"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.001"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.0025"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.005"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.01"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.025"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.05"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.1"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.5"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="1"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="5"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="15"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="60"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="+Inf"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_sum{consumer="\\xff",group="mail",stream="orders"} 0
        streamgauge_consumer_acknowledgement_duration_seconds_count{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_circuit_breaker_open 1 while the circuit breaker is open and entries are tried one at a time; otherwise 0.
        # TYPE streamgauge_consumer_circuit_breaker_open gauge
        streamgauge_consumer_circuit_breaker_open{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_end_to_end_latency_seconds Time from the ID to the acknowledgement, by the server's clock.
        # TYPE streamgauge_consumer_end_to_end_latency_seconds histogram
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.001"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.005"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.01"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.05"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.1"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.5"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="1"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="5"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="15"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="60"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="300"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="900"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="3600"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="21600"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="86400"} 0
        streamgauge_consumer_end_to_end_latency_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="+Inf"} 0
        streamgauge_consumer_end_to_end_latency_seconds_sum{consumer="\\xff",group="mail",stream="orders"} 0
        streamgauge_consumer_end_to_end_latency_seconds_count{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_entries_claimed_total Pending entries claimed from other consumers that were idle, or that released them.
        # TYPE streamgauge_consumer_entries_claimed_total counter
        streamgauge_consumer_entries_claimed_total{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_entries_dead_lettered_total Entries put on the dead-letter stream.
        # TYPE streamgauge_consumer_entries_dead_lettered_total counter
        streamgauge_consumer_entries_dead_lettered_total{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_entries_deleted_total Pending entries that were deleted or trimmed from the stream before they were handled.
        # TYPE streamgauge_consumer_entries_deleted_total counter
        streamgauge_consumer_entries_deleted_total{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_entries_failed_total Deliveries whose handler failed; the entry is delivered again, or dead-lettered.
        # TYPE streamgauge_consumer_entries_failed_total counter
        streamgauge_consumer_entries_failed_total{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_entries_handled_total Deliveries that the handler finished successfully.
        # TYPE streamgauge_consumer_entries_handled_total counter
        streamgauge_consumer_entries_handled_total{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_entries_in_flight Entries delivered to this process: queued, being handled, not acknowledged, or waiting to be tried again.
        # TYPE streamgauge_consumer_entries_in_flight gauge
        streamgauge_consumer_entries_in_flight{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_handler_duration_seconds Time that the handler took for a delivery.
        # TYPE streamgauge_consumer_handler_duration_seconds histogram
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.0001"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.00025"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.0005"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.001"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.0025"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.005"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.01"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.025"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.05"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.1"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="0.5"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="1"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="5"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="15"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="60"} 0
        streamgauge_consumer_handler_duration_seconds_bucket{consumer="\\xff",group="mail",stream="orders",le="+Inf"} 0
        streamgauge_consumer_handler_duration_seconds_sum{consumer="\\xff",group="mail",stream="orders"} 0
        streamgauge_consumer_handler_duration_seconds_count{consumer="\\xff",group="mail",stream="orders"} 0
        # HELP streamgauge_consumer_reconnects_total Reconnects after a lost connection; a consumer has two connections.
        # TYPE streamgauge_consumer_reconnects_total counter
        streamgauge_consumer_reconnects_total{consumer="\\xff",group="mail",stream="orders"} 0
        "#);
    }
}
