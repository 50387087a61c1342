//! A scenario on a real server with two exporters that a real Prometheus scrapes: groups that are ok, lagging, stalled,
//! abandoned, stuck and losing, and the reference consumer. Every query of the dashboard returns data.

use std::collections::BTreeSet;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tokio::task::AbortHandle;

use crate::file::{Query, annotations, queries, variables};
use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::program::{Exporter, Streamgauge};
use crate::support::prometheus::{self, Prometheus};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_for;

/// Several windows and scrapes, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);
/// Time between two steps of the scenario.
const BEAT: Duration = Duration::from_millis(100);

/// Creates the groups.
const BEGINNING: &str = "
    XGROUP CREATE well g 0 MKSTREAM
    XGROUP CREATE slow g 0 MKSTREAM
    XGROUP CREATE losing g 0 MKSTREAM
    XADD draining * f v
    XGROUP CREATE draining g 0
    XREADGROUP GROUP g c STREAMS draining >
    XADD stalled * f v
    XADD stalled * f v
    XGROUP CREATE stalled g 0
    XREADGROUP GROUP g c COUNT 1 STREAMS stalled >
    XADD abandoned * f v
    XGROUP CREATE abandoned g 0
    XADD room:1 * f v
    XGROUP CREATE room:1 g 0
    XADD room:2 * f v
    XADD stuck * f v
    XGROUP CREATE stuck g 0
    XREADGROUP GROUP g c STREAMS stuck >
";
/// Keeps each group in its status.
const EACH_BEAT: &str = "
    XADD well * f v
    XREADGROUP GROUP g c NOACK STREAMS well >
    XADD slow * f v
    XADD slow * f v
    XADD slow * f v
    XREADGROUP GROUP g c COUNT 1 NOACK STREAMS slow >
    XREADGROUP GROUP g c STREAMS stalled 0
    XADD losing MAXLEN = 5 * f v
    XADD losing MAXLEN = 5 * f v
    XREADGROUP GROUP g c COUNT 5 NOACK STREAMS draining >
    XADD orders * f v
    XADD room:2 * f v
";

/// The processes of the scenario.
struct Scenario {
    prometheus: Prometheus,
    exporters: [Exporter; 2],
    _consumer: crate::support::program::Running,
    _config: ConfigFile,
    server: Server,
    beats: AbortHandle,
}

impl Drop for Scenario {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

impl Scenario {
    /// Returns `None` if there is no Prometheus and the test may be skipped.
    async fn begin() -> Option<Self> {
        let mut prometheus = Prometheus::with("")?;
        let server = Server::start(newest(), &[]).await;
        let mut client = RedisClient::to(&server).await;
        client.run(BEGINNING).await;
        let backlog = "XADD draining * f v\n".repeat(5_000);
        client.run(&backlog).await;
        let beats = tokio::spawn(async move {
            loop {
                client.run(EACH_BEAT).await;
                tokio::time::sleep(BEAT).await;
            }
        });

        let config = ConfigFile::new(&config(&server));
        let exporters = [config.serve().serving().await, config.serve().serving().await];
        let mut consumer = consumer(&server);
        let addresses = exporters.each_ref().map(|exporter| format!("'{}'", exporter.address)).join(", ");
        prometheus.process.put(
            "config.yml",
            &format!(
                "{}scrape_configs:
- {{job_name: streamgauge, honor_labels: true, static_configs: [{{targets: [{addresses}]}}]}}
- {{job_name: consumer, honor_labels: true, static_configs: [{{targets: ['{}']}}]}}\n",
                prometheus::QUICK,
                consumer.listening().await
            ),
        );
        prometheus.launch().await;
        let beats = beats.abort_handle();
        Some(Self { prometheus, exporters, _consumer: consumer, _config: config, server, beats })
    }

    /// Returns the samples of a query now, or over the last minute.
    async fn brings_data(&self, expr: &str) -> Result<Vec<Value>, String> {
        let samples = self.prometheus.query(&filled_in(expr, "10")).await;
        if samples.is_empty() { Err(format!("nothing: {expr}")) } else { Ok(samples) }
    }
}

/// A missing key and a missing group, an alert that fires at once, and a receiver that does not exist.
fn config(server: &Server) -> String {
    format!(
        "poll: {{interval: 500ms, timeout: 490ms, discovery_interval: 100ms, memory_interval: 1s}}
status: {{window: 3s}}
targets:
- name: t
  url: '{}'
  streams: [{{key: 'room:*', as: rooms}}, {{key: nowhere}}, {{key: well, groups: {{include: [g, absent]}}}}, {{key: '*'}}]
alerts:
  rules: [{{alert: Behind, expr: lag > 0, labels: {{severity: warning}}}}]
  notifiers: [{{name: hook, webhook: {{url: 'http://127.0.0.1:1'}}}}]\n",
        server.url()
    )
}

fn consumer(server: &Server) -> crate::support::program::Running {
    let url = server.url();
    let named = ["--redis-url", &url, "--stream", "orders", "--group", "mail"];
    let others = ["--fail-rate", "0.2", "--retry-delay", "100ms", "--metrics-listen", "127.0.0.1:0"];
    Streamgauge::command("consume").args(named).args(others).spawn()
}

/// Returns the query as Grafana sends it, with all values of the variables.
fn filled_in(expr: &str, top: &str) -> String {
    let chosen =
        ["$target", "$stream", "$group"].iter().fold(expr.to_owned(), |expr, name| expr.replace(name, ".*"));
    chosen
        .replace("$__rate_interval", "8s")
        .replace("$__interval", "1s")
        .replace("$__range", "60s")
        .replace("$top", top)
}

/// Returns the variable's `label_values(SERIES, LABEL)` as a query.
fn values_of(query: &str) -> (String, String) {
    let form = Regex::new(r"^label_values\((.*), (\w+)\)$").expect("right");
    let parts = form.captures(query).unwrap_or_else(|| panic!("{query} is not understood by Grafana"));
    (format!("count by ({}) ({})", &parts[2], &parts[1]), parts[2].to_owned())
}

/// Returns the labels of all samples.
fn labels(samples: &[Value]) -> BTreeSet<String> {
    let labels = samples.iter().filter_map(|sample| sample["metric"].as_object());
    labels.flat_map(|labels| labels.keys().cloned()).collect()
}

async fn every_panel_shows_data(scenario: &Scenario) {
    let legend = Regex::new(r"\{\{(\w+)\}\}").expect("right");
    let mut waiting = queries();
    wait_for(DEADLINE, "every panel shows data", async || {
        let mut missing = Vec::new();
        for query in std::mem::take(&mut waiting) {
            match scenario.brings_data(&query.expr).await {
                Ok(samples) => has_its_labels(&query, &labels(&samples), &legend),
                Err(_) => missing.push(query),
            }
        }
        waiting = missing;
        let places: Vec<_> = waiting.iter().map(|query| format!("{}: {}", query.place, query.expr)).collect();
        if places.is_empty() { Ok(()) } else { Err(places.join("\n")) }
    })
    .await;
}

/// Checks that the labels in the legend and in the columns of a table exist; the first query of a table may have fewer.
fn has_its_labels(query: &Query, labels: &BTreeSet<String>, legend: &Regex) {
    for named in legend.captures_iter(&query.legend) {
        assert!(labels.contains(&named[1]), "{}: no line has {}: {labels:?}", query.place, &named[1]);
    }
    let strange: Vec<_> = labels.iter().filter(|label| !query.columns.contains(label)).collect();
    assert!(query.columns.is_empty() || strange.is_empty(), "{}: {strange:?} would split lines", query.place);
}

async fn variables_and_marks_find_what_there_is(scenario: &Scenario) {
    for (name, query) in variables() {
        let (query, label) = values_of(query);
        wait_for(DEADLINE, &format!("the variable {name} has values"), async || {
            let samples = scenario.brings_data(&query).await?;
            let values: BTreeSet<_> =
                samples.iter().filter_map(|one| one["metric"][&label].as_str()).collect();
            let expected = match name {
                "target" => values == BTreeSet::from(["t"]),
                "stream" => values.is_superset(&BTreeSet::from(["well", "orders", "nowhere"])),
                _ => values == BTreeSet::from(["g", "mail"]),
            };
            if expected { Ok(()) } else { Err(format!("{values:?}")) }
        })
        .await;
    }
    RedisClient::to(&scenario.server).await.run("XGROUP CREATE orders another 0").await;
    for expr in annotations() {
        wait_for(DEADLINE, "an event is marked", async || scenario.brings_data(expr).await).await;
    }
}

/// Checks that each group is shown once, although two exporters report it.
async fn two_exporters_double_nothing(scenario: &Scenario) {
    let number = queries()
        .into_iter()
        .find(|query| query.place.contains("/ Groups with a problem / "))
        .expect("is there");
    wait_for(DEADLINE, "groups with a problem are counted once", async || {
        let counted = scenario.brings_data(&number.expr).await?[0]["value"][1].as_str().map(str::to_owned);
        let seen = scenario.exporters[0].metrics().await;
        let is_bad = |series: &str| {
            series.starts_with("redis_stream_group_status{")
                && !series.contains("\"ok\"")
                && !series.contains("\"unknown\"")
        };
        let of_bad = seen.keys().filter(|series| is_bad(series));
        let bad: BTreeSet<_> = of_bad.filter_map(|series| series.split(",status=").next()).collect();
        let bad = bad.len();
        if bad >= 5 && counted == Some(bad.to_string()) {
            Ok(())
        } else {
            Err(format!("{counted:?} of {bad}"))
        }
    })
    .await;
}

/// Checks that a ranking is over the whole time range, not at each step.
async fn no_more_lines_are_drawn_than_were_asked_for(scenario: &Scenario) {
    for query in queries().into_iter().filter(|query| query.is_drawn && query.expr.contains("topk($top")) {
        let lines =
            scenario.prometheus.query_range(&filled_in(&query.expr, "2"), Duration::from_secs(30)).await;
        // A query that ranks at each step must have few series to choose from.
        let few = ["notifier", "route", "instance", "target"];
        let is_steady = query.expr.contains("@ end()");
        let is_of_few = few.iter().any(|label| query.legend.contains(&format!("{{{{{label}}}}}")));
        assert!(is_steady || is_of_few, "{}: {}", query.place, query.expr);
        assert!(!is_steady || lines.len() <= 2, "{}: {} lines", query.place, lines.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_brings_data_of_a_story_with_real_servers() {
    if newest().version < (7, 2, 0) {
        eprintln!(
            "not checked: before server 7.2 some of the metrics are not there; `make servers` brings newer ones"
        );
        return;
    }
    let Some(scenario) = Scenario::begin().await else { return };
    every_panel_shows_data(&scenario).await;
    variables_and_marks_find_what_there_is(&scenario).await;
    two_exporters_double_nothing(&scenario).await;
    no_more_lines_are_drawn_than_were_asked_for(&scenario).await;
}
