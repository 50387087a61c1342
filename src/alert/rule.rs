//! A rule: what it is about, when it fires, and what it says then. Inert values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::condition::Condition;
use crate::alert::fact::Subject;
use crate::alert::template::Template;
use redis_stream_core::glob::Glob;

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The label `alertname` of its alerts.
    pub name: String,
    /// Which subjects it is about.
    pub selector: Selector,
    /// What must hold.
    pub condition: Condition,
    /// How long it must hold before the alert fires.
    pub pending_for: Duration,
    /// How long the alert fires on after it has ceased to hold.
    pub keep_firing_for: Duration,
    /// Labels of its alerts, besides those of the subject. They show no value.
    pub labels: BTreeMap<String, Template>,
    /// What is said of an alert.
    pub annotations: BTreeMap<String, Template>,
    /// Names of the notifiers that are told; empty for all.
    pub notifiers: Arc<[String]>,
}

/// Which subjects a rule is about: all globs match. Those below the subject of its fact are `*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// Names of targets.
    pub target: Glob,
    /// Keys of streams.
    pub stream: Glob,
    /// Names of groups.
    pub group: Glob,
}

/// What identifies the alerts of a target: its own labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetLabels {
    /// `target`.
    pub name: String,
    /// `db`, such as `db0`.
    pub db: String,
    /// `targets[].labels`.
    pub configured: BTreeMap<String, String>,
}

/// Names of the labels that the alerts of a subject have from `/metrics`, in its order, without those of the
/// configuration.
#[must_use]
pub fn label_names(subject: Subject) -> &'static [&'static str] {
    match subject {
        Subject::Target => &["target"],
        Subject::Stream => &["target", "db", "stream"],
        Subject::Group => &["target", "db", "stream", "group"],
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self { target: Glob::new("*"), stream: Glob::new("*"), group: Glob::new("*") }
    }
}

impl Rule {
    /// The labels of the alert of a subject. As in Prometheus, a label of the rule goes before one of the subject,
    /// and a label without a value is none.
    #[must_use]
    pub fn labels(&self, subject: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let own = self.labels.iter().map(|(name, text)| (name.clone(), filled(text, subject, 0.0)));
        let mut labels = subject.clone();
        labels.extend(own);
        labels.insert("alertname".to_owned(), self.name.clone());
        labels.retain(|_, value| !value.is_empty());
        labels
    }

    /// The annotations of the alert of a subject.
    #[must_use]
    pub fn annotations(&self, subject: &BTreeMap<String, String>, value: f64) -> BTreeMap<String, String> {
        self.annotations.iter().map(|(name, text)| (name.clone(), filled(text, subject, value))).collect()
    }
}

fn filled(template: &Template, labels: &BTreeMap<String, String>, value: f64) -> String {
    template.fill(|name| labels.get(name).map(String::as_str), value)
}

impl TargetLabels {
    /// The labels of a subject: of the target itself, of a stream, or of a group of it.
    #[must_use]
    pub fn subject(&self, stream: Option<&str>, group: Option<&str>) -> BTreeMap<String, String> {
        let mut labels = self.configured.clone();
        let mut put = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
        put("target", &self.name);
        if let Some(stream) = stream {
            put("db", &self.db);
            put("stream", stream);
        }
        if let Some(group) = group {
            put("group", group);
        }
        labels.retain(|_, value| !value.is_empty());
        labels
    }
}

/// A rule about everything, for tests.
#[cfg(test)]
pub(super) fn test_rule(name: &str, expr: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        selector: Selector::default(),
        condition: Condition::parse(expr).expect("the condition of a test is right"),
        pending_for: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        notifiers: Arc::new([]),
    }
}
