//! One running Alertmanager: private, on loopback, with its data in a temporary folder; killed on drop.

use std::time::Duration;

use serde_json::Value;

use super::http;
use super::metrics;
use super::process::Process;
use super::server::tail;
use super::wait::wait_for;

/// Time limit for the start.
const DEADLINE: Duration = Duration::from_secs(20);

/// A configuration that sends no notification.
pub const SILENT: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// An Alertmanager that a test started.
#[derive(Debug)]
pub struct Alertmanager {
    pub process: Process,
    args: Vec<String>,
    /// Path prefix of its API: empty, or `/prefix`.
    prefix: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

impl Alertmanager {
    /// Starts one without notifications; `None` only under `STREAMGAUGE_SKIP_PEERS=1`.
    pub async fn start() -> Option<Self> {
        let mut alertmanager = Self::with(SILENT)?;
        alertmanager.launch().await;
        Some(alertmanager)
    }

    /// Returns an Alertmanager with this configuration that is not started yet.
    pub fn with(config: &str) -> Option<Self> {
        let process = Process::of("prometheus-alertmanager", "Alertmanager")?;
        process.put("config.yml", config);
        Some(Self { process, args: Vec::new(), prefix: "", headers: Vec::new() })
    }

    /// Serves it below a path.
    pub fn below(mut self, prefix: &'static str) -> Self {
        self.args.push(format!("--web.route-prefix={prefix}"));
        self.prefix = prefix;
        self
    }

    /// Adds a web configuration file, and the headers that requests need then.
    pub fn guarded(mut self, web_config: &str, headers: &[(&'static str, &'static str)]) -> Self {
        let path = self.process.put("web.yml", web_config);
        self.args.push(format!("--web.config.file={}", path.display()));
        self.headers = headers.to_vec();
        self
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.process.address())
    }

    /// Starts it and waits until it listens.
    pub async fn launch(&mut self) {
        let path = |name| self.process.path(name).display().to_string();
        let mut args = vec![
            format!("--config.file={}", path("config.yml")),
            format!("--storage.path={}", path("data")),
            format!("--web.listen-address={}", self.process.address()),
            "--cluster.listen-address=".to_owned(),
        ];
        args.extend_from_slice(&self.args);
        self.process.start(args);
        wait_for(DEADLINE, "Alertmanager listens", async || {
            let log = self.process.log();
            if log.contains("TLS is ") { Ok(()) } else { Err(tail(&log, 10)) }
        })
        .await;
    }

    /// Returns its firing alerts.
    pub async fn alerts(&self) -> Vec<Value> {
        serde_json::from_str(&self.get("/api/v2/alerts").await).expect("alerts are a list in JSON")
    }

    /// Returns true if it has an alert for this group. The name must need no escaping.
    pub async fn shows_group(&self, group: &str) -> bool {
        self.get(&format!("/api/v2/alerts?filter=group%3D%22{group}%22")).await.trim() != "[]"
    }

    /// Returns the number of firing alerts that it received, including repetitions.
    pub async fn received(&self) -> f64 {
        let series = "alertmanager_alerts_received_total{status=\"firing\",version=\"v2\"}";
        metrics::parse(&self.get("/metrics").await)[series]
    }

    async fn get(&self, path: &str) -> String {
        let path = format!("{}{path}", self.prefix);
        let response = http::get_with(self.process.address(), &path, &self.headers).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.text()
    }

    /// Returns the label `group` of its alerts, sorted.
    pub async fn groups(&self) -> Vec<String> {
        let label = |alert: Value| alert["labels"]["group"].as_str().expect("the label is there").to_owned();
        let mut groups: Vec<_> = self.alerts().await.into_iter().map(label).collect();
        groups.sort_unstable();
        groups
    }

    /// Waits until it has one alert for each of these groups and no others.
    pub async fn shows(&self, groups: &[&str]) {
        wait_for(DEADLINE, &format!("Alertmanager shows {groups:?}"), async || {
            let shown = self.groups().await;
            if shown == groups { Ok(()) } else { Err(format!("it shows {shown:?}")) }
        })
        .await;
    }
}
