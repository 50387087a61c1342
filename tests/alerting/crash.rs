//! streamgauge is killed while alerts fire and are pending, and comes back with its state file.

use std::time::Duration;

use redis_stream_core::clock::unix_time;
use serde_json::Value;

use crate::notifications::{SOON, active_at, sent_alerts, until_firing};
use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::receiver::{OK, TestReceiver};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::{wait_for, wait_until};

const PENDING_FOR: Duration = Duration::from_secs(12);
/// Least age of the pending state at the kill, so that counting from the start again would show.
const PENDING_BEFORE: Duration = Duration::from_secs(6);

/// The webhook's messages about alerts of this name that fire.
fn messages(hook: &TestReceiver, name: &str) -> usize {
    let is_about = |body: &Value| body["commonLabels"]["alertname"] == name && body["status"] == "firing";
    hook.received().iter().filter(|request| is_about(&request.body)).count()
}

fn config(server: &Server, rules: &str, [receiver, hook]: [&TestReceiver; 2]) -> ConfigFile {
    ConfigFile::new(&format!(
        "poll: {{interval: 500ms}}
targets: [{{name: t, url: '{}'}}]
alerts:
  recommended: false
  state_file: alerts.json
  rules: [{rules}]
  notifiers:
    - {{name: main, alertmanager: {{urls: ['http://{}']}}}}
    - {{name: hook, webhook: {{url: 'http://{}'}}}}
",
        server.url(),
        receiver.address,
        hook.address
    ))
}

/// Waits until the state file has so many alerts, one of them sent to receivers.
async fn until_saved(config: &ConfigFile, alerts: usize) {
    wait_for(SOON, "the alerts are saved", async || {
        let saved = std::fs::read_to_string(config.path().with_file_name("alerts.json")).unwrap_or_default();
        let is_saved = saved.contains("\"last_sent_at\":{") && saved.matches("active_at").count() == alerts;
        if is_saved { Ok(()) } else { Err(saved) }
    })
    .await;
}

#[tokio::test]
async fn after_a_crash_for_goes_on_counting_and_each_alert_is_sent_at_most_twice() {
    tokio::join!(goes_on(), is_delivered_at_last());
}

/// A receiver of aggregation groups.
#[derive(Clone, Copy)]
enum Kind {
    Webhook,
    PagerDuty,
}

impl Kind {
    fn notifier(self, name: &str, receiver: &TestReceiver) -> String {
        let url = format!("url: 'http://{}'", receiver.address);
        match self {
            Self::Webhook => format!("{{name: {name}, webhook: {{{url}}}}}"),
            Self::PagerDuty => format!("{{name: {name}, pagerduty: {{{url}, routing_key: k}}}}"),
        }
    }

    /// Groups of the alerts that the receiver was sent with this status, in that order.
    fn groups(self, receiver: &TestReceiver, status: &str) -> Vec<String> {
        let received = receiver.received();
        let bodies = received.iter().map(|request| &request.body);
        let of_status: Vec<_> = match self {
            Self::Webhook => {
                let alerts = bodies.flat_map(|body| body["alerts"].as_array().unwrap());
                alerts.filter(|alert| alert["status"] == status).map(|alert| &alert["labels"]).collect()
            }
            Self::PagerDuty => {
                let action = if status == "firing" { "trigger" } else { "resolve" };
                let events = bodies.filter(|body| body["event_action"] == action);
                events.map(|body| &body["payload"]["custom_details"]["labels"]).collect()
            }
        };
        of_status.into_iter().map(|labels| labels["group"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn after_a_crash_a_receiver_is_sent_the_end_of_alerts_that_it_was_sent() {
    tokio::join!(is_sent_the_end(Kind::Webhook), is_sent_the_end(Kind::PagerDuty));
}

async fn is_sent_the_end(kind: Kind) {
    let groups = |receiver: &TestReceiver, status: &str| kind.groups(receiver, status);
    const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD orders * n 1\nXGROUP CREATE orders early 0\nXGROUP CREATE orders late 0").await;
    let (heard, unheard) = (TestReceiver::new().await, TestReceiver::answering(REFUSED).await);
    let config = ConfigFile::new(&format!(
        "poll: {{interval: 500ms}}
targets: [{{name: t, url: '{}'}}]
alerts:
  recommended: false
  state_file: alerts.json
  rules: [{{alert: Behind, expr: lag > 0}}]
  notifiers:
    - {}
    - {}
",
        server.url(),
        kind.notifier("heard", &heard),
        kind.notifier("unheard", &unheard)
    ));
    let before = config.serve().serving().await;
    let until_saved = async |times: usize, text: &str| {
        wait_for(SOON, text, async || {
            let file = config.path().with_file_name("alerts.json");
            let saved = std::fs::read_to_string(file).unwrap_or_default();
            if saved.matches(text).count() == times { Ok(()) } else { Err(saved) }
        })
        .await;
    };
    until_saved(2, "\"send_state\":\"sent\"").await;
    unheard.until_received(1).await;
    // It is killed after one of them is over, which could not be sent, and before the other is.
    heard.answer(REFUSED);
    client.run("XREADGROUP GROUP early one NOACK STREAMS orders >").await;
    until_saved(1, "\"status\":\"resolved\"").await;
    before.kill();
    client.run("XREADGROUP GROUP late one NOACK STREAMS orders >").await;
    // A refused notification was not sent.
    for hook in [&heard, &unheard] {
        hook.forget();
        hook.answer(OK);
    }

    let after = config.serve().serving().await;
    wait_for(3 * SOON, "it receives both ends", async || {
        let mut over = groups(&heard, "resolved");
        over.sort();
        if over == ["early", "late"] { Ok(()) } else { Err(format!("{over:?}")) }
    })
    .await;
    client.run("XGROUP CREATE orders new 0").await;
    wait_for(3 * SOON, "both receive the new alert", async || {
        let sent = [&heard, &unheard].map(|hook| groups(hook, "firing"));
        if sent.iter().all(|sent| sent.contains(&"new".to_owned())) {
            Ok(())
        } else {
            Err(format!("{sent:?}"))
        }
    })
    .await;
    assert_eq!(unheard.received().len(), 1, "{:?}", unheard.received());
    assert_eq!(groups(&unheard, "resolved"), [] as [String; 0]);
    after.stop().await;
}

async fn goes_on() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD orders * n 1\nXGROUP CREATE orders mail 0").await;
    let (receiver, hook) = (TestReceiver::new().await, TestReceiver::new().await);
    let rules =
        format!("{{alert: Firing, expr: lag > 0}}, {{alert: Waiting, expr: lag > 0, for: {PENDING_FOR:?}}}");
    let config = config(&server, &rules, [&receiver, &hook]);
    let before = config.serve().serving().await;
    let first = until_firing(&receiver, "Firing").await;
    hook.until_received(1).await;
    until_saved(&config, 2).await;
    let waits_since = active_at(&before, "Waiting").await;
    wait_until(SOON, "it waits for a while", async || unix_time() >= waits_since + PENDING_BEFORE).await;
    before.kill();
    assert!(sent_alerts(&receiver, "Waiting").is_empty());
    assert_eq!((sent_alerts(&receiver, "Firing").len(), messages(&hook, "Firing")), (1, 1));

    let after = config.serve().serving().await;
    let fired = until_firing(&receiver, "Waiting").await;
    let counted = fired.starts_at - waits_since;
    let restarted = PENDING_FOR + PENDING_BEFORE;
    assert!(PENDING_FOR <= counted && counted < restarted, "it was pending for {counted:?}");
    assert_eq!(active_at(&after, "Waiting").await, waits_since);
    // The reminder is the same alert after a minute; the webhook has it already.
    wait_for(3 * SOON, "the reminder comes", async || {
        let all = sent_alerts(&receiver, "Firing");
        if all.len() >= 2 { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    let all = sent_alerts(&receiver, "Firing");
    assert!(all.iter().all(|sent| sent.starts_at == first.starts_at && !sent.is_over()), "{all:?}");
    assert_eq!((all.len(), sent_alerts(&receiver, "Waiting").len()), (2, 1));
    assert_eq!((messages(&hook, "Firing"), messages(&hook, "Waiting")), (1, 1));
    after.stop().await;
}

/// The receivers took nothing before the crash.
async fn is_delivered_at_last() {
    const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD orders * n 1\nXGROUP CREATE orders mail 0").await;
    let (receiver, hook) = (TestReceiver::answering(ERROR).await, TestReceiver::answering(ERROR).await);
    let config = config(&server, "{alert: Firing, expr: lag > 0}", [&receiver, &hook]);
    let before = config.serve().serving().await;
    let first = until_firing(&receiver, "Firing").await;
    hook.until_received(1).await;
    until_saved(&config, 1).await;
    before.kill();
    let (refused, unheard) = (sent_alerts(&receiver, "Firing").len(), messages(&hook, "Firing"));
    receiver.answer(OK);
    hook.answer(OK);
    let after = config.serve().serving().await;
    wait_for(3 * SOON, "it is sent", async || {
        let all = sent_alerts(&receiver, "Firing");
        if all.len() > refused && messages(&hook, "Firing") > unheard {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    })
    .await;
    assert_eq!(sent_alerts(&receiver, "Firing").pop().unwrap().starts_at, first.starts_at);
    after.stop().await;
}
