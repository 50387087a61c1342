//! From a group on a real server, through the whole program, to a real Alertmanager.

use crate::support::alertmanager::Alertmanager;
use crate::support::client::RedisClient;
use crate::support::config::serving;
use crate::support::server::Server;
use crate::support::servers::newest;

#[tokio::test]
async fn an_alert_on_a_real_group_reaches_alertmanager_and_resolves() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client
        .run(
            "XGROUP CREATE orders mail 0 MKSTREAM
         XADD orders * n 1
         XADD orders * n 2",
        )
        .await;
    let exporter = serving(&format!(
        "poll: {{interval: 200ms}}
targets: [{{name: t, url: '{}'}}]
alerts:
  recommended: false
  rules: [{{alert: Behind, expr: lag > 1, for: 400ms, labels: {{severity: page}}}}]
  notifiers: [{{name: main, alertmanager: {{urls: ['{}']}}}}]
",
        server.url(),
        alertmanager.url()
    ))
    .await;
    alertmanager.shows(&["mail"]).await;
    let shown = alertmanager.alerts().await.remove(0);
    let labels = serde_json::json!({
        "alertname": "Behind", "severity": "page", "target": "t", "db": "db0", "stream": "orders", "group": "mail"
    });
    assert_eq!(shown["labels"], labels);
    client.run("XREADGROUP GROUP mail c NOACK STREAMS orders >").await;
    alertmanager.shows(&[]).await;
    drop(exporter);
}
