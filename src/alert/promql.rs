//! Writes a rule's condition as PromQL. Its results equal those of the evaluator while the target can be polled: one
//! per subject, however many exporters poll the target and whatever labels a scrape adds.

use crate::alert::condition::{Condition, Operand};
use crate::alert::expression::Expression;
use crate::alert::fact::{FactSource, compared_row};
use crate::alert::operator::Operator;
use crate::alert::rule::{Rule, Selector};
use crate::values::family::{AlertFact, Family};
use crate::values::table::ENTRIES_LOST_TOTAL;
use redis_stream_core::glob::Glob;
use redis_stream_lag::report::Status;

/// Returns the expression. `label_names` are the names in `targets[].labels`, which alerts have too.
pub fn expression(rule: &Rule, label_names: &[&str]) -> String {
    joined(&rule.expression, &matchers(&rule.selector), label_names)
}

fn joined(expression: &Expression, matchers: &[String], label_names: &[&str]) -> String {
    match expression {
        Expression::Comparison(condition) => comparison(condition, matchers, label_names),
        Expression::Joined(left, join, right) => {
            let [left, right] = [left, right].map(|side| match **side {
                Expression::Comparison(_) => joined(side, matchers, label_names),
                Expression::Joined(..) => format!("({})", joined(side, matchers, label_names)),
            });
            format!("{left} {} {right}", join.word())
        }
    }
}

fn comparison(condition: &Condition, matchers: &[String], label_names: &[&str]) -> String {
    let Condition { fact, operator, operand } = condition;
    let comparison = compared(*operator, *operand);
    let (inner, comparison) = match fact.source {
        FactSource::TargetUp => (select("streamgauge_target_up", matchers), comparison),
        FactSource::LeftOut => (select("streamgauge_limited", matchers), comparison),
        FactSource::GroupGone => (select("redis_stream_group_gone", matchers), comparison),
        FactSource::Stream(Family { name, fact: Some(AlertFact::Since(_)), .. }) => {
            (format!("clamp_min(time() - {}, 0)", select(name, matchers)), comparison)
        }
        FactSource::Stream(family) | FactSource::Group(family) => {
            (select(compared_row(family, *operator).name, matchers), comparison)
        }
        FactSource::Losses(span) => {
            let series = select(ENTRIES_LOST_TOTAL.name, matchers);
            // `increase` covers a window after the end of a series, but a group that is gone has no losses.
            (format!("increase({series}[{}]) and {series}", span.promql()), comparison)
        }
        FactSource::Status(Family { name: metric, .. }) => {
            let status = match operand {
                Operand::Status(status) => *status,
                Operand::Number(_) => "",
            };
            let with = |status| select(metric, &[matchers, &[status]].concat());
            if *operator == Operator::IsNot {
                let any = per_subject(&select(metric, matchers), label_names);
                // A group of unknown status may have any condition.
                let excluded = match Status::Unknown.as_str() {
                    unknown if unknown == status => format!("status={}", quoted(status)),
                    unknown => format!("status=~{}", quoted(&format!("{status}|{unknown}"))),
                };
                return format!("{any} unless {}", per_subject(&with(excluded), label_names));
            }
            (with(format!("status={}", quoted(status))), compared(Operator::Is, Operand::Number(1.0)))
        }
    };
    format!("{} {comparison}", per_subject(&inner, label_names))
}

/// Aggregates an expression to one result per subject.
pub fn per_subject(inner: &str, label_names: &[&str]) -> String {
    let labels = [&["target", "db", "stream", "group"], label_names].concat();
    format!("max by ({}) ({inner})", labels.join(", "))
}

fn compared(operator: Operator, operand: Operand) -> String {
    match operand {
        Operand::Number(number) => format!("{} {number}", operator.sign()),
        Operand::Status(status) => format!("{} {status}", operator.sign()),
    }
}

fn select(metric: &str, matchers: &[String]) -> String {
    if matchers.is_empty() { metric.to_owned() } else { format!("{metric}{{{}}}", matchers.join(", ")) }
}

fn matchers(selector: &Selector) -> Vec<String> {
    let streams: Vec<_> = selector.streams().collect();
    let globs = [("target", &[&selector.target][..]), ("stream", &streams), ("group", &[&selector.group])];
    globs
        .into_iter()
        .filter(|(_, globs)| !globs.iter().any(|glob| glob.matches_all()))
        .map(|(label, globs)| matcher(label, globs))
        .collect()
}

fn matcher(label: &str, globs: &[&Glob]) -> String {
    if let [glob] = globs
        && let Some(name) = glob.literal()
    {
        return format!("{label}={}", quoted(&Glob::new(name).to_string()));
    }
    let patterns: Vec<_> = globs.iter().map(|glob| glob.regex()).collect();
    format!("{label}=~{}", quoted(&patterns.join("|")))
}

/// Returns a PromQL string literal.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // Prometheus rejects a literal U+FFFD as invalid UTF-8.
            '\u{fffd}' => quoted.push_str("\\ufffd"),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::rule::test_rule;

    fn printed(expr: &str, stream: &str, label_names: &[&str]) -> String {
        let mut rule = test_rule("A", expr);
        rule.selector.stream = Glob::new(stream);
        expression(&rule, label_names)
    }

    #[test]
    fn conditions_are_written_as_promql() {
        let conditions = [
            "lag > 1000",
            "lag <= 5",
            "lag == 0",
            "lag_seconds >= 5m",
            "retention_used_ratio > 0.8",
            "status == stalled",
            "status != ok",
            "status != unknown",
            "entries_lost > 0",
            "last_generated_id_age_seconds > 1h",
            "target_up == 0",
        ];
        let lines: Vec<_> = conditions.iter().map(|expr| printed(expr, "*", &[])).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        max by (target, db, stream, group) (redis_stream_group_lag_min) > 1000
        max by (target, db, stream, group) (redis_stream_group_lag_max) <= 5
        max by (target, db, stream, group) (redis_stream_group_lag) == 0
        max by (target, db, stream, group) (redis_stream_group_lag_seconds) >= 300
        max by (target, db, stream, group) (redis_stream_group_retention_used_ratio) > 0.8
        max by (target, db, stream, group) (redis_stream_group_status{status="stalled"}) == 1
        max by (target, db, stream, group) (redis_stream_group_status) unless max by (target, db, stream, group) (redis_stream_group_status{status=~"ok|unknown"})
        max by (target, db, stream, group) (redis_stream_group_status) unless max by (target, db, stream, group) (redis_stream_group_status{status="unknown"})
        max by (target, db, stream, group) (increase(redis_stream_group_entries_lost_total[5m]) and redis_stream_group_entries_lost_total) > 0
        max by (target, db, stream, group) (clamp_min(time() - redis_stream_last_generated_id_timestamp_seconds, 0)) > 3600
        max by (target, db, stream, group) (streamgauge_target_up) == 0
        "#);
    }

    #[test]
    fn several_globs_are_written_as_one_matcher() {
        let mut rule = test_rule("A", "length > 1");
        for (globs, matcher) in [
            (&["*:dead", "failed"][..], r#"{stream=~".*:dead|failed"}"#),
            (&["failed"], r#"{stream="failed"}"#),
            (&["a", "*"], ""),
        ] {
            let mut globs = globs.iter().map(|glob| Glob::new(*glob));
            rule.selector.stream = globs.next().unwrap();
            rule.selector.more_streams = globs.collect();
            let expected = format!("max by (target, db, stream, group) (redis_stream_length{matcher}) > 1");
            assert_eq!(expression(&rule, &[]), expected);
        }
    }

    #[test]
    fn globs_are_written_as_matchers() {
        let globs = ["orders", "orders:*", "a\\*", "a\"b", "[^a.]?", "a\\\\xff", "x.y*", "a\u{fffd}*"];
        let lines: Vec<_> = globs.iter().map(|glob| printed("length > 1", glob, &["team"])).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        max by (target, db, stream, group, team) (redis_stream_length{stream="orders"}) > 1
        max by (target, db, stream, group, team) (redis_stream_length{stream=~"orders:.*"}) > 1
        max by (target, db, stream, group, team) (redis_stream_length{stream="a*"}) > 1
        max by (target, db, stream, group, team) (redis_stream_length{stream="a\"b"}) > 1
        max by (target, db, stream, group, team) (redis_stream_length{stream=~"[^.a]."}) > 1
        max by (target, db, stream, group, team) (redis_stream_length{stream="a\\x5cxff"}) > 1
        max by (target, db, stream, group, team) (redis_stream_length{stream=~"x\\.y.*"}) > 1
        max by (target, db, stream, group, team) (redis_stream_length{stream=~"a\ufffd.*"}) > 1
        "#);
    }
}
