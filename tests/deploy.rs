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
use streamgauge::alert::recommended;
use streamgauge::cli::Cli;
use streamgauge::config::load;

use support::alertmanager::Alertmanager;
use support::client::RedisClient;
use support::config::ConfigFile;
use support::peers;
use support::program::Streamgauge;
use support::repository::{files, read, root};
use support::server::Server;
use support::servers::newest;

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
            container["image"].as_str().is_some_and(|image| image.contains("streamgauge"))
        });
        for container in ours {
            let arguments = [strings(&container["command"]), strings(&container["args"])].concat();
            commands.extend((!arguments.is_empty()).then(|| (path.clone(), arguments.join(" "))));
        }
    }
    let unit = read("deploy/systemd/streamgauge.service");
    let started = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=streamgauge "));
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
                let known = ["/-/healthy", "/-/ready", "/api/v1/probe"];
                assert!(known.contains(&probed.split('?').next().unwrap()), "{path}: {probed}");
                probes += 1;
            }
            if mapping["name"] == "metrics" {
                let port = mapping.get("containerPort").or(mapping.get("port"));
                assert_eq!(port.and_then(Value::as_u64), Some(10121), "{path}");
                ports += 1;
            }
        }
    }
    assert_eq!((probes, ports), (5, 5));
}

#[tokio::test]
async fn the_probe_of_the_worker_is_answered_by_the_streamgauge_beside_it() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD jobs * n 1\nXGROUP CREATE jobs workers 0").await;
    let worker = &documents(&read("deploy/kubernetes/worker.yaml"))[0]["spec"]["template"]["spec"];
    let beside = &worker["initContainers"][0];
    let arguments = strings(&beside["args"]).into_iter().skip(1).map(|argument| match argument {
        "redis://redis:6379" => server.url(),
        other => other.to_owned(),
    });
    let exporter = Streamgauge::serve().args(arguments).serving().await;
    let probe = &worker["containers"][0]["livenessProbe"]["httpGet"];
    assert_eq!(probe["port"], beside["ports"][0]["containerPort"]);
    let path = probe["path"].as_str().unwrap();
    let answer = exporter.get(path).await;
    assert_eq!(answer.status, 200, "{path}");
    // A misspelled condition is an error, and does not pass for ever.
    assert_eq!(exporter.get(&path.replace("stalled", "stale")).await.status, 400);
    exporter.stop().await;
}

#[test]
fn the_prometheus_rule_holds_the_rules_of_dashboards() {
    let groups = |path: &str| documents(&read(path))[0]["groups"].as_sequence().unwrap().clone();
    let expected = [groups("dashboards/alerts.yml"), groups("dashboards/rules.yml")].concat();
    let rule = &documents(&read("deploy/kubernetes/prometheusrule.yaml"))[0];
    let holds = rule["spec"]["groups"].as_sequence() == Some(&expected);
    assert!(holds, "run `scripts/prometheus-rule.sh >deploy/kubernetes/prometheusrule.yaml`");
}

/// Runs a step of a release.
fn release(step: &str) -> String {
    let output = Command::new(root().join("scripts/release.sh")).arg(step).output().unwrap();
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_version_is_everywhere_and_has_its_changes() {
    release("check");
    let version = env!("CARGO_PKG_VERSION");
    for (path, object) in objects() {
        for image in mappings(&object).iter().filter_map(|container| container["image"].as_str()) {
            let tag = image.strip_prefix("REGISTRY/streamgauge:").unwrap_or(version);
            assert_eq!(tag, version, "{path}");
        }
    }
    let notes = release("notes");
    assert!(notes.contains("\n* [") && !notes.contains("\n## "), "{notes}");
    let tagged = Regex::new(r"^\* \[(CHANGE|FEATURE|ENHANCEMENT|BUGFIX|SECURITY)\] \S.*[.:]$").unwrap();
    for line in notes.lines().filter(|line| line.starts_with(['*', '-', ' '])) {
        assert!(tagged.is_match(line), "CHANGELOG.md: {line}");
    }
}

#[test]
fn a_debian_package_takes_files_that_exist() {
    let manifest = read("Cargo.toml");
    let (_, section) = manifest.split_once("[package.metadata.deb]").unwrap();
    let source = Regex::new(r#"(?m)^    \["([^"]+)", "#).unwrap();
    let mut sources = 0;
    for found in source.captures_iter(section).filter(|found| !found[1].starts_with("target/")) {
        let path = root().join(found[1].trim_end_matches('*'));
        let (folder, start) = (path.parent().unwrap(), path.file_name().unwrap().to_string_lossy());
        let mut names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.any(|name| name.to_string_lossy().starts_with(&*start)), "{}", &found[1]);
        sources += 1;
    }
    assert!(sources > 3, "{sources}");
    for script in ["postinst", "prerm", "postrm"] {
        assert!(read(&format!("deploy/debian/{script}")).contains("\n#DEBHELPER#\n"), "{script}");
    }
}

#[test]
fn workflows_name_actions_by_commit() {
    let action = Regex::new(r"uses: [\w./-]+@[0-9a-f]{40} # v").unwrap();
    for (path, text) in files(".github/workflows") {
        for line in text.lines().filter(|line| line.contains("uses:")) {
            assert!(action.is_match(line), "{path}: {line}");
        }
    }
}

/// Returns what Helm renders with these values, in JSON, or its error.
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
    // The notes are text; Helm's command line leaves them out.
    let text = said(&output.stdout);
    let sources = text.split("# Source: ").filter(|source| !source.contains("/NOTES.txt\n"));
    let manifests = sources.filter_map(|source| source.split_once('\n')).map(|(_, manifest)| manifest);
    Ok(manifests.flat_map(documents).filter(Value::is_mapping).collect())
}

/// Returns the one object of a kind.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = objects.iter().filter(|one| one["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {found:?}");
    found[0]
}

/// Returns the pod template and the container of a workload.
fn pod_of(workload: &Value) -> (&Value, &Value) {
    let pod = &workload["spec"]["template"]["spec"];
    (pod, &pod["containers"][0])
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<_> = objects.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

/// Returns a value that is written as JSON.
fn json(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn helm_lints_the_chart_and_refuses_values_that_cannot_work() {
    let Some(helm) = peers::find("helm") else { return };
    let chart = root().join("deploy/helm/streamgauge");
    let output = Command::new(&helm).args(["lint", "--strict"]).arg(chart).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    let config = |rest: &str| format!(r#""config": {{"targets": [{{"url": "redis://a"}}], {rest}}}"#);
    let certificates =
        config(r#""web": {"tls_server_config": {"client_auth_type": "RequireAnyClientCert"}}"#);
    let tls = config(r#""web": {"tls_server_config": {"cert_file": "a"}}"#);
    let users = config(r#""web": {"basic_auth_users": {"a": "b"}}"#);
    let rules = config(r#""alerts": {"rules": [{"alert": "A"}]}"#);
    for (values, error) in [
        (r#""targets": []"#.to_owned(), "targets"),
        (r#""config": {"targets": []}"#.to_owned(), "targets"),
        (r#""image": {"repository": ""}"#.to_owned(), "repository"),
        (r#""image": {"digest": "latest"}"#.to_owned(), "digest"),
        (r#""shards": 2, "replicas": 2"#.to_owned(), "one pod for each shard"),
        (
            r#""shards": 2, "persistence": {"enabled": true, "existingClaim": "a"}"#.to_owned(),
            "persistence.existingClaim",
        ),
        (r#""existingConfigMap": "a", "existingConfigSecret": "b""#.to_owned(), "are both set"),
        (config(r#""web": {"listen": "here"}"#), "does not end in a port number"),
        (certificates, "config.web.probe_listen"),
        (format!(r#"{tls}, "serviceMonitor": {{"enabled": true}}"#), "serviceMonitor.tlsConfig"),
        (format!(r#"{users}, "serviceMonitor": {{"enabled": true}}"#), "serviceMonitor.basicAuth"),
        (format!(r#"{rules}, "prometheusRule": {{"enabled": true}}"#), "streamgauge rules --config FILE"),
        (r#""prometheusRule": {"enabled": true, "file": "a: b"}"#.to_owned(), "expected a rule file"),
        (r#""ingress": {"enabled": true}"#.to_owned(), "ingress.host"),
    ] {
        let refused = rendered(&helm, &format!("{{{values}}}")).expect_err(&values);
        assert!(refused.contains(error), "{values}: {refused}");
    }
}

#[test]
fn the_chart_renders_each_optional_object_on_request() {
    let Some(helm) = peers::find("helm") else { return };
    let plain = rendered(&helm, "{}").unwrap();
    assert_eq!(kinds(&plain), ["ConfigMap", "Deployment", "Pod", "Service"]);
    let all = r#"{"existingSecret": "mine", "env": [{"name": "A", "value": "b"}], "image": {"tag": "1"},
        "config": {"targets": [{"url": "redis://cache", "labels": {"team": "billing"}}]},
        "serviceMonitor": {"enabled": true, "labels": {"release": "p"}}, "prometheusRule": {"enabled": true},
        "dashboard": {"enabled": true, "annotations": {"grafana_folder": "Redis"}},
        "serviceAccount": {"create": true}, "ingress": {"enabled": true, "host": "a.example.com"},
        "networkPolicy": {"enabled": true, "egress": [{"to": [{"podSelector": {}}]}]},
        "podDisruptionBudget": {"enabled": true}, "commonLabels": {"team": "billing"}}"#;
    let all = rendered(&helm, all).unwrap();
    let more = [
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PrometheusRule",
        "ServiceAccount",
        "ServiceMonitor",
    ];
    let expected = ["ConfigMap", "ConfigMap", "Deployment"].into_iter().chain(more[..2].iter().copied());
    let expected: Vec<_> = expected
        .chain(["Pod"])
        .chain(more[2..4].iter().copied())
        .chain(["Service"])
        .chain(more[4..].iter().copied())
        .collect();
    assert_eq!(kinds(&all), expected);
    assert!(all.iter().all(|one| one["metadata"]["labels"]["team"] == "billing"));

    let (pod, container) = pod_of(of_kind(&all, "Deployment"));
    assert_eq!(container["image"], "streamgauge:1");
    assert_eq!(pod["serviceAccountName"], "demo-streamgauge");
    let mounts = container["volumeMounts"].as_sequence().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/run/secrets/streamgauge"), "{mounts:?}");
    let tests = of_kind(&all, "Pod")["spec"]["containers"].as_sequence().unwrap();
    for container in [container].into_iter().chain(tests) {
        Cli::try_parse_from(["streamgauge"].into_iter().chain(strings(&container["args"]))).unwrap();
    }
    let labels = &of_kind(&all, "Service")["metadata"]["labels"];
    let monitor = &of_kind(&all, "ServiceMonitor")["spec"];
    for (name, value) in monitor["selector"]["matchLabels"].as_mapping().unwrap() {
        assert_eq!(labels[name], *value, "the Service is not found");
    }
    let own = &documents(&read("deploy/kubernetes/prometheusrule.yaml"))[0]["spec"]["groups"];
    assert_eq!(of_kind(&all, "PrometheusRule")["spec"]["groups"], *own);

    let texts: Vec<_> = all.iter().filter(|one| one["kind"] == "ConfigMap").map(|map| &map["data"]).collect();
    let config = texts.iter().find_map(|data| data["streamgauge.yaml"].as_str()).unwrap();
    load::from_text("chart", config, Path::new(""), &|_| None).unwrap();
    let dashboard = texts.iter().find_map(|data| data["streamgauge.json"].as_str()).unwrap();
    assert_eq!(dashboard.trim(), read("dashboards/streamgauge.json").trim());
}

#[test]
fn ports_and_probes_of_the_chart_follow_the_configuration() {
    let Some(helm) = peers::find("helm") else { return };
    let metrics = "{name: metrics, containerPort: 9999}";
    let probes = "{name: probes, containerPort: 10122}";
    let required = r#""client_auth_type": "RequireAnyClientCert""#;
    for (web, ports, probe, scheme) in [
        (r#""listen": "[::]:9999""#.to_owned(), vec![metrics], "{port: metrics, scheme: HTTP}", "http"),
        (
            r#""listen": ":9999", "tls_server_config": {"cert_file": "a"}"#.to_owned(),
            vec![metrics],
            "{port: metrics, scheme: HTTPS}",
            "https",
        ),
        (
            format!(r#""listen": 9999, "tls_server_config": {{{required}}}, "probe_listen": "[::]:10122""#),
            vec![metrics, probes],
            "{port: probes}",
            "https",
        ),
    ] {
        let values = format!(
            r#"{{"config": {{"targets": [{{"url": "redis://a"}}], "web": {{{web}}}}},
                "serviceMonitor": {{"enabled": true, "tlsConfig": {{"serverName": "a"}}}}}}"#
        );
        let objects = rendered(&helm, &values).unwrap();
        let (_, container) = pod_of(of_kind(&objects, "Deployment"));
        assert_eq!(container["ports"], json(&format!("[{}]", ports.join(", "))), "{web}");
        for (name, path) in [("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready")] {
            let mut expected = json(probe);
            expected["path"] = path.into();
            assert_eq!(container[name]["httpGet"], expected, "{web}");
        }
        assert_eq!(of_kind(&objects, "Service")["spec"]["ports"][0]["port"], 9999, "{web}");
        assert_eq!(of_kind(&objects, "ServiceMonitor")["spec"]["endpoints"][0]["scheme"], scheme, "{web}");
        // The test asks the Service where it may without a certificate.
        let tests = of_kind(&objects, "Pod")["spec"]["containers"].as_sequence().unwrap().len();
        assert_eq!(tests, if scheme == "http" { 2 } else { 1 }, "{web}");
    }
}

#[test]
fn shards_of_the_chart_are_pods_with_a_volume_each() {
    let Some(helm) = peers::find("helm") else { return };
    let objects = rendered(&helm, r#"{"shards": 3, "persistence": {"enabled": true}}"#).unwrap();
    let workload = of_kind(&objects, "StatefulSet");
    assert_eq!(workload["spec"]["replicas"], 3);
    let (_, container) = pod_of(workload);
    let variable = |name: &str| {
        let variables = container["env"].as_sequence().unwrap();
        variables.iter().find(|variable| variable["name"] == name).unwrap()["value"].as_str().unwrap()
    };
    let shard = variable("STREAMGAUGE_SHARD").replace("$(POD_INDEX)", "2");
    let cli = Cli::try_parse_from(["streamgauge", "serve", "--shard", &shard]);
    assert!(cli.is_ok() && shard == "2/3", "{shard}");
    let mounts = container["volumeMounts"].as_sequence().unwrap();
    let claim = &workload["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
    let mount = mounts.iter().find(|mount| mount["name"] == *claim).unwrap();
    assert_eq!(mount["mountPath"], variable("STATE_DIRECTORY"));
    let claimed = rendered(&helm, r#"{"persistence": {"enabled": true, "existingClaim": "mine"}}"#).unwrap();
    let workload = of_kind(&claimed, "StatefulSet");
    assert!(workload["spec"].get("volumeClaimTemplates").is_none());
    let volumes = pod_of(workload).0["volumes"].as_sequence().unwrap();
    assert!(volumes.iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == "mine"));
}

/// Returns the names of the alerts in the PrometheusRule that these values make.
fn alerts_of(helm: &Path, values: &str) -> Vec<String> {
    let objects = rendered(helm, values).unwrap_or_else(|error| panic!("{values}: {error}"));
    let groups = of_kind(&objects, "PrometheusRule")["spec"]["groups"].as_sequence().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap());
    rules.filter_map(|rule| rule["alert"].as_str().map(str::to_owned)).collect()
}

#[test]
fn the_rules_of_the_chart_are_those_that_streamgauge_does_not_send() {
    let Some(helm) = peers::find("helm") else { return };
    let config = |alerts: &str| {
        format!(r#""config": {{"targets": [{{"url": "redis://a"}}], "alerts": {{{alerts}}}}}"#)
    };
    let rule = |file: &str| {
        let file = serde_json::to_string(file).unwrap();
        format!(r#""prometheusRule": {{"enabled": true, "file": {file}}}"#)
    };
    let names: Vec<_> = recommended::names().collect();
    let prometheus_only: Vec<_> =
        recommended::prometheus_only(&[], None).iter().map(|rule| rule.name.to_owned()).collect();
    assert_eq!(alerts_of(&helm, &format!("{{{}}}", rule(""))), names);
    let notifiers = r#""notifiers": [{"name": "a", "slack": {"webhook_url": "https://a"}}]"#;
    let notified = format!("{{{}, {}}}", config(notifiers), rule(""));
    assert_eq!(alerts_of(&helm, &notified), prometheus_only);
    let disabled = format!("{{{}, {}}}", config(r#""disable": ["RedisStreamMissing"]"#), rule(""));
    let others: Vec<_> = names.iter().copied().filter(|name| *name != "RedisStreamMissing").collect();
    assert_eq!(alerts_of(&helm, &disabled), others);
    let none = format!("{{{}, {}}}", config(r#""recommended": false"#), rule(""));
    assert_eq!(alerts_of(&helm, &none), Vec::<String>::new());

    // Rules of one's own, as `streamgauge rules` prints them.
    let own = r#""recommended": false, "rules": [{"alert": "Mine", "expr": "lag > 5"}]"#;
    let file = ConfigFile::new(&format!("{{targets: [{{url: 'redis://a'}}], alerts: {{{own}}}}}"));
    let printed =
        Command::new(env!("CARGO_BIN_EXE_streamgauge")).args(["rules", "--config"]).arg(file.path()).output();
    let printed = String::from_utf8(printed.unwrap().stdout).unwrap();
    assert_eq!(alerts_of(&helm, &format!("{{{}, {}}}", config(own), rule(&printed))), ["Mine"]);
}

#[test]
fn the_readme_of_the_chart_lists_its_values() {
    let values = documents(&read("deploy/helm/streamgauge/values.yaml")).remove(0);
    let names: BTreeSet<_> = values.as_mapping().unwrap().keys().filter_map(Value::as_str).collect();
    let readme = read("deploy/helm/streamgauge/README.md");
    let rows = readme
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    assert_eq!(rows.collect::<BTreeSet<_>>(), names);
    let schema: serde_json::Value =
        serde_json::from_str(&read("deploy/helm/streamgauge/values.schema.json")).unwrap();
    let known = schema["properties"].as_object().unwrap().keys().map(String::as_str);
    // `global` is Helm's own.
    assert_eq!(known.filter(|name| *name != "global").collect::<BTreeSet<_>>(), names);
}

#[test]
fn promtool_accepts_the_configuration_of_prometheus() {
    let Some(promtool) = peers::find("promtool") else { return };
    let folder = ConfigFile::new("");
    folder.put("alerts.yml", &read("dashboards/alerts.yml"));
    folder.put("rules.yml", &read("dashboards/rules.yml"));
    // The receiver of the OpenTelemetry Collector has a configuration of Prometheus in its own.
    let collector = &documents(&read("deploy/opentelemetry/collector.yaml"))[0];
    let receiver = serde_yaml::to_string(&collector["receivers"]["prometheus"]["config"]).unwrap();
    for text in [read("deploy/compose/prometheus.yml"), receiver] {
        let config = folder.put("prometheus.yml", &text);
        let output = Command::new(&promtool).args(["check", "config"]).arg(config).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}\n{text}");
    }
}

#[test]
fn every_scrape_keeps_the_labels_of_the_series() {
    let collector = read("deploy/opentelemetry/collector.yaml");
    let prometheus = read("deploy/compose/prometheus.yml");
    for (text, jobs) in [(collector, 1), (prometheus, 2)] {
        assert_eq!(text.matches("honor_labels: true").count(), jobs, "{text}");
        assert_eq!(text.matches("job_name:").count(), jobs, "{text}");
    }
    // Each pipeline names components that exist.
    let collector = &documents(&read("deploy/opentelemetry/collector.yaml"))[0];
    for (part, names) in collector["service"]["pipelines"]["metrics"].as_mapping().unwrap() {
        for name in strings(names) {
            assert!(collector[part].get(name).is_some(), "{part:?}: {name}");
        }
    }
    assert!(read("deploy/alloy/streamgauge.alloy").contains("honor_labels    = true"));
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
    let unit = unit.replace("ExecStart=streamgauge ", &format!("ExecStart={} ", program.display()));
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
