//! Configuration: the text of a file. `${PASSWORD}` in it is a secret, and other variables are not set.

use std::path::Path;

use serde_yaml::Value;
use streamgauge::alert::{promql, rule_file};
use streamgauge::config::error::ConfigError;
use streamgauge::config::load::from_text;
use streamgauge::config::{Config, Password};

/// Value of `${PASSWORD}`.
const SECRET: &str = "hunter2-Tr0ub4dor";

/// Keys whose values are never shown.
const SECRET_KEYS: [&str; 2] = ["password", "credentials"];

fn environment(name: &str) -> Option<String> {
    (name == "PASSWORD").then(|| SECRET.to_owned())
}

fn load(text: &str) -> Result<Config, ConfigError> {
    from_text("f.yaml", text, Path::new("/nowhere"), &environment)
}

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files would be read, and a file may be a device.
    let tree = serde_yaml::from_str(text.trim_start_matches('\u{feff}')).unwrap_or(Value::Null);
    if names_a_file(&tree) || text.contains(SECRET) {
        return;
    }
    match load(text) {
        Ok(config) => check_what_is_valid(text, &tree, &config),
        Err(error) => check_the_faults(&error),
    }
}

/// Returns true if a key for a file has a value other than a plain name, of which the folder has none.
fn names_a_file(tree: &Value) -> bool {
    match tree {
        Value::Sequence(items) => items.iter().any(names_a_file),
        Value::Tagged(tagged) => names_a_file(&tagged.value),
        Value::Mapping(entries) => entries.iter().any(|(key, value)| {
            let is_file = key.as_str().is_some_and(|key| key.ends_with("_file"));
            let is_path = value.as_str().is_some_and(|text| text.contains(['/', '$']));
            is_file && is_path || names_a_file(value)
        }),
        _ => false,
    }
}

/// Each fault names a place and says something, on one line, and none shows what a variable holds.
fn check_the_faults(error: &ConfigError) {
    assert!(!error.faults.is_empty());
    for fault in &error.faults {
        assert!(fault.subject.starts_with("f.yaml"), "{fault:?} names no place");
        assert!(!fault.message.is_empty(), "{fault:?} says nothing");
        assert!(!fault.to_string().contains(['\n', '\r']), "{fault:?} is not one line");
    }
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET), "it shows what a variable holds: {shown}");
}

fn check_what_is_valid(text: &str, tree: &Value, config: &Config) {
    assert_eq!(load(text).ok().as_ref(), Some(config), "it is read the same again");
    // Written by the library it means the same, unless the library itself reads it as something else.
    if let Ok(written) = serde_yaml::to_string(tree)
        && serde_yaml::from_str::<Value>(&written).ok().as_ref() == Some(tree)
    {
        assert_eq!(load(&written).ok().as_ref(), Some(config), "{written}");
    }
    if secrets_are_in_their_place(tree) {
        assert!(!format!("{config:?}").contains(SECRET), "Debug shows a secret: {config:?}");
    }
    check_what_a_configuration_promises(config);
    check_the_rules(config);
}

/// Returns true if `${PASSWORD}` is a whole value, and only of keys for secrets.
fn secrets_are_in_their_place(tree: &Value) -> bool {
    match tree {
        Value::String(text) => !text.contains("PASSWORD"),
        Value::Sequence(items) => items.iter().all(secrets_are_in_their_place),
        Value::Tagged(tagged) => secrets_are_in_their_place(&tagged.value),
        Value::Mapping(entries) => entries.iter().all(|(key, value)| {
            let is_secret = key.as_str().is_some_and(|key| SECRET_KEYS.contains(&key));
            let is_whole = value.as_str() == Some("${PASSWORD}");
            let is_in_a_url = value.as_str().is_some_and(|url| {
                url.starts_with("redis://:${PASSWORD}@") || url.starts_with("rediss://me:${PASSWORD}@")
            });
            is_secret && is_whole || is_in_a_url || secrets_are_in_their_place(value)
        }),
        _ => true,
    }
}

fn check_what_a_configuration_promises(config: &Config) {
    let poll = &config.poll;
    assert!(poll.timeout < poll.interval && poll.interval <= poll.stale_after, "{poll:?}");
    assert!(poll.shard.is_none_or(|shard| shard.index < shard.of), "{poll:?}");
    assert!(config.status.window >= 6 * poll.interval, "{:?}", config.status);
    assert!(!config.targets.is_empty());
    let labels: Vec<_> = config.targets[0].labels.keys().collect();
    for (at, target) in config.targets.iter().enumerate() {
        assert!(!target.name.is_empty() && !target.streams.is_empty(), "{target:?}");
        assert!(target.labels.keys().eq(labels.iter().copied()), "targets have the same labels");
        assert!(config.targets[..at].iter().all(|other| other.name != target.name), "names are unique");
        assert!(target.streams.iter().all(|rule| rule.window >= 6 * poll.interval), "{target:?}");
        if let Some(Password::Text(password)) = target.password.as_ref().and_then(|it| it.configured()) {
            assert!(!password.expose().is_empty(), "a password is not empty");
        }
    }
}

/// Every rule can be written for Prometheus.
fn check_the_rules(config: &Config) {
    let labels: Vec<_> = config.targets[0].labels.keys().map(String::as_str).collect();
    let rules = || config.alerts.rules.iter().map(AsRef::as_ref);
    let file = rule_file::write(rules(), &[], &labels);
    let read: Value = serde_yaml::from_str(&file).unwrap_or_else(|error| panic!("{error}:\n{file}"));
    for (at, rule) in rules().enumerate() {
        let written = read["groups"][0]["rules"][at]["expr"].as_str();
        assert_eq!(written, Some(promql::expression(rule, &labels).as_str()), "{file}");
    }
}
