//! Expressions: a condition, and, each behind a NUL, the globs of a rule, its name and an annotation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::escape::escape;
use redis_stream_core::glob::Glob;
use regex::Regex;
use serde_yaml::Value;
use streamgauge::alert::condition::{Condition, Operand};
use streamgauge::alert::operator::Operator;
use streamgauge::alert::rule::{Rule, Selector};
use streamgauge::alert::template::Template;
use streamgauge::alert::{promql, rule_file};

use super::text;

/// Seconds, for durations of rules: bytes choose one of them.
const TIMES: [Duration; 4] =
    [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(90_500), Duration::from_secs(31_557_600)];

pub fn run(data: &[u8]) {
    let source = text(super::parts(data).next());
    let condition = match Condition::parse(&source) {
        Ok(condition) => condition,
        Err(fault) => {
            let message = fault.to_string();
            assert!(message.contains("expected"), "{message}");
            return;
        }
    };
    check_that_it_reads_back(&condition);
    check_that_it_is_decided(&condition);
    let rule = rule(data, condition);
    let expression = promql::expression(&rule, &["team"]);
    check_the_promql(&rule, &expression);
    check_the_file(&rule, &expression);
}

/// The rule that an input is about; `None` where its condition is none.
pub fn read(data: &[u8]) -> Option<Rule> {
    let condition = Condition::parse(&text(super::parts(data).next())).ok()?;
    Some(rule(data, condition))
}

fn rule(data: &[u8], condition: Condition) -> Rule {
    let mut parts = super::parts(data).skip(1);
    let mut glob = || Glob::new(parts.next().unwrap_or(b"*"));
    let selector = Selector { target: glob(), stream: glob(), group: glob(), ..Selector::default() };
    let name = text(parts.next());
    let annotation = Template::parse(&text(parts.next())).ok();
    let time = |at: usize| TIMES[usize::from(data[at % data.len()]) % TIMES.len()];
    Rule {
        name,
        selector,
        expression: condition.into(),
        pending_for: time(0),
        keep_firing_for: time(1),
        labels: BTreeMap::new(),
        annotations: annotation.into_iter().map(|text| ("summary".to_owned(), text)).collect(),
        notifiers: Arc::new([]),
    }
}

fn check_that_it_reads_back(condition: &Condition) {
    let operand = match condition.operand {
        Operand::Number(number) => number.to_string(),
        Operand::Status(status) => status.to_owned(),
    };
    let shown = format!("{} {} {operand}", condition.fact.name, condition.operator.sign());
    assert_eq!(Condition::parse(&shown).as_ref(), Ok(condition), "{shown}");
}

/// Of a number, exactly one of two opposite conditions holds.
fn check_that_it_is_decided(condition: &Condition) {
    let opposite = match condition.operator {
        Operator::Above => Operator::AtMost,
        Operator::AtLeast => Operator::Below,
        Operator::Below => Operator::AtLeast,
        Operator::AtMost => Operator::Above,
        Operator::Is => Operator::IsNot,
        Operator::IsNot => Operator::Is,
    };
    let opposite = Condition { operator: opposite, ..*condition };
    let operand = if let Operand::Number(number) = condition.operand { number } else { 1.0 };
    for value in [0.0, 1.0, operand, operand - 1.0, operand + 1.0, -operand] {
        assert_ne!(condition.holds(value), opposite.holds(value), "{condition:?} of {value}");
    }
}

/// It is one series selector or more within `max by`, and each selects what the globs say.
fn check_the_promql(rule: &Rule, expression: &str) {
    let start = "max by (target, db, stream, group, team) (";
    assert!(expression.starts_with(start), "{expression}");
    assert!(!expression.contains(['\n', '\0']), "it is one line: {expression}");
    let (outside, strings) = without_strings(expression);
    let (mut depth, mut least) = (0_i32, 0);
    for char in outside.chars() {
        depth += i32::from("({[".contains(char)) - i32::from(")}]".contains(char));
        least = least.min(depth);
    }
    assert_eq!((depth, least), (0, 0), "what is opened is closed: {outside}");
    let globs = [
        ("target", &rule.selector.target),
        ("stream", &rule.selector.stream),
        ("group", &rule.selector.group),
    ];
    for (label, glob) in globs.into_iter().filter(|(_, glob)| !glob.matches_all()) {
        match glob.literal() {
            Some(literal) => {
                assert!(outside.contains(&format!("{label}=\"\"")), "{label} in {outside}");
                assert!(
                    strings.iter().any(|string| *string == escape(&literal)),
                    "{literal:?} in {expression}"
                );
            }
            None => {
                assert!(outside.contains(&format!("{label}=~\"\"")), "{label} in {outside}");
                assert!(strings.contains(&glob.regex()), "{glob:?} in {expression}");
                Regex::new(&glob.regex()).expect("it is a regular expression");
            }
        }
    }
}

/// The expression with its strings emptied, and what they say.
fn without_strings(expression: &str) -> (String, Vec<String>) {
    let (mut outside, mut strings) = (String::new(), Vec::new());
    let mut chars = expression.chars();
    while let Some(char) = chars.next() {
        outside.push(char);
        if char != '"' {
            continue;
        }
        let mut string = String::new();
        loop {
            let char = chars.next().unwrap_or_else(|| panic!("a string does not end: {expression}"));
            match char {
                '"' => break,
                '\\' => string.push(escaped(&mut chars)),
                _ => string.push(char),
            }
        }
        outside.push('"');
        strings.push(string);
    }
    (outside, strings)
}

/// Returns the character of an escape, as Go reads it.
fn escaped(chars: &mut std::str::Chars<'_>) -> char {
    match chars.next() {
        Some(char @ ('"' | '\\')) => char,
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => {
            let code: String = chars.take(4).collect();
            u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).expect("it is a character")
        }
        other => panic!("{other:?} is no escape"),
    }
}

/// A rule file with it is YAML, and says the same.
fn check_the_file(rule: &Rule, expression: &str) {
    let file = rule_file::write([rule], &[], &["team"]);
    let read: Value = serde_yaml::from_str(&file).unwrap_or_else(|error| panic!("{error}:\n{file}"));
    let read = &read["groups"][0]["rules"][0];
    assert_eq!(read["alert"].as_str(), Some(rule.name.as_str()), "{file}");
    assert_eq!(read["expr"].as_str(), Some(expression), "{file}");
    for (name, template) in &rule.annotations {
        assert_eq!(read["annotations"][name.as_str()].as_str(), Some(template.source()), "{file}");
    }
    for (key, time) in [("for", rule.pending_for), ("keep_firing_for", rule.keep_firing_for)] {
        assert_eq!(read[key].is_null(), time.is_zero(), "{file}");
    }
}
