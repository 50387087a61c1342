//! Checks `config.example.yaml` against the code: it is complete, loadable, and its defaults are right.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::path::Path;
use std::time::Duration;

use serde_yaml::Value;

use crate::config::cursor::{Tree, without_indices};
use crate::config::load::from_text;
use crate::config::notifiers::Receiver;
use crate::config::{Config, root};

const EXAMPLE: &str = include_str!("../../config.example.yaml");

/// Maps with keys that the user chooses.
const USERS_NAMES: [&str; 6] = [
    "web.basic_auth_users.",
    "targets[].labels.",
    "alerts.external_labels.",
    "alerts.rules[].labels.",
    "alerts.rules[].annotations.",
    "alerts.notifiers[].webhook.headers.",
];

fn load(text: &str) -> Config {
    from_text("config.example.yaml", text, Path::new(""), &|_| None).expect("the text is valid")
}

/// Returns the example with its `#key:` lines uncommented.
fn uncommented() -> String {
    let line = |line: &str| {
        let setting =
            line.trim_start().strip_prefix('#').filter(|text| text.starts_with(char::is_alphabetic));
        match setting {
            Some(setting) => format!("{}{setting}\n", &line[..line.len() - line.trim_start().len()]),
            None => format!("{line}\n"),
        }
    };
    EXAMPLE.lines().map(line).collect()
}

/// Returns the uncommented example without files and without alternatives to other keys, so that it loads.
fn with_what_is_best_left_unset() -> String {
    uncommented().lines().filter(|line| !line.contains(": /")).map(|line| format!("{line}\n")).collect()
}

fn key_paths(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Mapping(entries) => {
            for (key, value) in entries {
                let key = key.as_str().expect("keys are text");
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                key_paths(value, &path, paths);
                paths.insert(path);
            }
        }
        Value::Sequence(items) => {
            for (at, item) in items.iter().enumerate() {
                key_paths(item, &format!("{path}[{at}]"), paths);
            }
        }
        _ => {}
    }
}

#[test]
fn the_example_loads() {
    let config = load(EXAMPLE);
    assert_eq!(config.targets[0].name, "orders");
}

#[test]
fn the_example_holds_each_key_that_is_read_and_no_other() {
    let value: Value = serde_yaml::from_str(&uncommented()).expect("the example is YAML");
    let nothing = |_: &str| None;
    let tree = Tree::new("", Path::new(""), Vec::new(), &nothing);
    root::config(&tree.root(&value));
    let mut in_the_example = BTreeSet::new();
    key_paths(&value, "", &mut in_the_example);
    // Names of labels and annotations are chosen by the user.
    let of_the_user = |path: &String| USERS_NAMES.iter().any(|of| path.starts_with(of));
    let written: BTreeSet<_> =
        in_the_example.iter().map(|path| without_indices(path)).filter(|path| !of_the_user(path)).collect();
    assert_eq!(written, *tree.asked.borrow());
    assert!(written.contains("targets[].streams[].groups.include"), "{written:?}");
}

#[test]
fn the_defaults_in_the_example_are_the_code_s() {
    let example = load(&with_what_is_best_left_unset());
    let default = load("targets: [{url: 'redis://cache'}]");
    assert_eq!(example.poll, default.poll);
    assert_eq!(example.metrics, default.metrics);
    assert_eq!(example.status, default.status);
    assert_eq!(
        (&example.alerts.prometheus_only, example.alerts.hold),
        (&default.alerts.prometheus_only, default.alerts.hold)
    );
    let recommended = default.alerts.rules.len();
    assert_eq!(example.alerts.rules[..recommended], default.alerts.rules);
    let example_rule = &example.alerts.rules[recommended];
    assert_eq!(
        (example_rule.pending_for, example_rule.keep_firing_for),
        (Duration::from_secs(60), Duration::ZERO)
    );
    let (example, default) = (&example.targets[0], &default.targets[0]);
    assert_eq!((&example.topology, example.db, example.role), (&default.topology, default.db, default.role));
    assert_eq!(example.limits, default.limits);
    let (example, default) = (&example.streams[0], &default.streams[0]);
    assert_eq!(example.include_groups, default.include_groups);
    assert_eq!(example.exclude_groups, default.exclude_groups);
    assert_eq!(example.consumers, default.consumers);
    assert_eq!(example.window, default.window);
}

#[test]
fn the_defaults_of_notifiers_in_the_example_are_the_code_s() {
    let example = load(EXAMPLE).alerts.notifiers;
    let default = load(
        "targets: [{url: 'redis://cache'}]
alerts:
  notifiers:
    - {name: main, alertmanager: {urls: ['http://am'], basic_auth: {username: u, password: p}}}
    - {name: hook, webhook: {url: 'http://hook'}}
    - {name: chat, slack: {webhook_url: 'http://chat'}}
    - {name: duty, pagerduty: {routing_key: k}}",
    )
    .alerts
    .notifiers;
    assert_eq!(example.len(), default.len());
    for (example, default) in example.iter().zip(&default) {
        assert_eq!(example.name, default.name);
        match (&example.receiver, &default.receiver) {
            (Receiver::Alertmanager(example), Receiver::Alertmanager(default)) => {
                assert_eq!(example.resolve_all, default.resolve_all);
                assert_eq!(
                    (&example.http.tls, example.http.timeout),
                    (&default.http.tls, default.http.timeout)
                );
            }
            (Receiver::Integration(example), Receiver::Integration(default)) => {
                assert_eq!(discriminant(&example.kind), discriminant(&default.kind));
                assert_eq!(
                    (example.repeat_interval, example.max_alerts, &example.http),
                    (default.repeat_interval, default.max_alerts, &default.http)
                );
            }
            (example, default) => panic!("{example:?} in place of {default:?}"),
        }
    }
}

#[test]
fn the_listen_address_in_the_example_is_the_default() {
    let listen = load(&with_what_is_best_left_unset()).web.listen.expect("it is set there");
    assert_eq!(listen.port(), super::DEFAULT_PORT);
    assert!(listen.ip().is_unspecified());
}
