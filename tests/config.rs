//! Configuration files: what is accepted, and the exact words for what is not.

#![expect(clippy::unwrap_used, reason = "clippy does not take a test's own helpers for tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::sample::select;
use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;
use streamgauge::config::load::{from_file, from_text};
use streamgauge::config::{Config, Limits, LoginPassword, Password, Role, Target};

/// The environment of all tests here.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "HOST" => "cache",
        "INTERVAL" => "20s",
        "CONSUMERS" => "false",
        "LIMIT" => "7",
        "EMPTY" => "",
        "SECRET" => "hunter2",
        "SECRET_URL" => "redis://:hunter2/@cache",
        _ => return None,
    };
    Some(value.to_owned())
}

fn load(text: &str) -> Result<Config, String> {
    from_text("f.yaml", text, Path::new("/nowhere"), &environment).map_err(|error| error.to_string())
}

fn good(text: &str) -> Config {
    load(text).unwrap()
}

/// Checks the faults of a text, each without its `f.yaml: `.
#[track_caller]
fn bad(text: &str, faults: &[&str]) {
    let message = load(text).expect_err("this is accepted");
    let lines: Vec<_> = message.lines().map(|line| line.strip_prefix("f.yaml: ").unwrap_or(line)).collect();
    assert_eq!(lines, faults, "{text}");
}

/// The same, of a target of which `rest` is all but the URL.
#[track_caller]
fn bad_target(rest: &str, faults: &[&str]) {
    bad(&format!("targets: [{{url: 'redis://cache', {rest}}}]"), faults);
}

/// The same, of the section `poll`.
#[track_caller]
fn bad_poll(rest: &str, faults: &[&str]) {
    bad(&format!("poll: {{{rest}}}\ntargets: [{{url: 'redis://cache'}}]"), faults);
}

#[test]
fn a_url_is_enough() {
    let config = good("targets: [{url: 'redis://cache'}]");
    assert_eq!(config.web.listen, None);
    assert_eq!(config.poll.interval, Duration::from_secs(10));
    assert_eq!(config.poll.timeout, Duration::from_secs(8));
    assert_eq!(config.poll.stale_after, Duration::from_secs(30));
    assert_eq!(config.status.window, Duration::from_secs(120));
    let target = &config.targets[0];
    assert_eq!(target.streams[0].window, Duration::from_secs(120));
    assert_eq!((target.name.as_str(), target.db, target.role), ("cache:6379", 0, Role::Master));
    assert_eq!((&target.username, &target.password), (&None, &None));
    assert_eq!(target.streams[0].key, Glob::new("*"));
    assert_eq!(target.limits, Limits { streams: 10_000, groups_per_stream: 1000, consumers_per_group: 100 });
}

#[test]
fn all_keys_are_taken() {
    let config = good(
        r#"
        web: {listen: "127.0.0.1:0"}
        poll: {interval: 1m 30s, timeout: 1m, stale_after: 90s, discovery_interval: 0s, scan_keys_per_second: 1,
               count_budget: 0, payload_budget: 1kB}
        metrics: {exclude: ["redis_stream_*"], consumer_max_idle: 0s, redis_exporter_compat: true}
        targets:
          - name: a
            url: redis://[::1]:6380/2
            role: any
            labels: {team: x, _1: ""}
            streams:
              - {key: "a\\xff*", exclude: ["a\\x5cx41"], groups: {include: [g], exclude: ["h*"]}, consumers: false, as: "a\\xff"}
              - {key: b}
            limits: {streams: 1, groups_per_stream: 2, consumers_per_group: 3}
        "#,
    );
    assert_eq!(config.web.listen, "127.0.0.1:0".parse().ok());
    let poll = &config.poll;
    assert_eq!((poll.interval, poll.timeout), (Duration::from_secs(90), Duration::from_secs(60)));
    assert_eq!((poll.scan_keys_per_second, poll.count_budget, poll.payload_budget), (1, 0, 1000));
    assert_eq!(config.metrics.exclude, [Glob::new("redis_stream_*")]);
    assert!(config.metrics.redis_exporter_compat);
    let target = &config.targets[0];
    assert_eq!((target.topology.to_string(), target.db, target.role), ("[::1]:6380".into(), 2, Role::Any));
    assert_eq!(target.labels.keys().collect::<Vec<_>>(), ["_1", "team"]);
    assert_eq!(target.limits, Limits { streams: 1, groups_per_stream: 2, consumers_per_group: 3 });
    let [first, second] = &target.streams[..] else { panic!("not two items") };
    assert_eq!((first.key.pattern(), first.exclude[0].pattern()), (&b"a\xff*"[..], &b"a\\x41"[..]));
    assert_eq!(
        (&first.include_groups, &first.exclude_groups),
        (&vec![Glob::new("g")], &vec![Glob::new("h*")])
    );
    assert!(!first.consumers && second.consumers);
    assert_eq!((&first.family, &second.family), (&Some(Name::from(&b"a\xff"[..])), &None));
}

#[test]
fn a_key_with_nothing_behind_it_is_absent() {
    assert_eq!(
        good("web:\npoll: {interval: }\ntargets: [{url: 'redis://cache', streams: }]"),
        good("targets: [{url: 'redis://cache'}]")
    );
}

#[test]
fn default_names_hold_the_db_where_it_is_not_0() {
    let config =
        good("targets: [{url: 'redis://cache'}, {url: 'redis://cache/1'}, {url: 'redis://[::1]/2'}]");
    let names: Vec<_> = config.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["cache:6379", "cache:6379/1", "[::1]:6379/2"]);
}

#[test]
fn variables_are_read_as_their_key_s_type() {
    let config = good(
        "poll: {interval: '${INTERVAL}'}\n\
         targets: [{name: '$${HOST}', url: 'redis://${HOST}:${PORT:-6380}', password: '${SECRET}', labels: {a: '${EMPTY}'}, \
         limits: {streams: '${LIMIT}'}, streams: [{key: 'x:${HOST}', consumers: '${CONSUMERS}'}]}]",
    );
    assert_eq!(config.poll.interval, Duration::from_secs(20));
    let target = &config.targets[0];
    assert_eq!((target.name.as_str(), target.topology.to_string()), ("${HOST}", "cache:6380".into()));
    assert_eq!(password(target).read().unwrap().expose(), "hunter2");
    assert_eq!((target.labels["a"].as_str(), target.limits.streams), ("", 7));
    assert_eq!((target.streams[0].key.pattern(), target.streams[0].consumers), (&b"x:cache"[..], false));
}

fn password(target: &Target) -> &Password {
    target.password.as_ref().and_then(LoginPassword::configured).expect("it has one")
}

#[test]
fn a_password_file_is_relative_to_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streamgauge.yaml");
    fs::write(&file, "targets: [{url: 'redis://monitor@cache', password_file: secret}]").unwrap();
    fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
    let config = from_file(&file, &environment).unwrap();
    let target = &config.targets[0];
    assert_eq!(target.username.as_deref(), Some("monitor"));
    assert_eq!(*password(target), Password::File(folder.path().join("secret")));
    assert_eq!(password(target).read().unwrap().expose(), "hunter2");
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_no_fault() {
    assert_eq!(
        good("\u{feff}targets:\r\n- url: redis://cache\r\n"),
        good("targets: [{url: 'redis://cache'}]")
    );
}

#[test]
fn files_that_are_no_configuration() {
    let missing = from_file(Path::new("/nowhere/f.yaml"), &environment).unwrap_err().to_string();
    assert_eq!(missing, "/nowhere/f.yaml: cannot read the file: No such file or directory (os error 2)");
    let binary = tempfile::NamedTempFile::new().unwrap();
    fs::write(binary.path(), b"a: \xff").unwrap();
    let error = from_file(binary.path(), &environment).unwrap_err().to_string();
    assert!(error.ends_with(": not UTF-8 text"), "{error}");
}

#[test]
fn texts_that_are_no_configuration() {
    let empty = "the file is empty; expected targets, at least one with a url";
    let no_targets = "targets: missing; expected a list of at least one target";
    for (text, faults) in [
        ("", &[empty][..]),
        ("# all gone\n", &[empty]),
        ("---\n", &[empty]),
        ("{}", &[no_targets]),
        ("targets:\n", &[no_targets]),
        ("targets: []", &["targets: an empty list; expected at least one target"]),
        ("[]", &["found a list; expected a map of web, poll, status, targets, metrics or alerts"]),
        ("just words", &["found text; expected a map of web, poll, status, targets, metrics or alerts"]),
        ("targets: {url: x}", &["targets: found a map; expected a list"]),
        (
            "a: [1",
            &[
                "not valid YAML: did not find expected ',' or ']' at line 2 column 1, while parsing a flow sequence at line 1 column 4",
            ],
        ),
        (
            "web: {}\n\n# again\nweb: {}\n",
            &["not valid YAML: duplicate entry with key \"web\" at lines 1 and 4"],
        ),
        (
            "targets: [{url: a, url: b}]\n",
            &["not valid YAML: targets[0]: duplicate entry with key \"url\" at line 1 column 11"],
        ),
        (
            "a: 1\n\tb: 2",
            &[
                "not valid YAML: found a tab character that violates indentation at line 2 column 1, while scanning a plain scalar at line 1 column 4",
            ],
        ),
        (
            "a: 1\n--- \nb: 2",
            &["not valid YAML: deserializing from YAML containing more than one document is not supported"],
        ),
        (
            "poll: {interval: !!int hunter2}",
            &["not valid YAML: a value does not fit its tag at line 1 column 18"],
        ),
    ] {
        bad(text, faults);
    }
}

#[test]
fn windows_follow_the_interval_or_are_held_to_it() {
    let windows = |text: &str| {
        let config = good(text);
        let streams = config.targets[0].streams.iter().map(|rule| rule.window.as_secs()).collect::<Vec<_>>();
        (config.status.window.as_secs(), streams)
    };
    let streams = "targets: [{url: 'redis://cache', streams: [{key: a, window: 10m}, {key: b}]}]";
    assert_eq!(windows(streams), (120, vec![600, 120]));
    assert_eq!(windows(&format!("status: {{window: 3m}}\n{streams}")), (180, vec![600, 180]));
    assert_eq!(windows(&format!("poll: {{interval: 30s}}\n{streams}")), (180, vec![600, 180]));
    bad(
        "poll: {interval: 30s}\nstatus: {window: 2m}\n\
         targets: [{url: 'redis://cache', streams: [{key: a, window: 1m}, {key: b, window: soon}]}]",
        &[
            "status.window: 2m is below 6 times poll.interval (30s); expected at least 3m",
            "targets[0].streams[0].window: 1m is below 6 times poll.interval (30s); expected at least 3m",
            "targets[0].streams[1].window: found \"soon\"; expected a duration such as 10s or 1m 30s",
        ],
    );
    bad(
        "poll: {interval: x}\nstatus: {window: 1s, windw: 2m}\ntargets: [{url: 'redis://cache'}]",
        &[
            "poll.interval: found \"x\"; expected a duration such as 10s or 1m 30s",
            "status.windw: unknown key; did you mean window?",
        ],
    );
}

#[test]
fn unknown_keys() {
    bad(
        "targts: []\nalarms: {}\nwebb: 1\n1: x\n[a]: x\n\"a\\nb\": x\n",
        &[
            "targets: missing; expected a list of at least one target",
            "targts: unknown key; did you mean targets?",
            "alarms: unknown key; did you mean alerts?",
            "webb: unknown key; did you mean web?",
            "unknown key, number 4 in the map; expected web, poll, status, targets, metrics or alerts",
            "unknown key, number 5 in the map; expected web, poll, status, targets, metrics or alerts",
            "unknown key, number 6 in the map; expected web, poll, status, targets, metrics or alerts",
        ],
    );
    bad_poll(
        "Interval: 10s, timeuot: 8s",
        &[
            "poll.Interval: unknown key; did you mean interval?",
            "poll.timeuot: unknown key; did you mean timeout?",
        ],
    );
    bad_target(
        "limits: {stream: 1}, streams: [{key: a, group: b}]",
        &[
            "targets[0].streams[0].group: unknown key; did you mean groups?",
            "targets[0].limits.stream: unknown key; did you mean streams?",
        ],
    );
    bad(
        "web: {port: 1}\ntargets: [{url: 'redis://cache'}]",
        &[
            "web: unknown key, number 1 in the map; expected listen, external_url, links, enable_reload, probe_listen, tls_server_config or basic_auth_users",
        ],
    );
}

#[test]
fn wrong_types() {
    bad(
        "web: []\npoll: x\nmetrics: 1\ntargets: [x]",
        &[
            "web: found a list; expected a map of listen, external_url, links, enable_reload, probe_listen, tls_server_config or basic_auth_users",
            "poll: found text; expected a map of interval, timeout, stale_after, shard, discovery_interval, scan_keys_per_second, count_budget, audit_budget, audit_period, loss_sample_streams, payload_budget or memory_interval",
            "targets[0]: found text; expected a map of name, topology, url, urls, sentinel, username, password, password_file, password_command, allowed_nodes, login_lifetime, tls, role, labels, streams or limits",
            "metrics: found a number; expected a map of exclude, consumer_max_idle or redis_exporter_compat",
        ],
    );
    bad_target(
        "name: 7, username: true, password: 7, role: [], labels: [], streams: 7, limits: 1",
        &[
            "targets[0].name: found a number; expected text (put it in quotes)",
            "targets[0].username: found a boolean; expected text (put it in quotes)",
            "targets[0].password: found a number; expected text (put it in quotes)",
            "targets[0].role: found a list; expected master, replica or any",
            "targets[0].labels: found a list; expected a map",
            "targets[0].streams: found a number; expected a list",
            "targets[0].limits: found a number; expected a map of streams, groups_per_stream or consumers_per_group",
        ],
    );
    bad(
        "targets: [{topology: cluster, url: 'redis://a', name: a, allowed_nodes: 10.0.0.0/8}, {topology: cluster, url: 'redis://b', allowed_nodes: [1, {}]}]",
        &[
            "targets[0].allowed_nodes: found text; expected a list",
            "targets[1].allowed_nodes[0]: found a number; expected text (put it in quotes)",
            "targets[1].allowed_nodes[1]: found a map; expected text",
        ],
    );
    bad_target(
        "streams: [{key: {}, exclude: a, groups: [], consumers: maybe}, ~, {exclude: [~, 1], as: 1}, {key: a, as: ''}]",
        &[
            "targets[0].streams[0].groups: found a list; expected a map of include or exclude",
            "targets[0].streams[0].key: found a map; expected text",
            "targets[0].streams[0].exclude: found text; expected a list",
            "targets[0].streams[0].consumers: found \"maybe\"; expected true or false",
            "targets[0].streams[1]: found nothing; expected a map of key, groups, exclude, consumers, window or as",
            "targets[0].streams[2].key: missing; expected a key or glob",
            "targets[0].streams[2].exclude[0]: found nothing; expected text",
            "targets[0].streams[2].exclude[1]: found a number; expected text (put it in quotes)",
            "targets[0].streams[2].as: found a number; expected text (put it in quotes)",
            "targets[0].streams[3].as: empty; expected a name for all streams of the item",
        ],
    );
    bad_poll(
        "interval: !x 1s",
        &["poll.interval: found a value with a tag; expected a duration such as 10s or 1m 30s"],
    );
}

#[test]
fn bad_durations() {
    bad_poll("interval: 10", &["poll.interval: found \"10\"; expected a duration such as 10s or 1m 30s"]);
    bad_poll("interval: soon", &["poll.interval: found \"soon\"; expected a duration such as 10s or 1m 30s"]);
    bad_poll("interval: -1s", &["poll.interval: found \"-1s\"; expected a duration such as 10s or 1m 30s"]);
    bad_poll("interval: 0", &["poll.interval: found \"0\"; expected a duration such as 10s or 1m 30s"]);
    bad_poll("interval: 0s", &["poll.interval: too short; expected at least 10ms"]);
    bad_poll("interval: 400d", &["poll.interval: too long; expected at most 1year"]);
    bad_poll("timeout: 0s", &["poll.timeout: too short; expected at least 1ms"]);
    bad_poll(
        "timeout: 10s",
        &["poll.timeout: 10s is not below poll.interval (10s); expected less, by default 80 % of it"],
    );
    bad_poll(
        "interval: 5s, timeout: 6s, stale_after: 4s",
        &[
            "poll.timeout: 6s is not below poll.interval (5s); expected less, by default 80 % of it",
            "poll.stale_after: 4s is below poll.interval (5s); expected at least that, by default 3 times as much",
        ],
    );
    bad_poll(
        "interval: x, timeout: 6h",
        &["poll.interval: found \"x\"; expected a duration such as 10s or 1m 30s"],
    );
}

#[test]
fn bad_numbers_and_sizes() {
    bad_poll(
        "scan_keys_per_second: 0, count_budget: -1, payload_budget: 16 potatoes",
        &[
            "poll.scan_keys_per_second: found \"0\"; expected a whole number from 1 up",
            "poll.count_budget: found \"-1\"; expected a whole number from 0 up",
            "poll.payload_budget: found \"16 potatoes\"; expected a size such as 16MiB",
        ],
    );
    bad_poll(
        "payload_budget: 0, count_budget: 1.5",
        &[
            "poll.count_budget: found \"1.5\"; expected a whole number from 0 up",
            "poll.payload_budget: found \"0\"; expected a size such as 16MiB",
        ],
    );
    bad_target(
        "limits: {streams: 0, groups_per_stream: '', consumers_per_group: 99999999999}",
        &[
            "targets[0].limits.streams: found \"0\"; expected a whole number from 1 up",
            "targets[0].limits.groups_per_stream: found \"\"; expected a whole number from 1 up",
            "targets[0].limits.consumers_per_group: found \"99999999999\"; expected a whole number from 1 up",
        ],
    );
}

#[test]
fn bad_allowed_nodes() {
    let bad_list = |topology: &str, list: &str, faults: &[&str]| {
        bad(&format!("targets: [{{{topology}, allowed_nodes: [{list}]}}]"), faults);
    };
    let cluster = "topology: cluster, url: 'redis://seed'";
    let form = "not a host or network; expected a host name, which may contain * and ?, an address, or a network such as 10.0.0.0/8";
    bad_list(
        cluster,
        "'10.0.0.0/33', '10.0.0.0/', '[::1]', 'node:6379', '', 'a b', 'redis://node', '@10.0.0.1', '10.0.*', '*', node-1",
        &[
            &format!("targets[0].allowed_nodes[0]: {form}"),
            &format!("targets[0].allowed_nodes[1]: {form}"),
            &format!("targets[0].allowed_nodes[2]: {form}"),
            &format!("targets[0].allowed_nodes[3]: {form}"),
            &format!("targets[0].allowed_nodes[4]: {form}"),
            &format!("targets[0].allowed_nodes[5]: {form}"),
            &format!("targets[0].allowed_nodes[6]: {form}"),
            &format!("targets[0].allowed_nodes[7]: {form}"),
            "targets[0].allowed_nodes[8]: a pattern of addresses; expected a network such as 10.0.0.0/8",
            "targets[0].allowed_nodes[9]: a pattern of addresses; expected a network such as 10.0.0.0/8",
        ],
    );
    bad_list(
        cluster,
        "",
        &[
            "targets[0].allowed_nodes: an empty list; expected at least one host or network, or no such key to allow all",
        ],
    );
    bad_list(
        "url: 'redis://cache'",
        "cache",
        &[
            "targets[0].allowed_nodes: goes with topology: cluster or sentinel, whose servers name nodes; expected no such key",
        ],
    );
}

#[test]
fn a_fault_in_a_file_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    let text = "\u{feff}poll:
  interval: x
targets:
  - name: a
    strems: []
  - {url: 'redis://cache', streams: [{key: a, window: y}]}
    \n# A comment.\nmetrics: 1
";
    std::fs::write(&path, text).unwrap();
    let error = streamgauge::config::load::from_file(&path, &|_| None).unwrap_err().to_string();
    let expected = [
        "2: poll.interval: found \"x\"; expected a duration such as 10s or 1m 30s",
        "4: targets[0].url: missing; expected redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]",
        "5: targets[0].strems: unknown key; did you mean streams?",
        "6: targets[1].streams[0].window: found \"y\"; expected a duration such as 10s or 1m 30s",
        "9: metrics: found a number; expected a map of exclude, consumer_max_idle or redis_exporter_compat",
    ]
    .map(|line| format!("{}:{line}", path.display()));
    assert_eq!(error.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn keys_may_be_merged_from_an_anchor_below_a_key_that_begins_with_x() {
    let config = good(
        "x-common: &common {url: 'redis://cache', labels: {team: a}}
targets: [{<<: *common, name: a}, {<<: *common, name: b, url: 'redis://other'}]",
    );
    let targets: Vec<_> =
        config.targets.iter().map(|target| (target.topology.to_string(), &target.labels["team"])).collect();
    let team = "a".to_owned();
    assert_eq!(targets, [("cache:6379".to_owned(), &team), ("other:6379".to_owned(), &team)]);
    bad(
        "targets: [{url: 'redis://cache', x-labels: {}}]\ny-common: 1",
        &[
            "targets[0].x-labels: unknown key; did you mean labels?",
            "unknown key, number 2 in the map; expected web, poll, status, targets, metrics or alerts",
        ],
    );
    bad(
        "targets: [{url: 'redis://cache', <<: 1}]",
        &["not valid YAML: expected a mapping or list of mappings for merging, but found scalar"],
    );
}

#[test]
fn common_mistakes_are_explained() {
    let streams = |streams: &str| {
        let config = good(&format!("targets: [{{url: 'redis://cache', streams: {streams}}}]"));
        config.targets[0].streams.iter().map(|rule| rule.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(streams("orders"), ["orders"]);
    assert_eq!(streams("[orders, 'jobs:*']"), ["orders", "jobs:*"]);
    let rule = |expr: &str| {
        format!("targets: [{{url: 'redis://cache'}}]\nalerts: {{rules: [{{alert: A, expr: {expr}}}]}}")
    };
    let is_number = |expr: &str, told: &str| {
        bad(&rule(expr), &[&format!("alerts.rules[0].expr: found {expr:?}; {told}")]);
    };
    is_number("lag > 10m", "lag is a number, not a duration; did you mean lag_seconds?");
    is_number("consumers < 1h", "consumers is a number, not a duration");
    bad(
        "targets:\n- {url: 'redis://cache', password: ${X}}",
        &[
            "not valid YAML: did not find expected ',' or '}' at line 2 column 37, while parsing a flow mapping at line 2 column 3; write \"${NAME}\" in quotes within braces",
        ],
    );
    for (listen, port) in [("':7000'", 7000), ("7000", 7000), ("'7000'", 7000), ("'0'", 0)] {
        let config = good(&format!("web: {{listen: {listen}}}\ntargets: [{{url: 'redis://cache'}}]"));
        assert_eq!(config.web.listen, format!("[::]:{port}").parse().ok(), "{listen}");
    }
}

#[test]
fn bad_addresses() {
    for listen in ["here", ":here", "10121x", ":65536", "localhost:10121", "[::]", "127.0.0.1:65536"] {
        let fault = format!(
            "web.listen: found {listen:?}; expected an address and port such as 0.0.0.0:10121 or [::]:10121"
        );
        bad(&format!("web: {{listen: '{listen}'}}\ntargets: [{{url: 'redis://cache'}}]"), &[&fault]);
    }
    bad(
        "targets: [{url: 'redis+tls://cache'}, {url: }, {url: 1}]",
        &[
            "targets[0].url: redis+tls:// is not understood; expected rediss://",
            "targets[1].url: missing; expected redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]",
            "targets[2].url: found a number; expected text (put it in quotes)",
        ],
    );
}

#[test]
fn an_external_url_is_a_plain_link() {
    let target = "targets: [{url: 'redis://cache'}]";
    for (text, url) in [("''", None), ("https://gauge.example.com/x/", Some("https://gauge.example.com/x"))] {
        let config = good(&format!("web: {{external_url: {text}}}\n{target}"));
        assert_eq!(config.web.external_url.as_deref(), url);
    }
    let form = "expected http[s]://[user:password@]host[:port][/path]";
    for (text, fault) in [
        ("hunter2", format!("not a URL; {form}")),
        ("http://u:hunter2@host", "has credentials, which everybody would see; expected none".to_owned()),
    ] {
        let fault = format!("web.external_url: {fault}");
        bad(&format!("web: {{external_url: '{text}'}}\n{target}"), &[&fault]);
    }
}

#[test]
fn a_runbook_is_a_plain_link_that_recommended_rules_get() {
    let target = "targets: [{url: 'redis://cache'}]";
    let config = good(&format!("alerts: {{runbook_url: 'https://docs.example.com/operating.md'}}\n{target}"));
    let links = config.alerts.rules.iter().map(|rule| rule.annotations["runbook_url"].source().to_owned());
    assert_eq!(
        links.collect::<Vec<_>>()[0],
        "https://docs.example.com/operating.md#redisstreamtargetdown",
        "the chapter of the first rule"
    );
    let config = good(target);
    assert!(config.alerts.rules.iter().all(|rule| !rule.annotations.contains_key("runbook_url")));

    let fault = "alerts.runbook_url: has {{, which would be taken for a template; expected %7B%7B";
    bad(&format!("alerts: {{runbook_url: 'https://docs.example.com/{{{{x}}}}'}}\n{target}"), &[fault]);
    let fault = "alerts.runbook_url: has credentials, which everybody would see; expected none";
    bad(&format!("alerts: {{runbook_url: 'http://u:hunter2@docs.example.com'}}\n{target}"), &[fault]);
}

#[test]
fn bad_names_and_roles() {
    bad_target("role: slave", &["targets[0].role: unknown value \"slave\"; expected master, replica or any"]);
    bad_target("name: ''", &["targets[0].name: empty; expected a name"]);
    bad(
        "targets: [{url: 'redis://a', name: x}, {url: 'redis://b', name: y}, {url: 'redis://c', name: x}]",
        &["targets[2].name: \"x\" is the name of targets[0] too; expected a name of its own"],
    );
    bad(
        "targets: [{url: 'redis://a'}, {url: 'redis://a:6379/0'}, {url: 'redis://a/1'}]",
        &["targets[1].name: \"a:6379\" is the name of targets[0] too; expected a name of its own"],
    );
}

#[test]
fn bad_labels() {
    let reserved = [
        "target",
        "db",
        "stream",
        "group",
        "consumer",
        "status",
        "alertname",
        "alertstate",
        "le",
        "node",
        "result",
        "reason",
        "what",
        "command",
    ];
    for name in reserved {
        let fault = format!("targets[0].labels.{name}: a reserved label name; expected another");
        bad_target(&format!("labels: {{{name}: x}}"), &[&fault]);
    }
    bad_target(
        "labels: {a-b: x, 1a: x, grün: x, '': x, __a: x, ok: 1}",
        &[
            "targets[0].labels.a-b: not a label name; expected letters, digits and _, and no digit first",
            "targets[0].labels.1a: not a label name; expected letters, digits and _, and no digit first",
            "targets[0].labels.grün: not a label name; expected letters, digits and _, and no digit first",
            "targets[0].labels.\"\": not a label name; expected letters, digits and _, and no digit first",
            "targets[0].labels.__a: a reserved label name; expected one that does not start with __",
            "targets[0].labels.ok: found a number; expected text (put it in quotes)",
        ],
    );
    bad(
        "targets: [{url: 'redis://a', labels: {x: a, y: a}}, {url: 'redis://b', labels: {y: b, x: b}}, {url: 'redis://c', labels: {x: c}}]",
        &["targets[2].labels: not the same names as in targets[0].labels; expected x, y"],
    );
    bad(
        "targets: [{url: 'redis://a'}, {url: 'redis://b', labels: {x: b}}]",
        &["targets[1].labels: not the same names as in targets[0].labels; expected none"],
    );
}

#[test]
fn bad_streams() {
    bad_target(
        "streams: []",
        &["targets[0].streams: an empty list; expected at least one item, or no such key for all streams"],
    );
    bad_target(
        "streams: [{key: a, groups: {include: []}}]",
        &["targets[0].streams[0].groups.include: an empty list; expected at least one name or glob"],
    );
}

#[test]
fn bad_credentials() {
    bad_target(
        "password: a, password_file: /dev/null",
        &[
            "targets[0].password_file: targets[0].password is there too; expected one of them",
            "targets[0].password_file: cannot read /dev/null: a device, not a regular file; expected a readable file",
        ],
    );
    bad_target(
        "password_file: gone",
        &[
            "targets[0].password_file: cannot read /nowhere/gone: No such file or directory (os error 2); expected a readable file",
        ],
    );
    bad_target(
        "password: '', username: ''",
        &[
            "targets[0].username: empty; expected the name of an ACL user",
            "targets[0].password: empty; expected a password",
        ],
    );
    bad_target(
        "username: monitor",
        &["targets[0].username: a user without a password; expected a password too"],
    );
    bad(
        "targets: [{url: 'redis://u@cache'}]",
        &["targets[0].url: a user without a password; expected a password too"],
    );
    bad(
        "targets: [{url: 'redis://u@cache', username: v, password: hunter2}]",
        &["targets[0].username: targets[0].url has credentials too; expected them in one place"],
    );
    bad(
        "targets: [{url: 'redis://:hunter2@cache', username: u, password: hunter2, password_file: /dev/null}]",
        &[
            "targets[0].username: targets[0].url has credentials too; expected them in one place",
            "targets[0].password: targets[0].url has credentials too; expected them in one place",
            "targets[0].password_file: targets[0].url has credentials too; expected them in one place",
            "targets[0].password_file: targets[0].password is there too; expected one of them",
            "targets[0].password_file: cannot read /dev/null: a device, not a regular file; expected a readable file",
        ],
    );
}

#[test]
fn bad_variables() {
    bad_target(
        "name: '${UNSET}', password: 'hunter2${', labels: {a: '${not a name}'}",
        &[
            "targets[0].name: environment variable UNSET is not set; set it, or write ${UNSET:-default}",
            "targets[0].password: \"${\" without \"}\"; expected ${NAME}, or $${ for a literal ${",
            "targets[0].labels.a: \"${\" without the name of a variable; expected ${NAME}, or $${ for a literal ${",
        ],
    );
    bad_poll(
        "interval: '${HOST}'",
        &["poll.interval: found \"${HOST}\"; expected a duration such as 10s or 1m 30s"],
    );
}

#[test]
fn faults_of_all_sections_come_at_once() {
    bad(
        "web: {listen: 1x}\n\
         poll: {interval: never, interwal: 10s}\n\
         targets: [{url: 'http://x', role: slave}, {name: b, labels: {le: 1}}]\n\
         metrics: {consumer_max_idle: 1}\n",
        &[
            "web.listen: found \"1x\"; expected an address and port such as 0.0.0.0:10121 or [::]:10121",
            "poll.interval: found \"never\"; expected a duration such as 10s or 1m 30s",
            "poll.interwal: unknown key; did you mean interval?",
            "targets[0].url: not the URL of a Redis server; expected redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]",
            "targets[0].role: unknown value \"slave\"; expected master, replica or any",
            "targets[1].url: missing; expected redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]",
            "targets[1].labels.le: a reserved label name; expected another",
            "targets[1].labels.le: found a number; expected text (put it in quotes)",
            "metrics.consumer_max_idle: found \"1\"; expected a duration such as 10s or 1m 30s",
        ],
    );
}

#[test]
fn no_message_and_no_debug_output_holds_a_secret() {
    for text in [
        "targets: [{url: 'redis://:hunter2@cache:x'}]",
        "targets: [{url: 'redis://:hunter2/x@cache'}]",
        "targets: [{url: 'redis://:hunter2@cache/x?y'}]",
        "targets: [{url: 'hunter2'}]",
        "targets: [{url: ['redis://:hunter2@cache']}]",
        "targets: [{url: '${SECRET_URL}'}]",
        "targets: [{url: '${SECRET}', name: '${SECRET}'}, {url: '${SECRET}', name: '${SECRET}'}]",
        "targets: [{url: 'redis://cache', password: [hunter2]}]",
        "targets: [{url: 'redis://cache', password: !hunter2 hunter2}]",
        "targets: [{url: 'redis://cache', password: !!int hunter2}]",
        "targets: [{url: 'redis://cache', password: '${hunter-2', username: '${SECRET}'}]",
        "targets: [{url: 'redis://cache', password: 'hunter2', password: 'hunter2'}]",
        "targets: [{url: 'redis://cache', password: 'hunter2', password_file: x}]",
        "targets: [{url: 'redis://cache', pasword: 'hunter2'}]",
        "targets: [{url: 'redis://cache', role: '${SECRET}', limits: {streams: '${SECRET}'}}]",
        "poll: {shard: '${SECRET}'}",
        "poll: {interval: '${SECRET}', payload_budget: '${SECRET}'}\nweb: {listen: '${SECRET}'}",
        "targets: [{url: 'redis://cache', password: 'hunter2]",
    ] {
        let error = from_text("f.yaml", text, Path::new(""), &environment).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text} gives {error}");
    }
    for text in [
        "targets: [{url: 'redis://:hunter2@cache'}]",
        "targets: [{url: 'redis://cache', password: '${SECRET}'}]",
    ] {
        assert!(!format!("{:?}", good(text)).contains("hunter2"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = load(&text);
    }

    #[test]
    fn no_value_panics(
        key in select(&["url", "name", "password", "role", "labels", "streams", "limits", "password_file"][..]),
        value in "[-a-z0-9:/@.{}\\[\\]$?#%& \\\\é]{0,20}",
        section in select(&["interval", "timeout", "payload_budget", "count_budget"][..]),
    ) {
        let _ = load(&format!("targets: [{{url: 'redis://cache', '{key}': '{value}'}}]"));
        let _ = load(&format!("targets: [{{'{key}': '{value}'}}]\npoll: {{{section}: '{value}'}}"));
        let _ = load(&format!("targets:\n- {key}: {value}\npoll:\n  {section}: {value}"));
        let _ = load(&format!("targets: [{{url: 'redis://{value}'}}]"));
    }

    #[test]
    fn no_number_of_a_unit_panics(number in any::<u64>(), unit in select(&["ns", "s", "d", "y", "MiB", "EB", ""][..])) {
        let _ = load(&format!("poll: {{interval: {number}{unit}, payload_budget: {number}{unit}}}\ntargets: []"));
    }
}

#[test]
fn tls_goes_with_a_secured_url() {
    bad(
        "targets: [{url: 'redis://cache', tls: {}}, {url: 'rediss://cache', name: b, tls: {ca_file: /gone, key_file: /gone}}]",
        &[
            "targets[0].tls: goes with rediss://; expected that in the URL, or no such key",
            "targets[1].tls.cert_file: missing; expected it together with targets[1].tls.key_file",
            "targets[1].tls.key_file: cannot read /gone: No such file or directory (os error 2); expected a readable file",
            "targets[1].tls.ca_file: cannot read /gone: No such file or directory (os error 2); expected a readable file",
        ],
    );
}

#[test]
fn a_topology_has_its_own_keys() {
    let sentinel = "sentinel: {master_name: m, urls: ['redis://s1', 'redis://s2']}";
    bad(
        &format!(
            "targets:
            - {{name: a, url: 'redis://a', urls: ['redis://b']}}
            - {{name: b, topology: sentinel, url: 'redis://a', role: any}}
            - {{name: c, topology: sentinel, sentinel: {{urls: ['redis://me:pw@s1', 'rediss://s2/1']}}}}
            - {{name: d, topology: cluster, role: replica, url: 'redis://a/1'}}
            - {{name: e, topology: cluster, {sentinel}}}
            - {{name: f, topology: cluster, urls: ['unix:///a.sock']}}
            - {{name: g, topology: ring, url: 'redis://a'}}"
        ),
        &[
            "targets[0].urls: does not go with topology: standalone; expected targets[0].url instead",
            "targets[1].url: does not go with topology: sentinel; expected targets[1].sentinel instead",
            "targets[1].sentinel: missing; expected master_name and urls",
            "targets[2].sentinel.urls[0]: has credentials; expected them in username and password or password_file",
            "targets[2].sentinel.urls[1]: names another database than those before; expected the same",
            "targets[2].sentinel.urls[1]: not the same scheme as those before; expected redis:// or rediss:// for all",
            "targets[2].sentinel.master_name: missing; expected the name of the master and a list of sentinels",
            "targets[3].url: names a database, but a cluster has only database 0; leave it out",
            "targets[3].role: goes with topology: standalone; the others poll masters. Expected master",
            "targets[4].sentinel: does not go with topology: cluster; expected targets[4].url instead",
            "targets[4].urls: missing; expected a list of nodes, each as redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]",
            "targets[5].urls[0]: a unix socket, which names no other node; expected redis:// or rediss://",
            "targets[6].topology: unknown value \"ring\"; expected standalone, cluster or sentinel",
        ],
    );
}

#[test]
fn names_of_targets_follow_their_topology() {
    let names = |yaml: &str| -> Vec<String> {
        let config = load(yaml).expect("it is valid");
        config.targets.iter().map(|target| format!("{} at {}", target.name, target.topology)).collect()
    };
    let found = names(
        "targets:
        - {url: 'unix:///run/redis.sock'}
        - {topology: sentinel, sentinel: {master_name: m, urls: ['redis://s1/2', 'redis://s2:1/2']}}
        - {topology: cluster, urls: ['rediss://n1', 'rediss://n2:1']}",
    );
    assert_eq!(
        found,
        [
            "/run/redis.sock at /run/redis.sock",
            "m/2 at m, by the sentinels s1:26379, s2:1",
            "n1:6379 at the cluster of n1:6379, n2:1",
        ]
    );
}
