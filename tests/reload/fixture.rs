//! An exporter with a file that changes.

use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::http::{self, Response};
use crate::support::metrics::{Metrics, named};
use crate::support::program::Exporter;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_until;

/// Generous: the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Polls in quick succession, and allows reloads over HTTP.
pub(crate) const QUICK: &str = "poll: {interval: 200ms, timeout: 190ms, stale_after: 30s, discovery_interval: 200ms}\nweb: {enable_reload: true}\n";

/// An exporter and its file.
pub(crate) struct Reloading {
    pub(crate) file: ConfigFile,
    pub(crate) exporter: Exporter,
}

impl Reloading {
    /// Starts it with this configuration.
    pub(crate) async fn start(yaml: &str) -> Self {
        let file = ConfigFile::new(yaml);
        let exporter = file.serve().serving().await;
        Self { file, exporter }
    }

    /// Writes another configuration and has it read, over HTTP.
    pub(crate) async fn try_to(&self, yaml: &str) -> Response {
        self.file.put("config.yaml", yaml);
        http::post(self.exporter.address, "/-/reload").await
    }

    /// The same, which must succeed.
    pub(crate) async fn to(&self, yaml: &str) {
        let response = self.try_to(yaml).await;
        assert_eq!((response.status.as_u16(), response.text().as_str()), (200, "reloaded\n"));
    }

    /// The pending and firing alerts: state, name, stream, since when, summary.
    pub(crate) async fn alerts(&self) -> Vec<[String; 5]> {
        let json: serde_json::Value =
            serde_json::from_str(&self.exporter.get("/api/v1/alerts").await.text()).unwrap();
        let alerts = json["data"]["alerts"].as_array().unwrap().iter().map(|alert| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let (labels, annotations) = (&alert["labels"], &alert["annotations"]);
            [
                text(&alert["state"]),
                text(&labels["alertname"]),
                text(&labels["stream"]),
                text(&alert["activeAt"]),
                text(&annotations["summary"]),
            ]
        });
        alerts.collect()
    }

    /// Waits until a condition of the metrics holds, and returns them.
    pub(crate) async fn metrics_when(&self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut found = Metrics::new();
        wait_until(SOON, what, async || {
            found = self.exporter.metrics().await;
            holds(&found)
        })
        .await;
        found
    }
}

/// A server with the streams `a` and `b` of ten entries each, and a group `g` of each that has read one.
pub(crate) async fn server() -> (Server, RedisClient) {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for key in ["a", "b"] {
        for n in 0..10 {
            client.run(&format!("XADD {key} * n {n}")).await;
        }
        client.run(&format!("XGROUP CREATE {key} g 0\nXREADGROUP GROUP g c COUNT 1 STREAMS {key} >")).await;
    }
    (server, client)
}

/// Returns true if a target has series.
pub(crate) fn has_target(metrics: &Metrics, target: &str) -> bool {
    metrics.keys().any(|series| series.contains(&format!("target=\"{target}\"")))
}

/// The value of the one series of this name that holds all these pieces; `None` where there is none.
pub(crate) fn value(metrics: &Metrics, name: &str, pieces: &[&str]) -> Option<f64> {
    let found = named(metrics, name);
    let mut found = found.into_iter().filter(|(series, _)| pieces.iter().all(|piece| series.contains(piece)));
    found.next().map(|(_, value)| value)
}

/// Returns 1 if the last reload is reported as successful.
pub(crate) fn was_successful(metrics: &Metrics) -> f64 {
    metrics["streamgauge_config_last_reload_successful"]
}
