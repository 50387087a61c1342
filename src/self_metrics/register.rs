//! Creates and registers metrics.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

pub(super) struct Register<'a> {
    pub(super) registry: &'a Registry,
    /// Labels that the configuration adds to metrics with the label `target`.
    pub(super) label_names: &'a [&'a str],
}

impl Register<'_> {
    pub(super) fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), &self.labels(labels))?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), &self.labels(labels))?)
    }

    pub(super) fn labels<'l>(&'l self, own: &[&'l str]) -> Vec<&'l str> {
        let configured = if own.contains(&"target") { self.label_names } else { &[] };
        own.iter().chain(configured).copied().collect()
    }
}
