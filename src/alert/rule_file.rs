//! Writes rules as a Prometheus rule file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::alert::promql;
use crate::alert::rule::Rule;
use crate::alert::template::Template;

/// A rule that only Prometheus can evaluate, because it detects that streamgauge itself is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusOnlyRule {
    /// The label `alertname` of its alerts.
    pub name: &'static str,
    /// The PromQL expression.
    pub expression: String,
    /// Time for which the expression must hold before the alert fires.
    pub pending_for: Duration,
    pub labels: BTreeMap<String, Template>,
    pub annotations: BTreeMap<String, Template>,
}

/// Returns the text of the file. `label_names` are the names in `targets[].labels`.
pub fn write<'r>(
    rules: impl IntoIterator<Item = &'r Rule>,
    prometheus_only: &[PrometheusOnlyRule],
    label_names: &[&str],
) -> String {
    let mut text =
        "# Written by `streamgauge rules`.\ngroups:\n  - name: streamgauge\n    rules:\n".to_owned();
    for rule in rules {
        let times = [("for", rule.pending_for), ("keep_firing_for", rule.keep_firing_for)];
        let expression = promql::expression(rule, label_names);
        push_rule(&mut text, &rule.name, &expression, &times, [&rule.labels, &rule.annotations]);
    }
    for rule in prometheus_only {
        let times = [("for", rule.pending_for)];
        push_rule(&mut text, rule.name, &rule.expression, &times, [&rule.labels, &rule.annotations]);
    }
    text
}

fn push_rule(
    text: &mut String,
    name: &str,
    expression: &str,
    times: &[(&str, Duration)],
    [labels, annotations]: [&BTreeMap<String, Template>; 2],
) {
    let mut line = |indent: usize, key: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:indent$}{key}: {value}", "");
    };
    line(6, "- alert", &scalar(name));
    line(8, "expr", &scalar(expression));
    for (key, time) in times.iter().filter(|(_, time)| !time.is_zero()) {
        line(8, key, &duration(*time));
    }
    for (key, texts) in [("labels", labels), ("annotations", annotations)] {
        if !texts.is_empty() {
            line(8, key, "");
        }
        for (name, template) in texts {
            line(10, name, &scalar(template.source()));
        }
    }
    *text = text.replace(": \n", ":\n");
}

/// Returns a duration in Prometheus' notation, rounded up to a millisecond.
fn duration(duration: Duration) -> String {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = ms;
    let mut text = String::new();
    for (unit, size) in units {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Returns a text as a YAML scalar, in double quotes if it would otherwise not be read as this text.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(is_special)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && text != "n"
        && text != "N";
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// Returns true for characters that YAML does not allow in a scalar or takes for a line break.
fn is_special(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            _ if is_special(char) => quoted.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::recommended;
    use crate::alert::rule::test_rule;

    #[test]
    fn rules_are_written() {
        let template = |text| Template::parse(text).unwrap();
        let mut rule = test_rule("Behind: #1", "lag > 5");
        (rule.pending_for, rule.keep_firing_for) =
            (Duration::from_secs(90), Duration::from_millis(3_600_500));
        rule.labels = [("severity".to_owned(), template("page"))].into();
        rule.annotations = [
            ("a".to_owned(), template("{{ $labels.group }} is \"behind\"\nby {{ $value }}")),
            ("b".to_owned(), template("Group {{ $labels.group }}, no: quotes # here")),
            ("c".to_owned(), template("Group {{ $labels.group }} of \u{fc}")),
        ]
        .into();
        let last = recommended::prometheus_only(&["team"], None).pop().expect("there are some");
        let last = PrometheusOnlyRule { annotations: BTreeMap::new(), ..last };
        let text = write([&rule, &test_rule("yes", "target_up == 0")], &[last], &["team"]);
        insta::assert_snapshot!(text, @r#"
        # Written by `streamgauge rules`.
        groups:
          - name: streamgauge
            rules:
              - alert: "Behind: #1"
                expr: max by (target, db, stream, group, team) (redis_stream_group_lag_min) > 5
                for: 1m30s
                keep_firing_for: 1h500ms
                labels:
                  severity: page
                annotations:
                  a: "{{ $labels.group }} is \"behind\"\nby {{ $value }}"
                  b: "Group {{ $labels.group }}, no: quotes # here"
                  c: Group {{ $labels.group }} of ü
              - alert: "yes"
                expr: max by (target, db, stream, group, team) (streamgauge_target_up) == 0
              - alert: StreamgaugeDataOld
                expr: max by (target, db, stream, group, team) (time() - streamgauge_last_successful_poll_timestamp_seconds) > 300
                for: 1m
                labels:
                  severity: critical
        "#);
    }

    #[test]
    fn durations_are_written_as_prometheus_writes_them() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1_000_000, "1ms"),
            (1_500_000_000, "1s500ms"),
            (60_000_000_000, "1m"),
            (129_600_000_000_000, "36h"),
        ] {
            assert_eq!(duration(Duration::from_nanos(ns)), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_back(text in "[ -~\u{0}-\u{a0}\u{2028}\u{feff}yno:#]{0,12}") {
            let yaml = format!("a: {}\n", scalar(&text));
            let value: BTreeMap<String, serde_yaml::Value> = serde_yaml::from_str(&yaml).unwrap();
            proptest::prop_assert_eq!(value["a"].as_str(), Some(text.as_str()), "{}", yaml);
        }
    }
}
