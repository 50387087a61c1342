//! Creates and registers metrics.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

pub(super) struct Register<'a> {
    pub(super) registry: &'a Registry,
    /// Labels that the configuration adds to metrics with the label `target`.
    pub(super) label_names: &'a [&'a str],
    pub(super) names: RefCell<Vec<String>>,
}

impl Register<'_> {
    pub(super) fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        self.note_names(&collector);
        Ok(collector)
    }

    pub(super) fn note_names(&self, collector: &impl Collector) {
        self.names.borrow_mut().extend(collector.desc().into_iter().map(|desc| desc.fq_name.clone()));
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
