//! What a target's task goes by. When the configuration changes it is given another plan, and changes to it between two
//! polls: so all that it knows stays where it is, and nothing has to be handed over.

use std::sync::Arc;

use tokio::sync::watch;

use crate::alert::evaluator::{Evaluator, EvaluatorSettings};
use crate::alert::rule::{Rule, TargetLabels};
use crate::config::{self, Poll};

/// The plan as of now; `None`: the target is to end.
pub type Plans = watch::Receiver<Option<Arc<Plan>>>;

/// What a target's task goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The target as the configuration has it.
    pub target: Arc<config::Target>,
    /// What it is called.
    pub labels: Arc<TargetLabels>,
    /// Schedule and budgets.
    pub poll: Poll,
    /// The rules, also those of other targets.
    pub rules: Vec<Arc<Rule>>,
    /// What holds for all rules.
    pub settings: EvaluatorSettings,
}

impl Plan {
    /// Whether the other is about the same database of the same servers, under the same name.
    #[must_use]
    pub fn is_of_same_target(&self, other: &Self) -> bool {
        let (one, other) = (&self.target, &other.target);
        one.name == other.name && one.db == other.db && one.topology.is_of_same_servers(&other.topology)
    }

    /// The rules of this target; nothing is pending yet.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator {
        Evaluator::new(&self.rules, (*self.labels).clone(), self.settings.clone())
    }

    /// Values of the labels that the configuration adds, in the order of their names.
    #[must_use]
    pub fn label_values(&self) -> Vec<&str> {
        self.target.labels.values().map(String::as_str).collect()
    }
}
