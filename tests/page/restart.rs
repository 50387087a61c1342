//! The history and the events outlast a restart.

use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_for;

const GROUP: &str = "/groups/shop/db0/orders/mail";

#[tokio::test]
async fn charts_and_events_outlast_a_restart_with_the_state_file() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XGROUP CREATE orders mail $ MKSTREAM\nXADD orders * f v").await;
    let folder = tempfile::tempdir().unwrap();
    let config = ConfigFile::new(&format!(
        "poll: {{interval: 250ms, timeout: 240ms}}\ntargets: [{{name: shop, url: '{}'}}]\nalerts: {{state_file: '{}'}}\n",
        server.url(),
        folder.path().join("state.json").display()
    ));
    let shows = async |exporter: &crate::support::program::Exporter, parts: &[&str]| {
        wait_for(Duration::from_secs(30), "the chart shows these lags", async || {
            let shown = exporter.get(GROUP).await.text();
            if parts.iter().all(|part| shown.contains(part)) { Ok(()) } else { Err(shown) }
        })
        .await;
    };
    let exporter = config.serve().serving().await;
    shows(&exporter, &["UTC: 1</title>"]).await;
    exporter.stop().await;
    client.run("XADD orders * f v").await;
    let exporter = config.serve().serving().await;
    // The second process has never seen a lag of 1.
    shows(&exporter, &["UTC: 1</title>", "UTC: 2</title>"]).await;
    let page = exporter.get("/").await.text();
    assert_eq!(page.matches("streamgauge started to poll the target").count(), 2, "{page}");
    exporter.stop().await;
}

#[tokio::test]
async fn a_restart_of_the_server_is_an_event_and_a_mark_in_the_charts() {
    let mut server = Server::start(newest(), &["--appendonly", "yes"]).await;
    RedisClient::to(&server).await.run("XGROUP CREATE orders mail $ MKSTREAM\nXADD orders * f v").await;
    let config = ConfigFile::new(&format!(
        "poll: {{interval: 250ms, timeout: 240ms}}\ntargets: [{{name: shop, url: '{}'}}]\n",
        server.url()
    ));
    let exporter = config.serve().serving().await;
    let event = format!("the server at {} was restarted or replaced", server.address());
    let shows = async |path: &str, part: &str| {
        wait_for(Duration::from_secs(30), "it is shown", async || {
            let shown = exporter.get(path).await.text();
            if shown.contains(part) { Ok(()) } else { Err(shown) }
        })
        .await;
    };
    shows(GROUP, "UTC: 1</title>").await;
    server.restart().await;
    shows("/api/v1/events?target=shop&limit=10", &event).await;
    let mark = format!("UTC: {event}</title>");
    shows(GROUP, &mark).await;
    shows("/streams/shop/db0/orders", &mark).await;
    shows("/", &event).await;
    let reply = exporter.get("/api/v1/events?target=shop").await;
    let listing: serde_json::Value = serde_json::from_str(&reply.text()).unwrap();
    let found = listing["events"].as_array().unwrap().iter().find(|one| one["text"] == event.as_str());
    assert_eq!(
        (&found.unwrap()["severity"], &found.unwrap()["stream"]),
        (&"warning".into(), &serde_json::Value::Null)
    );
    let refused = exporter.get("/api/v1/events?limit=all").await;
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (hyper::StatusCode::BAD_REQUEST, "limit: found \"all\"; expected a number of events, 1 to 1000\n")
    );
    exporter.stop().await;
}
