//! Checks deploy/: commands and configurations are accepted, addresses and files exist.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use regex::Regex;
use serde::Deserialize as _;
use serde_yaml::Value;
use streamgauge::cli::Cli;
use streamgauge::config::load;

use support::alertmanager::Alertmanager;
use support::config::ConfigFile;
use support::peers;
use support::repository::{files, read, root};

/// The documents of a YAML file.
fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// Every document of every YAML file in deploy/, merge keys resolved; templates are none.
fn objects() -> Vec<(String, Value)> {
    let is_plain = |path: &str| !path.contains("/templates/") && !path.contains("/files/");
    let yaml = files("deploy")
        .into_iter()
        .filter(|(path, _)| (path.ends_with("yaml") || path.ends_with("yml")) && is_plain(path));
    let documents = yaml
        .flat_map(|(path, text)| documents(&text).into_iter().map(move |document| (path.clone(), document)));
    documents
        .map(|(path, mut document)| {
            document.apply_merge().unwrap();
            (path, document)
        })
        .collect()
}

/// Every mapping inside of a value, itself among them.
fn mappings(value: &Value) -> Vec<&Value> {
    let inside: Vec<_> = match value {
        Value::Mapping(mapping) => mapping.values().flat_map(mappings).collect(),
        Value::Sequence(items) => items.iter().flat_map(mappings).collect(),
        _ => Vec::new(),
    };
    if value.is_mapping() { [vec![value], inside].concat() } else { inside }
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_sequence().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn every_command_is_understood() {
    let mut commands = Vec::new();
    for (path, object) in objects() {
        let ours = mappings(&object).into_iter().filter(|container| {
            container["image"].as_str().is_some_and(|image| image.split(':').next() == Some("streamgauge"))
        });
        for container in ours {
            let arguments = [strings(&container["command"]), strings(&container["args"])].concat();
            commands.extend((!arguments.is_empty()).then(|| (path.clone(), arguments.join(" "))));
        }
    }
    let unit = read("deploy/systemd/streamgauge.service");
    let started = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/streamgauge "));
    commands.extend(started.map(|arguments| ("systemd".to_owned(), arguments.to_owned())));
    assert!(!commands.is_empty());
    for (path, command) in commands {
        if let Err(error) = Cli::try_parse_from(["streamgauge"].into_iter().chain(command.split(' '))) {
            panic!("{path}: streamgauge {command}: {error}");
        }
    }
}

#[test]
fn every_configuration_loads() {
    let mut configurations = vec![("compose".to_owned(), read("deploy/compose/streamgauge.yaml"))];
    for (path, object) in objects().into_iter().filter(|(_, object)| object["kind"] == "ConfigMap") {
        configurations.push((path, object["data"]["streamgauge.yaml"].as_str().unwrap().to_owned()));
    }
    let folder = ConfigFile::new("");
    let password = folder.put("redis-password", "secret");
    for (path, text) in configurations {
        let text = text.replace("/run/secrets/streamgauge/redis-password", password.to_str().unwrap());
        let loaded = load::from_text(&path, &text, Path::new(""), &|_| None);
        loaded.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[test]
fn addresses_lead_to_services_and_mounts_to_files() {
    let compose = &documents(&read("deploy/compose.yaml"))[0];
    let services: BTreeSet<_> =
        compose["services"].as_mapping().unwrap().keys().filter_map(Value::as_str).collect();
    let address = Regex::new(r#"(?:"|//)([a-z-]+):(\d{4,5})\b"#).unwrap();
    let mut seen = BTreeSet::new();
    for (path, text) in
        files("deploy/compose").into_iter().chain([("compose".into(), read("deploy/compose.yaml"))])
    {
        for found in address.captures_iter(&text).filter(|found| &found[1] != "localhost") {
            assert!(services.contains(&found[1]), "{path}: there is no service {}", &found[1]);
            seen.insert(found[1].to_owned());
        }
    }
    assert!(seen.len() >= 6, "{seen:?}");
    for (name, service) in compose["services"].as_mapping().unwrap() {
        for mount in strings(&service["volumes"]) {
            let file = root().join("deploy").join(mount.split(':').next().unwrap());
            assert!(file.is_file(), "{name:?}: there is no {}", file.display());
        }
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name:?}: {port} is open to others");
        }
    }
}

#[test]
fn kubernetes_asks_where_streamgauge_answers() {
    let (mut probes, mut ports) = (0, 0);
    for (path, object) in objects().into_iter().filter(|(path, _)| path.contains("/kubernetes/")) {
        for mapping in mappings(&object) {
            if let Some(probed) = mapping["httpGet"]["path"].as_str() {
                assert!(["/-/healthy", "/-/ready"].contains(&probed), "{path}: {probed}");
                probes += 1;
            }
            if mapping["name"] == "metrics" {
                let port = mapping.get("containerPort").or(mapping.get("port"));
                assert_eq!(port.and_then(Value::as_u64), Some(10121), "{path}");
                ports += 1;
            }
        }
    }
    assert_eq!((probes, ports), (3, 4));
}

#[test]
fn the_prometheus_rule_holds_the_rules_of_dashboards() {
    let groups = |path: &str| documents(&read(path))[0]["groups"].as_sequence().unwrap().clone();
    let expected = [groups("dashboards/alerts.yml"), groups("dashboards/rules.yml")].concat();
    let rule = &documents(&read("deploy/kubernetes/prometheusrule.yaml"))[0];
    let holds = rule["spec"]["groups"].as_sequence() == Some(&expected);
    assert!(holds, "run `scripts/prometheus-rule.sh >deploy/kubernetes/prometheusrule.yaml`");
}

/// What Helm makes of the chart with these values, in JSON; an error is what it says.
fn rendered(helm: &Path, values: &str) -> Result<Vec<Value>, String> {
    let folder = ConfigFile::new("");
    let chart = root().join("deploy/helm/streamgauge");
    let values = folder.put("values.json", values);
    let output =
        Command::new(helm).args(["template", "demo"]).arg(chart).arg("--values").arg(values).output();
    let output = output.unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        return Err(said(&output.stderr));
    }
    Ok(documents(&said(&output.stdout)).into_iter().filter(Value::is_mapping).collect())
}

#[test]
fn helm_lints_the_chart_and_refuses_unknown_values() {
    let Some(helm) = peers::find("helm") else { return };
    let chart = root().join("deploy/helm/streamgauge");
    let output = Command::new(&helm).args(["lint", "--strict"]).arg(chart).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    for wrong in [r#"{"targets": []}"#, r#"{"config": {"targets": []}}"#, r#"{"image": {"repository": ""}}"#]
    {
        assert!(rendered(&helm, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_chart_renders_each_optional_object_on_request() {
    let Some(helm) = peers::find("helm") else { return };
    let kinds = |objects: &[Value]| {
        objects.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let plain = rendered(&helm, "{}").unwrap();
    assert_eq!(kinds(&plain), ["ConfigMap", "Deployment", "Service"]);
    let all = r#"{"existingSecret": "mine", "env": [{"name": "A", "value": "b"}], "image": {"tag": "1"},
        "config": {"targets": [{"url": "redis://cache", "labels": {"team": "billing"}}]},
        "serviceMonitor": {"enabled": true, "labels": {"release": "p"}}, "prometheusRule": {"enabled": true},
        "dashboard": {"enabled": true}}"#;
    let all = rendered(&helm, all).unwrap();
    let of_kind = |kind: &str| all.iter().filter(|one| one["kind"] == kind).cloned().collect::<Vec<_>>();
    assert_eq!(all.len(), 6, "{:?}", kinds(&all));

    let container = &of_kind("Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "streamgauge:1");
    Cli::try_parse_from(["streamgauge"].into_iter().chain(strings(&container["args"]))).unwrap();
    assert_eq!(container["volumeMounts"][1]["mountPath"], "/run/secrets/streamgauge");
    let labels = &of_kind("Service")[0]["metadata"]["labels"];
    for (name, value) in of_kind("ServiceMonitor")[0]["spec"]["selector"]["matchLabels"].as_mapping().unwrap()
    {
        assert_eq!(labels[name], *value, "the Service is not found");
    }
    let rules = |groups: &Value| groups["groups"].as_sequence().unwrap().clone();
    let own = &documents(&read("deploy/kubernetes/prometheusrule.yaml"))[0]["spec"];
    assert_eq!(rules(&of_kind("PrometheusRule")[0]["spec"]), rules(own));

    let texts = of_kind("ConfigMap").into_iter().map(|map| map["data"].clone()).collect::<Vec<_>>();
    let config = texts.iter().find_map(|data| data["streamgauge.yaml"].as_str()).unwrap();
    load::from_text("chart", config, Path::new(""), &|_| None).unwrap();
    let dashboard = texts.iter().find_map(|data| data["streamgauge.json"].as_str()).unwrap();
    assert_eq!(dashboard.trim(), read("dashboards/streamgauge.json").trim());
}

#[test]
fn promtool_accepts_the_configuration_of_prometheus() {
    let Some(promtool) = peers::find("promtool") else { return };
    let folder = ConfigFile::new("");
    let config = folder.put("prometheus.yml", &read("deploy/compose/prometheus.yml"));
    folder.put("alerts.yml", &read("dashboards/alerts.yml"));
    folder.put("rules.yml", &read("dashboards/rules.yml"));
    let output = Command::new(promtool).args(["check", "config"]).arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
}

#[tokio::test]
async fn alertmanager_accepts_its_configuration() {
    let config = read("deploy/compose/alertmanager.yml");
    let Some(mut alertmanager) = Alertmanager::with(&config) else { return };
    alertmanager.launch().await;
}

#[test]
fn systemd_accepts_the_unit_and_its_sandbox() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_streamgauge"));
    let unit = read("deploy/systemd/streamgauge.service");
    let unit = unit.replace("/usr/local/bin/streamgauge", program.to_str().unwrap());
    let folder = ConfigFile::new("");
    let path = folder.put("streamgauge.service", &unit);
    let Some(systemd_analyze) = peers::find("systemd-analyze") else { return };
    let analyze =
        |arguments: &[&str]| Command::new(&systemd_analyze).args(arguments).arg(&path).output().unwrap();
    let output = analyze(&["verify", "--man=no"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("streamgauge.service")).collect();
    assert!(about_it.is_empty(), "{about_it:?}");
    // The exposure level, at most 100; a unit without a sandbox has 96. Older versions lack --offline.
    let output = analyze(&["security", "--offline=yes", "--threshold=20"]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() || said.contains("unrecognized option"), "{said}");
}
