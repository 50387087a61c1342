//! One running Prometheus: private, on loopback, with its data in a temporary folder; killed on drop.
//!
//! ```ignore
//! let Some(mut prometheus) = Prometheus::with(&format!("{QUICK}scrape_configs: [..]\nrule_files: [rules.yml]\n"))
//! else { return };
//! prometheus.process.put("rules.yml", &rules);
//! prometheus.launch().await;
//! ```

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::http;
use super::process::Process;
use super::server::tail;
use super::wait::wait_for;

/// Time limit for the start.
const DEADLINE: Duration = Duration::from_secs(30);

/// Scrapes and evaluates each second.
pub const QUICK: &str = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n";

/// A Prometheus that a test started.
#[derive(Debug)]
pub struct Prometheus {
    pub process: Process,
}

impl Prometheus {
    /// Returns a Prometheus with this configuration that is not started yet; `None` only under
    /// `STREAMGAUGE_SKIP_PEERS=1`. Write the rule files that it names with [`Process::put`].
    pub fn with(config: &str) -> Option<Self> {
        let process = Process::of("prometheus", "Prometheus")?;
        process.put("config.yml", config);
        Some(Self { process })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.process.address())
    }

    /// Starts it and waits until it is ready for queries.
    pub async fn launch(&mut self) {
        let path = |name| self.process.path(name).display().to_string();
        let args = [
            format!("--config.file={}", path("config.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address={}", self.process.address()),
        ];
        self.process.start(args);
        wait_for(DEADLINE, "Prometheus is ready", async || {
            match http::try_get(self.process.address(), "/-/ready", &[]).await {
                Ok(response) if response.status == 200 => Ok(()),
                _ => Err(tail(&self.process.log(), 10)),
            }
        })
        .await;
    }

    /// Returns the samples of an instant query: each with `metric` and `value`.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        list(self.data(&format!("/api/v1/query?query={query}")).await["result"].take())
    }

    /// Returns the series of a range query up to now with steps of a second: each with `metric` and `values`.
    pub async fn query_range(&self, expression: &str, time: Duration) -> Vec<Value> {
        let now = self.query("time()").await[1].as_str().and_then(|now| now.parse::<f64>().ok());
        let end = now.expect("time() is a number");
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let start = end - time.as_secs_f64();
        let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=1");
        list(self.data(&path).await["result"].take())
    }

    /// Returns the rules of all groups: each with `name`, `state`, `health` and `alerts`.
    pub async fn rules(&self) -> Vec<Value> {
        let groups = list(self.data("/api/v1/rules").await["groups"].take());
        groups.into_iter().flat_map(|mut group| list(group["rules"].take())).collect()
    }

    /// Returns the pending and firing alerts: each with `labels`, `state` and `activeAt`.
    pub async fn alerts(&self) -> Vec<Value> {
        list(self.data("/api/v1/alerts").await["alerts"].take())
    }

    async fn data(&self, path: &str) -> Value {
        let response = http::get(self.process.address(), path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        let mut answer: Value = serde_json::from_str(&response.text()).expect("the answer is JSON");
        answer["data"].take()
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("not a list: {other}"),
    }
}
