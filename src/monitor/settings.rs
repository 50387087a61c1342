//! The settings of a monitor. A changed configuration is sent to the running monitor, which applies it between two
//! polls and so keeps its state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::alert::evaluator::{Evaluator, EvaluatorSettings};
use crate::alert::rule::{Rule, TargetLabels};
use crate::alert::web_link::WebLink;
use crate::config::{self, Poll};
use crate::exposition::render::SeriesLabels;

/// Receives new settings; `None` ends the monitor.
pub type SettingsReceiver = watch::Receiver<Option<Arc<TargetSettings>>>;

/// The settings of a target's monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetSettings {
    /// The target as the configuration has it.
    pub target: Arc<config::Target>,
    /// The labels of the target's alerts.
    pub labels: Arc<TargetLabels>,
    /// Schedule and budgets.
    pub poll: Poll,
    /// All rules, also those of other targets.
    pub rules: Vec<Arc<Rule>>,
    /// Settings that all rules share.
    pub evaluator: EvaluatorSettings,
    /// `web.links`.
    pub links: Arc<[WebLink]>,
}

impl TargetSettings {
    /// Returns settings without alerts.
    pub fn without_alerts(target: Arc<config::Target>, poll: Poll) -> Self {
        let evaluator = EvaluatorSettings {
            hold: Duration::ZERO,
            external_labels: BTreeMap::new(),
            interval: poll.interval,
            has_notifiers: false,
        };
        Self {
            labels: Arc::new(alert_labels(&target)),
            target,
            poll,
            rules: Vec::new(),
            evaluator,
            links: Arc::default(),
        }
    }

    /// Returns the labels of the target's series.
    pub fn series_labels(&self) -> SeriesLabels {
        SeriesLabels::new(&self.target.name, self.target.db, &self.target.labels)
    }

    /// Returns true if both are about the same database of the same servers, under the same name.
    pub fn is_of_same_target(&self, other: &Self) -> bool {
        let (one, other) = (&self.target, &other.target);
        one.name == other.name && one.db == other.db && one.topology.is_of_same_servers(&other.topology)
    }

    /// Returns an evaluator of this target's rules, without any pending alert.
    pub fn evaluator(&self) -> Evaluator {
        Evaluator::new(&self.rules, (*self.labels).clone(), self.evaluator.clone())
    }

    /// Returns the values of the configured labels, ordered by the labels' names.
    pub fn label_values(&self) -> Vec<&str> {
        self.target.labels.values().map(String::as_str).collect()
    }
}

/// Returns the labels of a target's alerts.
pub fn alert_labels(target: &config::Target) -> TargetLabels {
    TargetLabels {
        name: target.name.clone(),
        db: format!("db{}", target.db),
        configured: target.labels.clone(),
    }
}
