//! Checks `config.reference.yaml` against the code: it is complete, loadable, and its defaults are right.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::path::Path;
use std::time::Duration;

use serde_yaml::Value;

use crate::config::cursor::{Tree, without_indices};
use crate::config::load::from_text;
use crate::config::notifiers::Receiver;
use crate::config::{Config, root};

const REFERENCE: &str = include_str!("../../config.reference.yaml");

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
    from_text("config.reference.yaml", text, Path::new(""), &|_| None).expect("the text is valid")
}

/// Returns a file with its `#key:` lines uncommented.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let setting =
            line.trim_start().strip_prefix('#').filter(|text| text.starts_with(char::is_alphabetic));
        match setting {
            Some(setting) => format!("{}{setting}\n", &line[..line.len() - line.trim_start().len()]),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Returns the uncommented reference without files and without alternatives to other keys, so that it loads.
fn with_what_is_best_left_unset() -> String {
    uncommented(REFERENCE)
        .lines()
        .filter(|line| ![": /", ": [/", "login_lifetime"].iter().any(|left_out| line.contains(left_out)))
        .map(|line| format!("{line}\n"))
        .collect()
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
fn the_reference_loads() {
    let config = load(REFERENCE);
    assert_eq!(config.targets[0].name, "orders");
}

#[test]
fn the_reference_holds_each_key_that_is_read_and_no_other() {
    let value: Value = serde_yaml::from_str(&uncommented(REFERENCE)).expect("the reference is YAML");
    let nothing = |_: &str| None;
    let tree = Tree::new("", Path::new(""), Vec::new(), &nothing);
    root::config(&tree.root(&value));
    let mut in_the_reference = BTreeSet::new();
    key_paths(&value, "", &mut in_the_reference);
    // Names of labels and annotations are chosen by the user.
    let of_the_user = |path: &String| USERS_NAMES.iter().any(|of| path.starts_with(of));
    let written: BTreeSet<_> =
        in_the_reference.iter().map(|path| without_indices(path)).filter(|path| !of_the_user(path)).collect();
    assert_eq!(written, *tree.asked.borrow());
    assert!(written.contains("targets[].streams[].groups.include"), "{written:?}");
}

#[test]
fn the_defaults_in_the_reference_are_the_code_s() {
    let reference = load(&with_what_is_best_left_unset());
    let default = load("targets: [{url: 'redis://cache'}]");
    assert_eq!(reference.poll, default.poll);
    assert_eq!(reference.metrics, default.metrics);
    assert_eq!(reference.status, default.status);
    assert_eq!(
        (&reference.alerts.prometheus_only, reference.alerts.hold),
        (&default.alerts.prometheus_only, default.alerts.hold)
    );
    let recommended = default.alerts.rules.len();
    assert_eq!(reference.alerts.rules[..recommended], default.alerts.rules);
    let reference_rule = &reference.alerts.rules[recommended];
    assert_eq!(
        (reference_rule.pending_for, reference_rule.keep_firing_for),
        (Duration::from_secs(60), Duration::ZERO)
    );
    let (reference, default) = (&reference.targets[0], &default.targets[0]);
    assert_eq!(
        (&reference.topology, reference.db, reference.role),
        (&default.topology, default.db, default.role)
    );
    assert_eq!(reference.limits, default.limits);
    let (reference, default) = (&reference.streams[0], &default.streams[0]);
    assert_eq!(reference.include_groups, default.include_groups);
    assert_eq!(reference.exclude_groups, default.exclude_groups);
    assert_eq!(reference.consumers, default.consumers);
    assert_eq!(reference.window, default.window);
}

#[test]
fn the_defaults_of_notifiers_in_the_reference_are_the_code_s() {
    let reference = load(REFERENCE).alerts.notifiers;
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
    assert_eq!(reference.len(), default.len());
    for (reference, default) in reference.iter().zip(&default) {
        assert_eq!(reference.name, default.name);
        match (&reference.receiver, &default.receiver) {
            (Receiver::Alertmanager(reference), Receiver::Alertmanager(default)) => {
                assert_eq!(reference.resolve_all, default.resolve_all);
                assert_eq!(
                    (&reference.http.tls, reference.http.timeout),
                    (&default.http.tls, default.http.timeout)
                );
            }
            (Receiver::Integration(reference), Receiver::Integration(default)) => {
                assert_eq!(discriminant(&reference.kind), discriminant(&default.kind));
                assert_eq!(
                    (reference.repeat_interval, reference.max_alerts, &reference.http),
                    (default.repeat_interval, default.max_alerts, &default.http)
                );
            }
            (reference, default) => panic!("{reference:?} in place of {default:?}"),
        }
    }
}

#[test]
fn the_listen_address_in_the_reference_is_the_default() {
    let listen = load(&with_what_is_best_left_unset()).web.listen.expect("it is set there");
    assert_eq!(listen.port(), super::DEFAULT_PORT);
    assert!(listen.ip().is_unspecified());
}

#[test]
fn the_example_loads_as_it_is_and_with_all_that_it_offers() {
    let example = include_str!("../../config.example.yaml");
    let environment = |name: &str| (name == "REDIS_PASSWORD").then(|| "secret".to_owned());
    let url = "webhook_url: 'https://hooks.slack.com/services/x'";
    let with_all = uncommented(example).replace("webhook_url_file: /run/secrets/slack", url);
    for text in [example.to_owned(), with_all] {
        let loaded =
            from_text("config.example.yaml", &text, Path::new(env!("CARGO_MANIFEST_DIR")), &environment);
        let config = loaded.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config.targets.len(), 1);
    }
    assert!(example.lines().count() <= 20);
}
