//! Two streamgauges watch one Redis, and notify one Alertmanager.

use crate::notifications::{sent_alerts, until_firing, until_resolved};
use crate::support::alertmanager::Alertmanager;
use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::receiver::TestReceiver;
use crate::support::server::Server;
use crate::support::servers::newest;

#[tokio::test]
async fn two_replicas_are_one_alert() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD orders * n 1\nXGROUP CREATE orders mail 0").await;
    let (first_tells, second_tells) = (
        TestReceiver::before(alertmanager.process.address()).await,
        TestReceiver::before(alertmanager.process.address()).await,
    );
    let config = |receiver: &TestReceiver| {
        ConfigFile::new(&format!(
            "poll: {{interval: 500ms}}
targets: [{{name: t, url: '{}'}}]
alerts:
  recommended: false
  rules: [{{alert: Behind, expr: lag > 0, labels: {{severity: page}}, for: 1s}}]
  notifiers: [{{name: main, alertmanager: {{urls: ['http://{}']}}}}]
",
            server.url(),
            receiver.address
        ))
    };
    let (first, second) = (config(&first_tells), config(&second_tells));
    let (first, second) = (first.serve().serving().await, second.serve().serving().await);
    let one = until_firing(&first_tells, "Behind").await;
    let other = until_firing(&second_tells, "Behind").await;
    assert_eq!(one.labels, other.labels);
    alertmanager.shows(&["mail"]).await;

    client.run("XREADGROUP GROUP mail one NOACK STREAMS orders >").await;
    until_resolved(&first_tells, "Behind").await;
    until_resolved(&second_tells, "Behind").await;
    alertmanager.shows(&[]).await;

    // One is enough.
    first.kill();
    client.run("XADD orders * n 2").await;
    alertmanager.shows(&["mail"]).await;
    client.run("XREADGROUP GROUP mail one NOACK STREAMS orders >").await;
    alertmanager.shows(&[]).await;
    assert_eq!(sent_alerts(&first_tells, "Behind").len(), 2);
    second.stop().await;
}
