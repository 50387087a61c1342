//! Prometheus with the printed rules beside streamgauge.

use std::time::Duration;

use serde_json::Value;

use crate::support::config::serving;
use crate::support::prometheus::{Prometheus, QUICK};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::{wait_for, wait_until};

#[tokio::test]
async fn prometheus_scrapes_streamgauge_without_complaint() {
    let server = Server::start(newest(), &[]).await;
    let exporter =
        serving(&format!("poll: {{interval: 1s}}\ntargets: [{{name: t, url: '{}'}}]\n", server.url())).await;
    let Some(mut prometheus) = Prometheus::with(&format!(
        "{QUICK}rule_files: [rules.yml]
scrape_configs: [{{job_name: streamgauge, honor_labels: true, static_configs: [{{targets: ['{}']}}]}}]\n",
        exporter.address
    )) else {
        return;
    };
    prometheus.put("rules.yml", include_str!("../../dashboards/alerts.yml"));
    prometheus.launch().await;
    wait_until(Duration::from_secs(30), "a scrape", async || {
        prometheus.query("streamgauge_target_up{target=\"t\"} == 1").await.len() == 1
    })
    .await;
    wait_for(Duration::from_secs(30), "all rules were evaluated", async || {
        let rules = prometheus.rules().await;
        let is_well = |rule: &Value| rule["health"] == "ok";
        if !rules.is_empty() && rules.iter().all(is_well) { Ok(()) } else { Err(format!("{rules:?}")) }
    })
    .await;
}
