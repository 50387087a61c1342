//! A failing Alertmanager: it is notified at least once, shows one alert, and costs streamgauge no memory.

use std::time::Duration;

use crate::notifications::SOON;
use crate::support::alertmanager::Alertmanager;
use crate::support::client::RedisClient;
use crate::support::config::serving;
use crate::support::metrics::named;
use crate::support::program::Exporter;
use crate::support::proxy::{FaultyProxy, ProxyMode};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::{wait_for, wait_until};

const ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nno!\n";
const GARBAGE: &[u8] = b"\x16\x03\x01 who are you?\r\n\r\n";
/// Firing alerts are sent again after a minute.
const NEXT_REMINDER: Duration = Duration::from_secs(90);

async fn behind() -> (Server, RedisClient) {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD orders * n 1\nXGROUP CREATE orders mail 0").await;
    (server, client)
}

async fn exporter(server: &Server, rules: &str, notifiers: &str) -> Exporter {
    serving(&format!(
        "poll: {{interval: 500ms}}
targets: [{{name: t, url: '{}'}}]
alerts: {{recommended: false, rules: [{rules}], notifiers: [{notifiers}]}}\n",
        server.url()
    ))
    .await
}

const BEHIND: &str = "{alert: Behind, expr: lag > 0}";

/// Returns the number of alerts with one result that a notifier has counted.
async fn counted(exporter: &Exporter, notifier: &str, result: &str) -> f64 {
    exporter.metrics().await
        [&format!("streamgauge_notifications_total{{notifier=\"{notifier}\",result=\"{result}\"}}")]
}

async fn until_counted(exporter: &Exporter, notifier: &str, result: &str, least: f64) {
    wait_for(NEXT_REMINDER, &format!("{notifier} counts {least} {result}"), async || {
        let counted = counted(exporter, notifier, result).await;
        if counted >= least { Ok(()) } else { Err(format!("{counted} are")) }
    })
    .await;
}

async fn until_shown(alertmanager: &Alertmanager, groups: &[&str]) {
    wait_for(NEXT_REMINDER, &format!("Alertmanager shows {groups:?}"), async || {
        let shown = alertmanager.groups().await;
        if shown == groups { Ok(()) } else { Err(format!("it shows {shown:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_failing_alertmanager_is_notified_at_least_once_and_shows_one_alert() {
    tokio::join!(restarts(), is_slow(), answers(ERROR), answers(GARBAGE));
}

async fn restarts() {
    let Some(mut alertmanager) = Alertmanager::start().await else { return };
    let (server, mut client) = behind().await;
    let notifier = format!("{{name: main, alertmanager: {{urls: ['{}']}}}}", alertmanager.url());
    let exporter = exporter(&server, BEHIND, &notifier).await;
    alertmanager.shows(&["mail"]).await;
    alertmanager.process.kill();
    client.run("XGROUP CREATE orders audit 0").await;
    until_counted(&exporter, "main", "failed", 1.0).await;
    alertmanager.launch().await;
    // One is queued; the other was sent, and lost in the restart.
    until_shown(&alertmanager, &["audit", "mail"]).await;
    client.run("DEL orders").await;
    alertmanager.shows(&[]).await;
    exporter.stop().await;
}

async fn is_slow() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let proxy =
        FaultyProxy::before(alertmanager.process.address(), ProxyMode::Delay(Duration::from_secs(30))).await;
    let (server, _) = behind().await;
    let notifier = |name: &str, timeout: &str| {
        format!("{{name: {name}, alertmanager: {{urls: ['http://{}'], timeout: {timeout}}}}}", proxy.address)
    };
    let notifiers = [notifier("patient", "50s"), notifier("hasty", "10s")].join(", ");
    let exporter = exporter(&server, BEHIND, &notifiers).await;
    until_counted(&exporter, "patient", "delivered", 1.0).await;
    alertmanager.shows(&["mail"]).await;
    assert!(counted(&exporter, "hasty", "failed").await >= 2.0);
    proxy.set_mode(ProxyMode::Forward);
    until_counted(&exporter, "hasty", "delivered", 1.0).await;
    alertmanager.shows(&["mail"]).await;
    assert_eq!(counted(&exporter, "patient", "failed").await, 0.0);
    exporter.stop().await;
}

async fn answers(words: &'static [u8]) {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let proxy = FaultyProxy::before(alertmanager.process.address(), ProxyMode::Reply(words)).await;
    let (server, mut client) = behind().await;
    let notifier = format!("{{name: main, alertmanager: {{urls: ['http://{}']}}}}", proxy.address);
    let exporter = exporter(&server, BEHIND, &notifier).await;
    until_counted(&exporter, "main", "failed", 2.0).await;
    assert_eq!(counted(&exporter, "main", "delivered").await, 0.0);
    proxy.set_mode(ProxyMode::Forward);
    alertmanager.shows(&["mail"]).await;
    proxy.set_mode(ProxyMode::Reply(words));
    client.run("XREADGROUP GROUP mail one NOACK STREAMS orders >").await;
    let failed = counted(&exporter, "main", "failed").await;
    until_counted(&exporter, "main", "failed", failed + 1.0).await;
    proxy.set_mode(ProxyMode::Forward);
    alertmanager.shows(&[]).await;
    exporter.stop().await;
}

#[tokio::test]
async fn memory_stays_bounded_while_thousands_of_alerts_change_and_none_is_accepted() {
    const GROUPS: usize = 1_000;
    const RULES: usize = 3;
    const ROUNDS: usize = 8;
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let proxy = FaultyProxy::before(alertmanager.process.address(), ProxyMode::Reply(ERROR)).await;
    let (server, mut client) = behind().await;
    client.run("XGROUP DESTROY orders mail").await;
    let every_group = async |client: &mut RedisClient, command: &str, id: &str| {
        let script = format!(
            "for n = 1, {GROUPS} do redis.call('XGROUP', '{command}', KEYS[1], 'g' .. n, ARGV[1]) end"
        );
        let _: redis::Value = client.ask(&["EVAL", &script, "1", "orders", id]).await;
    };
    every_group(&mut client, "CREATE", "$").await;
    let rules: Vec<_> = (0..RULES)
        .map(|n| {
            format!("{{alert: Behind{n}, expr: lag > 0, annotations: {{summary: '{}'}}}}", "x".repeat(500))
        })
        .collect();
    let notifiers = format!(
        "{{name: main, alertmanager: {{urls: ['http://{0}']}}}}, {{name: hook, webhook: {{url: 'http://{0}'}}}}",
        proxy.address
    );
    let exporter = exporter(&server, &rules.join(", "), &notifiers).await;
    let mut resident = Vec::new();
    for _ in 0..ROUNDS {
        for (id, firing) in [("0", GROUPS * RULES), ("$", 0)] {
            every_group(&mut client, "SETID", id).await;
            wait_for(SOON, &format!("{firing} alerts fire"), async || {
                let shown = named(&exporter.metrics().await, "streamgauge_alerts").len();
                if shown == firing { Ok(()) } else { Err(format!("{shown} do")) }
            })
            .await;
        }
        let metrics = exporter.metrics().await;
        let waiting = metrics["streamgauge_notification_queue_length{notifier=\"main\"}"];
        assert!(waiting <= (GROUPS * RULES) as f64, "of each alert one state waits, not {waiting}");
        resident.push(metrics["process_resident_memory_bytes"] / 1024.0 / 1024.0);
    }
    let grown = resident[ROUNDS - 1] - resident[2];
    assert!(grown < 16.0, "it grew by {grown} MiB: {resident:?}");

    every_group(&mut client, "SETID", "0").await;
    proxy.set_mode(ProxyMode::Forward);
    wait_until(SOON, "all are shown, each once", async || {
        alertmanager.alerts().await.len() == GROUPS * RULES
    })
    .await;
    exporter.stop().await;
}
