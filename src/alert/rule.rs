//! A rule: its selector, expression and times, and the labels and annotations of its alerts. Plain values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::expression::Expression;
use crate::alert::fact::SubjectKind;
use crate::alert::template::Template;
use crate::format::unicode::printable;
use redis_stream_core::glob::Glob;

/// The label of the severity.
const SEVERITY: &str = "severity";

/// An alerting rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The label `alertname` of its alerts.
    pub name: String,
    pub selector: Selector,
    pub expression: Expression,
    /// Time for which the expression must hold before the alert fires.
    pub pending_for: Duration,
    /// Time for which the alert keeps firing after the expression has ceased to hold.
    pub keep_firing_for: Duration,
    /// Labels of its alerts in addition to those of the subject. They must not contain the value, since labels identify
    /// an alert.
    pub labels: BTreeMap<String, Template>,
    pub annotations: BTreeMap<String, Template>,
    /// Names of the notifiers to send alerts to; empty for all.
    pub notifiers: Arc<[String]>,
}

/// Selects the subjects of a rule: those for which all globs match. The glob of a kind that the rule's fact does not
/// have, such as the group of a stream's fact, is `*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    pub target: Glob,
    pub stream: Glob,
    /// Further globs of streams, one of which may match in place of `stream`.
    pub more_streams: Vec<Glob>,
    pub group: Glob,
}

/// The labels of a target in its alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetLabels {
    /// `target`.
    pub name: String,
    /// `db`, such as `db0`.
    pub db: String,
    /// `targets[].labels`.
    pub configured: BTreeMap<String, String>,
}

/// Returns the names of the labels that alerts with this kind of subject have, in the order of `/metrics`, without
/// configured labels.
pub fn label_names(subject: SubjectKind) -> &'static [&'static str] {
    match subject {
        SubjectKind::Target => &["target"],
        SubjectKind::Stream => &["target", "db", "stream"],
        SubjectKind::Group => &["target", "db", "stream", "group"],
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self {
            target: Glob::new("*"),
            stream: Glob::new("*"),
            more_streams: Vec::new(),
            group: Glob::new("*"),
        }
    }
}

impl Selector {
    /// Returns true if a glob of streams matches the key.
    pub fn matches_stream(&self, key: &[u8]) -> bool {
        self.streams().any(|glob| glob.matches(key))
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &Glob> {
        [&self.stream].into_iter().chain(&self.more_streams)
    }
}

impl Rule {
    pub fn subject(&self) -> SubjectKind {
        self.expression.first().fact.subject()
    }

    /// Returns the labels of a subject's alert. As in Prometheus, a label of the rule overrides one of the subject, and
    /// a label with an empty value is left out.
    pub fn labels(&self, subject: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let label = |name: &str| subject.get(name).map(|value| Cow::Borrowed(value.as_str()));
        let own = self.labels.iter().map(|(name, text)| (name.clone(), text.fill(label, 0.0)));
        let mut labels = subject.clone();
        labels.extend(own);
        labels.insert("alertname".to_owned(), self.name.clone());
        labels.retain(|_, value| !value.is_empty());
        labels
    }

    /// Returns the label `severity` of a subject's alert; empty if there is none.
    pub fn severity(&self, subject: &BTreeMap<String, String>) -> String {
        let label = |name: &str| subject.get(name).map(|value| Cow::Borrowed(value.as_str()));
        match self.labels.get(SEVERITY) {
            Some(text) => text.fill(label, 0.0),
            None => subject.get(SEVERITY).cloned().unwrap_or_default(),
        }
    }

    /// Returns true if the severity is the same for all streams and groups of a target.
    pub fn has_one_severity(&self) -> bool {
        self.labels.get(SEVERITY).is_none_or(|text| !depends_on_subject(text))
    }

    /// Returns the annotations of a subject's alert. They are text for people, in which invisible characters of names are
    /// escaped.
    pub fn annotations(&self, subject: &BTreeMap<String, String>, value: f64) -> BTreeMap<String, String> {
        let label = |name: &str| subject.get(name).map(|value| printable(value));
        self.annotations.iter().map(|(name, text)| (name.clone(), text.fill(label, value))).collect()
    }
}

impl TargetLabels {
    /// Returns the labels of a subject: the target, one of its streams, or a group of a stream.
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

/// Returns true if a text is not the same for all streams and groups of a target.
pub(super) fn depends_on_subject(template: &Template) -> bool {
    template.labels().any(|label| matches!(label, "stream" | "group"))
}

/// Returns a rule that selects every subject.
#[cfg(test)]
pub(crate) fn test_rule(name: &str, expr: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        selector: Selector::default(),
        expression: Expression::parse(expr).expect("the expression of a test is right"),
        pending_for: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        notifiers: Arc::new([]),
    }
}
