//! A rule: its selector, expression and times, and the labels and annotations of its alerts. Plain values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::AlertSubject;
use crate::alert::expression::Expression;
use crate::alert::fact::SubjectKind;
use crate::alert::template::Template;
use crate::format::unicode::printable;
use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;

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

/// The labels of a rule's alerts on one target, prepared for many subjects: what they have in common is filled in once.
#[derive(Debug)]
pub struct RuleLabels<'r> {
    alert_name: &'r str,
    /// Sorted by name.
    values: BTreeMap<&'r str, LabelValue<'r>>,
    /// The labels that the subjects have in common.
    common: BTreeMap<String, String>,
}

#[derive(Debug)]
enum LabelValue<'r> {
    /// The same for all subjects.
    Fixed(Cow<'r, str>),
    Stream,
    Group,
    /// A text that contains the stream or the group.
    Template(&'r Template),
}

impl<'r> RuleLabels<'r> {
    /// Prepares the labels of a rule's alerts on a target.
    pub fn new(rule: &'r Rule, target: &'r TargetLabels) -> Self {
        let kind = rule.subject();
        let fixed = |value: &'r str| LabelValue::Fixed(Cow::Borrowed(value));
        let mut values: BTreeMap<_, _> =
            target.configured.iter().map(|(name, value)| (name.as_str(), fixed(value))).collect();
        values.insert("target", fixed(&target.name));
        if kind >= SubjectKind::Stream {
            values.insert("db", fixed(&target.db));
            values.insert("stream", LabelValue::Stream);
        }
        if kind >= SubjectKind::Group {
            values.insert("group", LabelValue::Group);
        }
        let mut common = target.subject(None, None);
        if kind >= SubjectKind::Stream {
            common.insert("db".to_owned(), target.db.clone());
        }
        for (name, template) in &rule.labels {
            let value = if depends_on_subject(template) {
                LabelValue::Template(template)
            } else {
                let label = |name: &str| common.get(name).map(|value| Cow::Borrowed(value.as_str()));
                LabelValue::Fixed(Cow::Owned(template.fill(label, 0.0)))
            };
            values.insert(name, value);
        }
        values.insert("alertname", fixed(&rule.name));
        Self { alert_name: &rule.name, values, common }
    }

    /// Returns the label `alertname`.
    pub fn alert_name(&self) -> &'r str {
        self.alert_name
    }

    /// Calls `take` with the name and the value of each label of a subject's alert, in the order of their names. They are
    /// those of [`Rule::labels`].
    pub fn for_each(&self, subject: &AlertSubject, mut take: impl FnMut(&str, &str)) {
        let stream = subject.stream.as_ref().map(Name::text).unwrap_or_default();
        let group = subject.group.as_ref().map(Name::text).unwrap_or_default();
        let label = |name: &str| match name {
            "stream" => Some(Cow::Borrowed(&*stream)),
            "group" => Some(Cow::Borrowed(&*group)),
            _ => self.common.get(name).map(|value| Cow::Borrowed(value.as_str())),
        };
        for (name, value) in &self.values {
            let value = match value {
                LabelValue::Fixed(value) => Cow::Borrowed(&**value),
                LabelValue::Stream => Cow::Borrowed(&*stream),
                LabelValue::Group => Cow::Borrowed(&*group),
                LabelValue::Template(template) => Cow::Owned(template.fill(label, 0.0)),
            };
            if !value.is_empty() {
                take(name, &value);
            }
        }
    }
}

/// Returns true if a text is not the same for all streams and groups of a target.
fn depends_on_subject(template: &Template) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_prepared_for_many_subjects_are_those_of_each() {
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let target = TargetLabels {
            name: "t".to_owned(),
            db: "db1".to_owned(),
            configured: pairs(&[("aa", "first"), ("empty", ""), ("team", "x")]),
        };
        let templates = [
            ("severity", "page"),
            ("team", "{{ $labels.team }}-{{ $labels.target }}"),
            ("where", "{{ $labels.stream }}/{{ $labels.group }}"),
            ("of", "{{ $labels.db }}{{ $labels.none }}"),
            ("aa", ""),
            ("stream", "about {{ $labels.stream }}"),
        ];
        let name = |name: &'static str| Some(Name::from(name));
        for (expr, subject) in [
            ("target_up == 0", AlertSubject { stream: None, group: None }),
            ("length > 5", AlertSubject { stream: name("s"), group: None }),
            ("length > 5", AlertSubject { stream: name(""), group: None }),
            ("lag > 5", AlertSubject { stream: name("s\"\u{7f}"), group: name("g") }),
            ("lag > 5", AlertSubject { stream: name("s"), group: name("") }),
        ] {
            for count in 0..=templates.len() {
                let mut rule = test_rule("Alert", expr);
                let parsed = templates[..count].iter();
                rule.labels =
                    parsed.map(|(name, text)| ((*name).to_owned(), Template::parse(text).unwrap())).collect();
                let (mut prepared, labels) = (BTreeMap::new(), RuleLabels::new(&rule, &target));
                labels.for_each(&subject, |name, value| {
                    prepared.insert(name.to_owned(), value.to_owned());
                });
                let each = rule.labels(&subject.labels(&target));
                assert_eq!(prepared, each, "{expr} {subject:?} with {count} labels");
                assert_eq!(labels.alert_name(), prepared["alertname"]);
            }
        }
    }
}
