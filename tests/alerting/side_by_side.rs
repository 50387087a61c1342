//! Prometheus with the printed rules beside streamgauge: both notify one Alertmanager.

use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value as Reply;
use redis_stream_core::clock::unix_time;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::notifications::{SOON, SentAlert, active_at, sent_alerts, until_firing, until_resolved};
use crate::support::alertmanager::Alertmanager;
use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::http::get;
use crate::support::metrics::{Metrics, named, parse};
use crate::support::program::{Exporter, Running, Streamgauge};
use crate::support::prometheus::{Prometheus, QUICK};
use crate::support::receiver::TestReceiver;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::{wait_for, wait_until};

const INTERVAL: Duration = Duration::from_secs(2);
/// No whole number of polls.
const PENDING_FOR: Duration = Duration::from_secs(3);
/// In whole polls.
const PENDING_FOR_POLLS: Duration = Duration::from_secs(4);
const THRESHOLD: usize = 50;

/// A Prometheus that scrapes an exporter, evaluates what `streamgauge rules` prints, and notifies `receiver`.
async fn prometheus(
    config: &ConfigFile,
    exporter: &Exporter,
    receiver: &TestReceiver,
    global: &str,
) -> Option<Prometheus> {
    let mut prometheus = Prometheus::with(&format!(
        "{global}rule_files: [rules.yml]
scrape_configs: [{{job_name: streamgauge, honor_labels: true, static_configs: [{{targets: ['{}']}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n",
        exporter.address, receiver.address
    ))?;
    let rules = config.command("rules").run().await;
    assert_eq!(rules.code, Some(0), "{}", rules.stderr);
    prometheus.process.put("rules.yml", &rules.stdout);
    prometheus.launch().await;
    Some(prometheus)
}

fn workload(server: &Server, command: &str, arguments: &[&str]) -> Running {
    let url = server.url();
    Streamgauge::command(command).args(["--redis-url", &url, "--stream", "orders"]).args(arguments).spawn()
}

/// Returns when polls ended, from the exporter's own metrics.
struct Polls {
    ends: Arc<Mutex<Vec<f64>>>,
    task: JoinHandle<()>,
}

impl Polls {
    fn of(exporter: &Exporter) -> Self {
        let ends = Arc::new(Mutex::new(Vec::new()));
        let (address, noted) = (exporter.address, Arc::clone(&ends));
        let note = move |metrics: &Metrics| {
            let name = "streamgauge_last_successful_poll_timestamp_seconds";
            let Some(end) = named(metrics, name).into_values().next() else { return };
            let mut ends = noted.lock().unwrap();
            if ends.last() != Some(&end) {
                ends.push(end);
            }
        };
        let task = tokio::spawn(async move {
            loop {
                note(&parse(&get(address, "/metrics").await.text()));
                sleep(INTERVAL / 20).await;
            }
        });
        Self { ends, task }
    }

    /// Returns the time by which all polls in this time were late, as on a busy machine.
    fn late(&self, from: Duration, until: Duration) -> Duration {
        let ends = self.ends.lock().unwrap();
        let began = |pair: &&[f64]| pair[1] > from.as_secs_f64() && pair[0] < until.as_secs_f64();
        let gaps: Vec<_> = ends.windows(2).filter(began).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() > 1, "there were polls: {ends:?}");
        Duration::from_secs_f64(gaps.iter().map(|gap| (gap - INTERVAL.as_secs_f64()).max(0.0)).sum())
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When the group came to be more than [`THRESHOLD`] entries behind what it has read by now, by the clock of the
/// server, which is that of this machine.
async fn fell_behind_at(client: &mut RedisClient) -> Duration {
    let group: Vec<std::collections::HashMap<String, Reply>> =
        client.ask(&["XINFO", "GROUPS", "orders"]).await;
    let Reply::BulkString(last) = &group[0]["last-delivered-id"] else { panic!("no ID in {group:?}") };
    let after = format!("({}", String::from_utf8_lossy(last));
    let count = (THRESHOLD + 1).to_string();
    let entries: Vec<(String, Reply)> = client.ask(&["XRANGE", "orders", &after, "+", "COUNT", &count]).await;
    assert_eq!(entries.len(), THRESHOLD + 1, "it is behind");
    let (ms, _) = entries[THRESHOLD].0.split_once('-').unwrap();
    Duration::from_millis(ms.parse().unwrap())
}

#[tokio::test]
async fn a_consumer_that_slows_down_is_one_alert_of_two_senders() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let (ours, its) = (
        TestReceiver::before(alertmanager.process.address()).await,
        TestReceiver::before(alertmanager.process.address()).await,
    );
    let server = Server::start(newest(), &[]).await;
    let config = ConfigFile::new(&format!(
        "poll: {{interval: {INTERVAL:?}}}
targets: [{{name: t, url: '{}', labels: {{team: billing}}, streams: [{{key: orders}}]}}]
alerts:
  rules:
    - alert: Behind
      expr: lag > {THRESHOLD}
      for: {PENDING_FOR:?}
      labels: {{severity: page, about: '{{{{ $labels.stream }}}} of {{{{ $labels.team }}}}'}}
  notifiers: [{{name: main, alertmanager: {{urls: ['http://{}']}}}}]
",
        server.url(),
        ours.address
    ));
    let labels = json!({
        "alertname": "Behind", "target": "t", "db": "db0", "stream": "orders", "group": "mail", "team": "billing",
        "severity": "page", "about": "orders of billing"
    });
    let consumer = |arguments: &[&str]| {
        let always = ["--group", "mail", "--batch", "1", "--grace", "1s"];
        workload(&server, "consume", &[&always[..], arguments].concat())
    };
    let quick = consumer(&["--consumer", "quick"]);
    let producer = workload(&server, "produce", &["--rate", "50"]);
    let exporter = config.serve().serving().await;
    let polls = Polls::of(&exporter);
    let Some(prometheus) = prometheus(&config, &exporter, &its, QUICK).await else { return };
    wait_until(SOON, "Prometheus knows the lag", async || {
        prometheus.query("redis_stream_group_lag{group=\"mail\"} < 50").await.len() == 1
    })
    .await;
    assert!(alertmanager.alerts().await.is_empty());

    quick.stop().await;
    let slow = consumer(&["--consumer", "slow", "--work-time", "10m"]);
    let first = until_firing(&ours, "Behind").await;
    let began = fell_behind_at(&mut RedisClient::to(&server).await).await;
    let active_at = active_at(&exporter, "Behind").await;
    let late = polls.late(began, first.at);
    let took = first.at.saturating_sub(began);
    let allowed = PENDING_FOR_POLLS + INTERVAL + Duration::from_secs(1);
    assert!(first.starts_at - active_at >= PENDING_FOR, "{first:?} is active since {active_at:?}");
    assert!(took <= allowed + late, "sent after {took:?}, not {allowed:?}; polls were {late:?} late");

    // Both senders, one alert.
    until_firing(&its, "Behind").await;
    for receiver in [&ours, &its] {
        let sent = sent_alerts(receiver, "Behind");
        assert!(sent.iter().all(|sent| sent.labels == labels), "{sent:?}");
    }
    let shown = alertmanager.alerts().await;
    assert!(matches!(&shown[..], [alert] if alert["labels"] == labels), "{shown:?}");

    slow.stop().await;
    let recovered = unix_time();
    let quick = consumer(&["--consumer", "quick"]);
    for receiver in [&ours, &its] {
        let over = until_resolved(receiver, "Behind").await;
        assert!(over.at >= recovered && over.labels == labels, "{over:?}");
    }
    alertmanager.shows(&[]).await;
    let all = sent_alerts(&ours, "Behind");
    assert!(all.iter().skip_while(|sent| !sent.is_over()).all(SentAlert::is_over), "it fired once: {all:?}");
    drop((quick, producer));
}

#[tokio::test]
async fn what_prometheus_adds_makes_two_alerts_unless_streamgauge_adds_it_too() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let mut server = Server::start(newest(), &[]).await;
    RedisClient::to(&server)
        .await
        .run("XADD orders * n 1\nXADD orders * n 2\nXADD orders * n 3\nXGROUP CREATE orders mail 0")
        .await;
    let receiver = async || TestReceiver::before(alertmanager.process.address()).await;
    let (its, plain, labelled) = (receiver().await, receiver().await, receiver().await);
    let config = |external_labels: &str, receiver: &TestReceiver| {
        ConfigFile::new(&format!(
            "poll: {{interval: 1s}}
targets: [{{name: t, url: '{}'}}]
alerts:
  external_labels: {external_labels}
  rules: [{{alert: Behind, expr: lag > 2, annotations: {{summary: '{{{{ $labels.group }}}} is {{{{ $value }}}} behind'}}}}]
  notifiers: [{{name: main, alertmanager: {{urls: ['http://{}']}}}}]
",
            server.url(),
            receiver.address
        ))
    };
    let (without, with) = (config("{}", &plain), config("{dc: eu}", &labelled));
    let exporter = without.serve().serving().await;
    let second = with.serve().serving().await;
    let global = QUICK.replace("}", ", external_labels: {dc: eu}}");
    let Some(_prometheus) = prometheus(&without, &exporter, &its, &global).await else { return };
    let mut summaries = Vec::new();
    for receiver in [&plain, &labelled, &its] {
        let annotations = until_firing(receiver, "Behind").await.annotations;
        summaries.push(annotations["summary"].clone());
        // Prometheus has no values but that of the expression.
        let diagnosis = annotations["diagnosis"].as_str();
        assert_eq!(diagnosis.is_some_and(|text| text.contains("3 entries wait")), !ptr::eq(receiver, &its));
    }
    assert!(summaries.iter().all(|said| *said == "mail is 3 behind"), "{summaries:?}");
    let shows = async |expected: &[Option<&str>]| {
        wait_for(SOON, &format!("alerts with these labels dc are shown: {expected:?}"), async || {
            let alerts = alertmanager.alerts().await;
            let mut dcs: Vec<_> = alerts.iter().map(|alert| alert["labels"]["dc"].as_str()).collect();
            dcs.sort_unstable();
            if dcs == expected { Ok(()) } else { Err(format!("{dcs:?}")) }
        })
        .await;
    };
    shows(&[None, Some("eu")]).await;

    // To Prometheus what is absent is over, and who speaks last is believed; streamgauge knows better.
    server.kill();
    until_resolved(&its, "Behind").await;
    shows(&[None]).await;
    assert!(
        !sent_alerts(&plain, "Behind")
            .iter()
            .chain(&sent_alerts(&labelled, "Behind"))
            .any(SentAlert::is_over)
    );
    drop((exporter, second));
}
