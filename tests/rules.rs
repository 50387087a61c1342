//! `streamgauge rules`, and the files under dashboards/ that go with it, as promtool sees them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_yaml::Value;

mod support;

use support::config::ConfigFile;
use support::peers;
use support::program::Streamgauge;

const DASHBOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");
const RECOMMENDED: &str = include_str!("../dashboards/alerts.yml");

/// Runs promtool, and panics with what it says where it finds something wrong.
fn promtool(folder: &Path, arguments: &[&str]) {
    let Some(promtool) = peers::find("promtool") else { return };
    let output = Command::new(promtool).current_dir(folder).args(arguments).output().expect("promtool runs");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

async fn printed(command: Streamgauge) -> String {
    let finished = command.run().await;
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    finished.stdout
}

/// The values of a key of all rules of a file.
fn values(file: &str, key: &str) -> Vec<String> {
    let file: Value = serde_yaml::from_str(file).expect("the rules are YAML");
    let rules = file["groups"][0]["rules"].as_sequence().expect("there are rules");
    rules.iter().map(|rule| rule[key].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn the_recommended_rules_in_the_repository_are_what_the_program_prints() {
    let text = printed(Streamgauge::command("rules")).await;
    assert!(text == RECOMMENDED, "run `streamgauge rules > dashboards/alerts.yml`; it prints:\n{text}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_recommended_rules() {
    let dashboards = Path::new(DASHBOARDS);
    promtool(dashboards, &["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"]);
    promtool(dashboards, &["test", "rules", "alerts_test.yml"]);
}

#[test]
fn promtool_finds_nothing_wrong_with_the_recording_rules_and_each_is_tested() {
    let dashboards = Path::new(DASHBOARDS);
    promtool(dashboards, &["check", "rules", "--lint=all", "--lint-fatal", "rules.yml"]);
    promtool(dashboards, &["test", "rules", "rules_test.yml"]);
    let [rules, tests] = ["rules.yml", "rules_test.yml"]
        .map(|name| std::fs::read_to_string(dashboards.join(name)).expect("it is there"));
    for record in values(&rules, "record") {
        assert!(tests.contains(&format!("- expr: {record}\n")), "{record} is not tested");
    }
}

#[test]
fn each_recommended_rule_is_tested() {
    let tests = std::fs::read_to_string(Path::new(DASHBOARDS).join("alerts_test.yml")).expect("it is there");
    let tests: Value = serde_yaml::from_str(&tests).expect("the tests are YAML");
    let tests = tests["tests"].as_sequence().expect("there are tests").iter();
    let checks = tests.flat_map(|test| test["alert_rule_test"].as_sequence().expect("it checks something"));
    let fires = |check: &&Value| check["exp_alerts"].as_sequence().is_some_and(|alerts| !alerts.is_empty());
    let tested = checks.filter(fires).map(|check| check["alertname"].as_str().unwrap_or_default().to_owned());
    assert_eq!(tested.collect::<BTreeSet<_>>(), values(RECOMMENDED, "alert").into_iter().collect());
}

#[tokio::test]
async fn the_rules_of_a_configuration_are_printed_with_its_labels_and_without_what_it_disables() {
    let config = ConfigFile::new(
        r#"
targets: [{url: "redis://cache", labels: {team: billing, region: eu}}]
alerts:
  disable: [RedisStreamMissing, StreamgaugeGone]
  rules:
    - alert: "Behind, \"really\": # 1"
      target: cache*
      stream: "orders:[^a-c.]*\\x5c\\xff"
      group: 'a.b'
      expr: lag > 1000
      for: 90s
      keep_firing_for: 1h
      labels: {severity: "{{ $labels.team }}"}
      annotations: {summary: "{{ $labels.group }} is\n{{ $value }} behind", url: 'https://x/?a=b&c="d"'}
"#,
    );
    let text = printed(config.command("rules")).await;
    let names = values(&text, "alert");
    assert_eq!(names.len(), values(RECOMMENDED, "alert").len() - 1);
    assert!(!names.iter().any(|name| ["RedisStreamMissing", "StreamgaugeGone"].contains(&name.as_str())));
    let own = names.iter().position(|name| name == "Behind, \"really\": # 1").expect("the own rule is there");
    assert_eq!(
        values(&text, "expr")[own],
        r#"max by (target, db, stream, group, region, team) (redis_stream_group_lag_min{target=~"cache.*", stream=~"orders:[^.a-c].*\\\\xff", group="a.b"}) > 1000"#
    );
    assert_eq!(
        (values(&text, "for")[own].as_str(), values(&text, "keep_firing_for")[own].as_str()),
        ("1m30s", "1h")
    );
    assert!(
        values(&text, "expr").iter().all(|expr| expr.contains("(target, db, stream, group, region, team)"))
    );
    promtool(
        config.path().parent().expect("it is in a folder"),
        &["check", "rules", config.put("r.yml", &text).to_str().expect("a path")],
    );

    let none = ConfigFile::new("targets: [{url: 'redis://cache'}]\nalerts: {recommended: false}\n");
    let text = printed(none.command("rules")).await;
    promtool(
        none.path().parent().expect("it is in a folder"),
        &["check", "rules", none.put("r.yml", &text).to_str().expect("a path")],
    );
}

#[tokio::test]
async fn any_name_and_text_makes_a_rule_that_prometheus_takes() {
    let special =
        "\u{1}\t\n\r !\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~\u{7f}\u{85}\u{a0}\u{e9}\u{2028}\u{feff}\u{fffd}";
    let rule = |(at, char): (usize, char)| {
        let rule = [
            ("alert", format!("Rule{at}{char}")),
            ("expr", "lag > 1".to_owned()),
            ("stream", format!("a{char}b")),
            ("group", format!("*{char}")),
        ];
        let mut rule: serde_yaml::Mapping =
            rule.into_iter().map(|(key, text)| (key.into(), Value::from(text))).collect();
        let texts = serde_yaml::Mapping::from_iter([(
            "summary".into(),
            format!("{char} {{{{ $value }}}}{char}").into(),
        )]);
        rule.insert("annotations".into(), texts.into());
        Value::from(rule)
    };
    let rules: Vec<_> = special.chars().enumerate().map(rule).collect();
    let rules = serde_yaml::to_string(&rules).expect("rules are YAML");
    let rules = rules.replace('\n', "\n  ");
    let config = ConfigFile::new(&format!(
        "targets: [{{url: 'redis://cache'}}]\nalerts:\n  recommended: false\n  rules:\n  {rules}\n"
    ));
    let text = printed(config.command("rules")).await;
    assert_eq!(values(&text, "alert").len(), special.chars().count());
    let file = config.put("r.yml", &text);
    promtool(
        config.path().parent().expect("it is in a folder"),
        &["check", "rules", file.to_str().expect("a path")],
    );
}
