//! The labels of many alerts of one rule.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::alert::fact::SubjectKind;
use crate::alert::rule::{Rule, TargetLabels, depends_on_subject};
use crate::alert::subject::AlertSubject;
use crate::alert::template::Template;
use redis_stream_core::name::Name;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::rule::test_rule;

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
