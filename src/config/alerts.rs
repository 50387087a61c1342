//! Reads `alerts`: rules, recommended and own, and settings of all rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::condition::{Condition, ConditionError};
use crate::alert::fact::{FACTS, SubjectKind};
use crate::alert::recommended;
use crate::alert::rule::{Rule, Selector, label_names};
use crate::alert::template::Template;
use crate::config::cursor::{Cursor, Section, closest};
use crate::config::http_receiver;
use crate::config::notifiers::{self, NotifierConfig};
use crate::config::{Alerts, Target};
use redis_stream_core::glob::Glob;
use redis_stream_core::secret::redact;

const HOLD: Duration = Duration::from_secs(60 * 60);

/// Labels that identify the subject of an alert.
const RESERVED_LABELS: [&str; 6] = ["target", "db", "stream", "group", "alertname", "alertstate"];

/// Reads `alerts`. `targets` are the valid ones: alerts have their labels.
pub(super) fn alerts(section: &Section<'_>, targets: &[Target]) -> Alerts {
    let wants_recommended = section.key("recommended").boolean().unwrap_or(true);
    let disabled = disabled(&section.key("disable"));
    let is_wanted = |name: &str| wants_recommended && !disabled.iter().any(|disabled| disabled == name);
    let runbook_url = runbook_url(&section.key("runbook_url"));
    let dead_letters = section.key("dead_letters").globs().unwrap_or_else(recommended::default_dead_letters);
    let rules = recommended::rules(runbook_url.as_deref(), &dead_letters);
    let mut alerts = Alerts { rules, ..Alerts::default() };
    alerts.runbook_url = runbook_url;
    alerts.rules.retain(|rule| is_wanted(&rule.name));
    alerts.prometheus_only.retain(|name| is_wanted(name));
    if let Some(hold) = section.key("hold").duration(Duration::ZERO) {
        alerts.hold = hold;
    }
    alerts.external_labels = section.key("external_labels").labels(&RESERVED_LABELS);
    alerts.state_file = state_file(&section.key("state_file"));
    alerts.notifiers = notifiers::read_all(&section.key("notifiers"));
    let Alerts { rules, notifiers, .. } = &mut alerts;
    own_rules(&section.key("rules"), targets.first(), notifiers, rules);
    alerts
}

/// The defaults.
impl Default for Alerts {
    fn default() -> Self {
        Self {
            rules: recommended::rules(None, &recommended::default_dead_letters()),
            prometheus_only: recommended::prometheus_only(&[], None).iter().map(|rule| rule.name).collect(),
            runbook_url: None,
            hold: HOLD,
            external_labels: BTreeMap::new(),
            state_file: None,
            notifiers: Vec::new(),
        }
    }
}

fn disabled(list: &Cursor<'_>) -> Vec<String> {
    let known: Vec<_> = recommended::names().collect();
    let items = list.items().into_iter().flatten();
    let name = |item: Cursor<'_>| {
        let name = item.text()?;
        if !known.contains(&name.value.as_str()) {
            let meant = closest(&name.value, &known).map(|name| format!("; did you mean {name}?"));
            let meant = meant.unwrap_or_else(|| format!("; expected one of {}", known.join(", ")));
            item.fault(format_args!("no recommended rule is called {:?}{meant}", redact(&name.written)));
        }
        Some(name.value)
    };
    items.filter_map(name).collect()
}

fn runbook_url(key: &Cursor<'_>) -> Option<String> {
    let url = http_receiver::external_url(key)?;
    if url.contains("{{") {
        key.fault("has {{, which would be taken for a template; expected %7B%7B");
        return None;
    }
    Some(url)
}

/// Reads `state_file`. Its default is in the folder that systemd makes for `StateDirectory=`: the first, of several.
fn state_file(key: &Cursor<'_>) -> Option<PathBuf> {
    if key.is_given() {
        return Some(key.in_folder(&key.filled_text("the path of a file")?));
    }
    let folders = key.variable("STATE_DIRECTORY")?;
    let folder = folders.split(':').next().filter(|folder| !folder.is_empty())?;
    Some(Path::new(folder).join("alerts.json"))
}

/// Reads `rules` and appends them.
fn own_rules(
    list: &Cursor<'_>,
    target: Option<&Target>,
    notifiers: &[NotifierConfig],
    rules: &mut Vec<Arc<Rule>>,
) {
    let built_in = rules.len();
    for item in list.items().into_iter().flatten() {
        let rule = item.section(|section| {
            let rule = rule(section, target, notifiers)?;
            if let Some(same) = rules.iter().position(|other| is_same(other, &rule)) {
                section.key("alert").fault(if same < built_in {
                    "a recommended rule has this name and these labels; expected another name, or that one in alerts.disable"
                } else {
                    "a rule above has this name and these labels; expected another name, or other labels"
                });
            }
            Some(rule)
        });
        rules.extend(rule.map(Arc::new));
    }
}

/// Returns true if the alerts of two rules would have the same labels.
fn is_same(one: &Rule, other: &Rule) -> bool {
    one.name == other.name && one.labels == other.labels
}

fn rule(section: &Section<'_>, target: Option<&Target>, notifiers: &[NotifierConfig]) -> Option<Rule> {
    let name_key = section.key("alert");
    name_key.require("the name of the alert");
    let name = name_key.filled_text("the name of the alert");
    let globs = ["target", "stream", "group"].map(|name| section.key(name));
    let condition = condition(&section.key("expr"));
    let subject = condition.map(|condition| condition.fact.subject());
    let selector = selector(&globs, subject);
    let times =
        ["for", "keep_firing_for"].map(|name| section.key(name).duration(Duration::ZERO).unwrap_or_default());
    let known = subject.zip(target).map(|(subject, target)| known_labels(subject, target));
    let labels = templates(&section.key("labels"), known.as_deref(), TemplateField::Labels);
    let annotations = templates(&section.key("annotations"), known.as_deref(), TemplateField::Annotations);
    let notifiers = notifier_names(&section.key("notifiers"), notifiers);
    let [pending_for, keep_firing_for] = times;
    Some(Rule {
        name: name?,
        selector,
        expression: condition?.into(),
        pending_for,
        keep_firing_for,
        labels,
        annotations,
        notifiers: notifiers.into(),
    })
}

/// Reads the names of the notifiers of a rule.
fn notifier_names(list: &Cursor<'_>, notifiers: &[NotifierConfig]) -> Vec<String> {
    let mut names = Vec::new();
    for item in list.items().into_iter().flatten() {
        let Some(name) = item.text() else { continue };
        if notifiers.iter().any(|notifier| notifier.name == name.value) {
            names.push(name.value);
        } else {
            let found = redact(&name.written);
            item.fault(format_args!("no notifier is called {found:?}; expected a name of alerts.notifiers"));
        }
    }
    names
}

fn condition(key: &Cursor<'_>) -> Option<Condition> {
    if !key.is_given() {
        key.fault(format_args!("missing; {}", ConditionError::Form));
        return None;
    }
    let text = key.text()?;
    let found = redact(&text.written);
    let fault = match Condition::parse(&text.value) {
        Ok(condition) => return Some(condition),
        Err(fault) => fault,
    };
    let names: Vec<_> = FACTS.iter().map(|fact| fact.name).collect();
    match &fault {
        ConditionError::UnknownFact(name) if closest(name, &names).is_some() => {
            let close = closest(name, &names).unwrap_or_default();
            key.fault(format_args!("found {found:?}; unknown fact; did you mean {close}?"));
        }
        _ => key.fault(format_args!("found {found:?}; {fault}")),
    }
    None
}

/// Reads the globs of a rule. One over a name that its fact does not have is refused.
fn selector([target, stream, group]: &[Cursor<'_>; 3], subject: Option<SubjectKind>) -> Selector {
    let glob = |key: &Cursor<'_>, least: SubjectKind, of: &str| {
        if key.is_given() && subject.is_some_and(|subject| subject < least) {
            key.fault(format_args!("the fact of this rule has no {of}; remove this key"));
        }
        key.glob().unwrap_or_else(|| Glob::new("*"))
    };
    Selector {
        target: glob(target, SubjectKind::Target, "target"),
        stream: glob(stream, SubjectKind::Stream, "stream"),
        group: glob(group, SubjectKind::Group, "group"),
        more_streams: Vec::new(),
    }
}

/// Returns the labels available to templates.
fn known_labels(subject: SubjectKind, target: &Target) -> Vec<&str> {
    label_names(subject).iter().copied().chain(target.labels.keys().map(String::as_str)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TemplateField {
    Labels,
    Annotations,
}

/// Reads templates. `known` is `None` if the expression or the target is invalid.
fn templates(map: &Cursor<'_>, known: Option<&[&str]>, field: TemplateField) -> BTreeMap<String, Template> {
    let mut templates = BTreeMap::new();
    for (name, key) in map.entries() {
        let reserved: &[_] = if field == TemplateField::Labels { &RESERVED_LABELS } else { &[] };
        key.check_label_name(&name, reserved);
        let Some(text) = key.text() else { continue };
        let template = match Template::parse(&text.value) {
            Ok(template) => template,
            Err(fault) => {
                key.fault(fault);
                continue;
            }
        };
        if field == TemplateField::Labels && template.has_value() {
            key.fault("{{ $value }} in a label, which would make another alert of each value; expected it in annotations");
        }
        if let Some(known) = known {
            for label in template.labels().filter(|label| !known.contains(label)) {
                let known = known.join(", ");
                key.fault(format_args!("the alert has no label {label}; expected one of {known}"));
            }
        }
        templates.insert(name, template);
    }
    templates
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::alert::fact::FACTS;
    use crate::alert::template::Template;
    use crate::config::Alerts;
    use crate::config::load::from_text;

    /// Loads the section `alerts` with this in it.
    fn load(rest: &str) -> Result<Alerts, Vec<String>> {
        let text = format!("targets: [{{url: 'redis://cache', labels: {{team: x}}}}]\nalerts: {{{rest}}}");
        let environment = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
        let loaded = from_text("f", &text, Path::new("/etc"), &environment);
        loaded.map(|config| config.alerts).map_err(|error| {
            let strip = |line: &str| line.strip_prefix("f: alerts.").unwrap_or(line).to_owned();
            error.to_string().lines().map(strip).collect()
        })
    }

    #[track_caller]
    fn bad(rest: &str, faults: &[&str]) {
        assert_eq!(load(rest).expect_err("this is accepted"), faults, "{rest}");
    }

    /// The faults of one rule.
    #[track_caller]
    fn bad_rule(rule: &str, faults: &[&str]) {
        let faults: Vec<_> = faults.iter().map(|fault| format!("rules[0].{fault}")).collect();
        let faults: Vec<_> = faults.iter().map(String::as_str).collect();
        bad(&format!("rules: [{{{rule}}}]"), &faults);
    }

    #[test]
    fn the_recommended_rules_are_in_force_unless_they_are_disabled() {
        assert_eq!(load(""), Ok(Alerts::default()));
        let some = load("disable: [RedisStreamMissing, StreamgaugeGone]").unwrap();
        assert_eq!(some.rules.len(), Alerts::default().rules.len() - 1);
        assert_eq!(some.prometheus_only, ["StreamgaugeDataOld"]);
        let none = load("recommended: false").unwrap();
        assert!(none.rules.is_empty() && none.prometheus_only.is_empty());
    }

    #[test]
    fn all_keys_are_taken() {
        let alerts = load(
            r#"recommended: false, disable: [], hold: 10m, external_labels: {dc: eu}, state_file: alerts.json,
               rules: [{alert: A, target: t, stream: "s\\xff*", group: "g*", expr: lag_seconds > 5m, for: 1m,
                        keep_firing_for: 30s, labels: {severity: page, who: "{{ $labels.team }}"},
                        annotations: {summary: "{{ $labels.group }} {{ $value }}"}, notifiers: [main]}],
               notifiers: [{name: main, webhook: {url: 'http://hook'}}]"#,
        );
        let alerts = alerts.unwrap();
        assert_eq!((alerts.hold, alerts.external_labels["dc"].as_str()), (Duration::from_secs(600), "eu"));
        assert_eq!(alerts.state_file.as_deref(), Some(Path::new("/etc/alerts.json")));
        let [rule] = &alerts.rules[..] else { panic!("{:?}", alerts.rules) };
        assert_eq!((rule.name.as_str(), rule.expression.first().fact.name), ("A", "lag_seconds"));
        assert_eq!(rule.selector.stream.pattern(), b"s\xff*");
        assert_eq!((rule.pending_for.as_secs(), rule.keep_firing_for.as_secs()), (60, 30));
        assert_eq!(rule.labels["who"], Template::parse("{{ $labels.team }}").unwrap());
        assert_eq!(rule.annotations["summary"].source(), "{{ $labels.group }} {{ $value }}");
        assert_eq!(*rule.notifiers, ["main".to_owned()]);
    }

    #[test]
    fn the_state_file_is_in_the_folder_of_systemd_unless_it_is_given() {
        let with = |rest: &str, folders: &'static str| {
            let text = format!("targets: [{{url: 'redis://cache'}}]\n{rest}");
            let environment = |name: &str| (name == "STATE_DIRECTORY").then(|| folders.to_owned());
            from_text("f", &text, Path::new("/etc"), &environment).unwrap().alerts.state_file
        };
        let default = Some(Path::new("/var/lib/streamgauge/alerts.json"));
        assert_eq!(with("", "/var/lib/streamgauge").as_deref(), default);
        assert_eq!(with("alerts: {hold: 5m}", "/var/lib/streamgauge:/other").as_deref(), default);
        assert_eq!(with("", ""), None);
        let given = with("alerts: {state_file: own.json}", "/var/lib/streamgauge");
        assert_eq!(given.as_deref(), Some(Path::new("/etc/own.json")));
    }

    #[test]
    fn bad_rules() {
        bad(
            "rules: [{alert: A, expr: lag > 1, notifiers: [mian]}], notifiers: [{name: main, webhook: {url: 'http://hook'}}]",
            &["rules[0].notifiers[0]: no notifier is called \"mian\"; expected a name of alerts.notifiers"],
        );
        bad_rule(
            "for: soon, keep_firing_for: 5",
            &[
                "alert: missing; expected the name of the alert",
                "expr: missing; expected FACT OPERATOR VALUE, such as lag > 1000",
                "for: found \"soon\"; expected a duration such as 10s or 1m 30s",
                "keep_firing_for: found \"5\"; expected a duration such as 10s or 1m 30s",
            ],
        );
        bad_rule("alert: '', expr: lag > 5", &["alert: empty; expected the name of the alert"]);
        bad_rule("alert: A, expr: lagg > 5", &["expr: found \"lagg > 5\"; unknown fact; did you mean lag?"]);
        bad_rule(
            "alert: A, expr: lag over 5",
            &["expr: found \"lag over 5\"; expected FACT OPERATOR VALUE, such as lag > 1000"],
        );
        let facts: Vec<_> = FACTS.iter().map(|fact| fact.name).collect();
        let unknown =
            format!("expr: found \"${{SECRET}} > 5\"; unknown fact; expected one of {}", facts.join(", "));
        bad_rule(
            "alert: A, expr: '${SECRET} > 5', exprr: x",
            &[&unknown, "exprr: unknown key; did you mean expr?"],
        );
        bad_rule(
            "alert: A, expr: lag > 5 and consumers == 0",
            &["expr: found \"lag > 5 and consumers == 0\"; \"and\" is reserved; expected one comparison"],
        );
        bad_rule(
            "alert: A, expr: target_up == 0, target: t, stream: s, group: g",
            &[
                "stream: the fact of this rule has no stream; remove this key",
                "group: the fact of this rule has no group; remove this key",
            ],
        );
        bad_rule(
            "alert: A, expr: length > 5, group: g",
            &["group: the fact of this rule has no group; remove this key"],
        );
    }

    #[test]
    fn bad_labels_and_texts() {
        bad_rule(
            r#"alert: A, expr: length > 5, labels: {stream: x, a-b: x, __a: x, n: 1, v: "{{ $value }}"},
               annotations: {"1": x, group: "{{ $labels.group }}", team: "{{ $labels.team }}", t: "{{ title }}", u: "{{ $value"}"#,
            &[
                "labels.stream: a reserved label name; expected another",
                "labels.a-b: not a label name; expected letters, digits and _, and no digit first",
                "labels.__a: a reserved label name; expected one that does not start with __",
                "labels.n: found a number; expected text (put it in quotes)",
                "labels.v: {{ $value }} in a label, which would make another alert of each value; expected it in annotations",
                "annotations.1: not a label name; expected letters, digits and _, and no digit first",
                "annotations.group: the alert has no label group; expected one of target, db, stream, team",
                "annotations.t: unknown between \"{{\" and \"}}\"; expected {{ $labels.NAME }} or {{ $value }}, also as {{ $value | FUNCTION }} with humanize, humanizeDuration or humanizePercentage",
                "annotations.u: \"{{\" without \"}}\"; expected {{ $labels.NAME }} or {{ $value }}",
            ],
        );
        bad(
            "external_labels: {alertname: x, a-b: y}",
            &[
                "external_labels.alertname: a reserved label name; expected another",
                "external_labels.a-b: not a label name; expected letters, digits and _, and no digit first",
            ],
        );
    }

    #[test]
    fn rules_whose_alerts_could_not_be_told_apart() {
        let same = "expected another name, or";
        bad(
            "rules: [{alert: A, expr: lag > 5}, {alert: A, expr: lag > 9}, {alert: A, expr: lag > 99, labels: {severity: page}},
                     {alert: RedisStreamMissing, expr: stream_up == 0, labels: {severity: warning}}]",
            &[
                &format!("rules[1].alert: a rule above has this name and these labels; {same} other labels"),
                &format!("rules[3].alert: a recommended rule has this name and these labels; {same} that one in alerts.disable"),
            ],
        );
    }

    #[test]
    fn bad_settings() {
        bad(
            "recommended: maybe, disable: [RedisStreamMising, x], hold: 5, state_file: '', rules: {}, dead_letters: 5, notify: []",
            &[
                "recommended: found \"maybe\"; expected true or false",
                "disable[0]: no recommended rule is called \"RedisStreamMising\"; did you mean RedisStreamMissing?",
                "disable[1]: no recommended rule is called \"x\"; expected one of RedisStreamTargetDown, RedisStreamMissing, RedisStreamGroupMissing, RedisStreamGroupStalled, RedisStreamGroupAbandoned, RedisStreamGroupNoConsumers, RedisStreamGroupFallingBehind, RedisStreamGroupLagging, RedisStreamEntriesLost, RedisStreamPendingStuck, RedisStreamPendingRedelivered, RedisStreamDeadLetters, RedisStreamRetentionNearlyUsed, RedisStreamGroupGone, StreamgaugeLimited, StreamgaugeGone, StreamgaugeDataOld",
                "dead_letters: found a number; expected a list",
                "hold: found \"5\"; expected a duration such as 10s or 1m 30s",
                "state_file: empty; expected the path of a file",
                "rules: found a map; expected a list",
                "f: alerts: unknown key, number 7 in the map; expected recommended, disable, runbook_url, dead_letters, hold, external_labels, state_file, notifiers or rules",
            ],
        );
    }
}
