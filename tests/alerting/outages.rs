//! What alerts are about goes away while they fire: Redis itself, a group, a stream.

use std::time::Duration;

use redis_stream_core::clock::unix_time;

use crate::notifications::{SentAlert, sent_alerts, shows, until_firing, until_resolved};
use crate::support::alertmanager::Alertmanager;
use crate::support::client::RedisClient;
use crate::support::config::{QUICK, serving};
use crate::support::program::Exporter;
use crate::support::receiver::TestReceiver;
use crate::support::server::Server;
use crate::support::servers::newest;

const HOLD: Duration = Duration::from_secs(10);
/// From one poll to the next at most, whether it fails or not: twice the interval of [`QUICK`].
const POLL: Duration = Duration::from_millis(800);

/// A fault of Redis, by an operator or the kernel.
#[derive(Clone, Copy)]
enum Outage {
    Killed,
    Paused,
}

impl Outage {
    fn begin(self, server: &mut Server) {
        match self {
            Self::Killed => server.kill(),
            Self::Paused => server.pause(),
        }
    }

    async fn end(self, server: &mut Server) {
        match self {
            Self::Killed => server.restart().await,
            Self::Paused => server.resume(),
        }
    }
}

async fn exporter(server: &Server, receiver: &TestReceiver) -> Exporter {
    serving(&format!(
        "{QUICK}targets: [{{name: t, url: '{}'}}]
alerts:
  recommended: false
  hold: {HOLD:?}
  rules: [{{alert: Behind, expr: lag > 0}}, {{alert: Down, expr: target_up == 0}}]
  notifiers: [{{name: main, alertmanager: {{urls: ['http://{}']}}}}]
",
        server.url(),
        receiver.address
    ))
    .await
}

#[tokio::test]
async fn an_alert_outlives_its_redis_for_as_long_as_it_is_held() {
    tokio::join!(outlives(Outage::Killed), outlives(Outage::Paused));
}

async fn outlives(outage: Outage) {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let receiver = TestReceiver::before(alertmanager.process.address()).await;
    // All is still there when it comes back.
    let mut server = Server::start(newest(), &["--appendonly", "yes", "--appendfsync", "always"]).await;
    RedisClient::to(&server).await.run("XADD orders * n 1\nXGROUP CREATE orders mail 0").await;
    let exporter = exporter(&server, &receiver).await;
    let first = until_firing(&receiver, "Behind").await;
    shows(&alertmanager, &["Behind"]).await;

    outage.begin(&mut server);
    shows(&alertmanager, &["Behind", "Down"]).await;
    outage.end(&mut server).await;
    shows(&alertmanager, &["Behind"]).await;
    let all = sent_alerts(&receiver, "Behind");
    let is_the_same = |sent: &SentAlert| !sent.is_over() && sent.starts_at == first.starts_at;
    assert!(all.iter().all(is_the_same), "it fired all the time: {all:?}");

    let away_since = unix_time();
    outage.begin(&mut server);
    let over = until_resolved(&receiver, "Behind").await;
    let held = over.ends_at - away_since;
    assert!(held + POLL > HOLD, "it was not held long enough: {held:?}");
    assert!(held < HOLD + 2 * POLL, "it was held too long: {held:?}");
    shows(&alertmanager, &["Down"]).await;

    outage.end(&mut server).await;
    shows(&alertmanager, &["Behind"]).await;
    let again = sent_alerts(&receiver, "Behind").pop().unwrap();
    assert!(again.starts_at > over.ends_at, "{again:?} began after {over:?}");
    exporter.stop().await;
}

#[tokio::test]
async fn an_alert_resolves_when_its_group_or_stream_is_gone() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let receiver = TestReceiver::before(alertmanager.process.address()).await;
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD orders * n 1\nXGROUP CREATE orders mail 0\nXGROUP CREATE orders audit 0").await;
    let exporter = exporter(&server, &receiver).await;
    alertmanager.shows(&["audit", "mail"]).await;
    client.run("XGROUP DESTROY orders mail").await;
    alertmanager.shows(&["audit"]).await;
    assert_eq!(until_resolved(&receiver, "Behind").await.labels["group"], "mail");
    client.run("DEL orders").await;
    alertmanager.shows(&[]).await;
    exporter.stop().await;
}
