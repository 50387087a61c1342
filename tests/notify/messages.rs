//! Notifications to a webhook and Slack.

use std::time::Duration;

use serde_json::json;

use crate::alerts::{again, changed, firing, resolved};
use crate::fixture::{SOON, notifying};
use crate::support::proxy::{FaultyProxy, ProxyMode};
use crate::support::receiver::{OK, TestReceiver};
use crate::support::wait::{wait_for, wait_until};

#[tokio::test]
async fn changes_are_sent_once_and_repetitions_are_not() {
    let (hook, chat) = (TestReceiver::new().await, TestReceiver::new().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, format!("http://{}/services/x\n", chat.address)).unwrap();
    let running = notifying(&format!(
        "{{name: hook, webhook: {{url: 'http://{}/hook?a=b'}}}}, {{name: chat, slack: {{webhook_url_file: '{}'}}}}",
        hook.address,
        file.display()
    ));
    let alert = firing("mail");
    running.send(&[changed(&alert)]);
    for notifier in ["hook", "chat"] {
        running.until_counted(notifier, "delivered", 1.0).await;
    }
    for _ in 0..100 {
        running.send(&[again(&alert)]);
    }
    assert_eq!((running.waiting("hook"), running.waiting("chat")), (0.0, 0.0));
    // What changes is gathered for a while; the end of the program is the end of that.
    running.send(&[changed(&resolved(&alert))]);
    assert_eq!((running.waiting("hook"), running.waiting("chat")), (1.0, 1.0));
    let _ = running.end().await;

    let [began, ended] = &hook.received()[..] else { panic!("not two messages") };
    assert_eq!(began.head.lines().next(), Some("POST /hook?a=b HTTP/1.1"));
    assert_eq!(began.header("content-type"), Some("application/json"));
    assert!(began.header("user-agent").unwrap().starts_with("streamgauge/"));
    assert_eq!((&began.body["status"], &ended.body["status"]), (&json!("firing"), &json!("resolved")));
    assert_eq!(began.body["alerts"][0]["fingerprint"], ended.body["alerts"][0]["fingerprint"]);

    let [began, ended] = &chat.received()[..] else { panic!("not two messages") };
    assert_eq!(began.head.lines().next(), Some("POST /services/x HTTP/1.1"));
    assert_eq!(began.body["text"], "1 firing: LagHigh on cache");
    let attachment = &began.body["attachments"][0];
    assert_eq!((&attachment["title"], &attachment["color"]), (&json!("orders"), &json!("warning")));
    let line = attachment["text"].as_str().unwrap();
    let link = "• <https://gauge.example.com/groups/cache/db0/orders/mail|mail>: ";
    assert!(line.starts_with(&format!("{link}a group is \"behind\" &lt;&amp;&gt; (firing since ")), "{line}");
    assert_eq!(ended.body["text"], "1 resolved: LagHigh on cache");
}

#[tokio::test]
async fn a_notification_that_failed_is_sent_later_with_the_newest_states() {
    let hook = TestReceiver::answering("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    let running = notifying(&format!("{{name: hook, webhook: {{url: 'http://{}'}}}}", hook.address));
    let (mail, audit) = (firing("mail"), firing("audit"));
    running.send(&[changed(&mail), changed(&audit)]);
    running.until_counted("hook", "failed", 2.0).await;
    running.send(&[changed(&resolved(&mail))]);
    wait_until(SOON, "an attempt with the new state", async || {
        hook.received().last().is_some_and(|request| {
            request.body["alerts"].as_array().unwrap().iter().any(|alert| alert["status"] == "resolved")
        })
    })
    .await;
    hook.answer(OK);
    running.until_counted("hook", "delivered", 2.0).await;
    let last = hook.received().pop().unwrap().body;
    let told = last["alerts"].as_array().unwrap().iter().map(|alert| alert["status"].as_str().unwrap());
    assert_eq!(told.collect::<Vec<_>>(), ["firing", "resolved"]);
    assert_eq!(last["status"], "firing");
    assert_eq!(running.waiting("hook"), 0.0);
}

#[tokio::test]
async fn a_notification_with_a_rejected_payload_is_not_sent_again() {
    let chat =
        TestReceiver::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 15\r\n\r\ninvalid_payload")
            .await;
    let running = notifying(&format!("{{name: chat, slack: {{webhook_url: 'http://{}'}}}}", chat.address));
    running.send(&[changed(&firing("mail"))]);
    running.until_counted("chat", "rejected", 1.0).await;
    assert_eq!(running.waiting("chat"), 0.0);
    assert!(running.log().contains("answers 400 Bad Request: invalid_payload"), "{}", running.log());
    let counted = running.end().await;
    assert_eq!(counted["streamgauge_notifications_total{notifier=\"chat\",result=\"failed\"}"], 0.0);
    assert_eq!(chat.received().len(), 1);
}

#[tokio::test]
async fn a_url_file_that_is_fixed_is_read_again() {
    let chat = TestReceiver::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "http://127.0.0.1:1/hunter2").unwrap();
    let running = notifying(&format!("{{name: chat, slack: {{webhook_url_file: '{}'}}}}", file.display()));
    std::fs::write(&file, "hunter2").unwrap();
    running.send(&[changed(&firing("mail"))]);
    running.until_counted("chat", "failed", 1.0).await;
    assert!(running.log().contains("the URL in the file: not a URL"), "{}", running.log());
    std::fs::write(&file, format!("http://{}/hunter2", chat.address)).unwrap();
    running.until_counted("chat", "delivered", 1.0).await;
    assert!(!running.log().contains("hunter2"), "{}", running.log());
}

/// Returns true for each notification in which something fires.
fn fires(hook: &TestReceiver) -> Vec<bool> {
    hook.received().iter().map(|request| request.body["status"] == "firing").collect()
}

#[tokio::test]
async fn a_webhook_that_is_changed_goes_on_and_receives_the_newest_state_last() {
    let hook = TestReceiver::new().await;
    let proxy = FaultyProxy::before(hook.address, ProxyMode::Delay(Duration::from_secs(3))).await;
    let with = |timeout: &str| {
        format!("{{name: hook, webhook: {{url: 'http://{}', timeout: {timeout}}}}}", proxy.address)
    };
    let mut running = notifying(&with("20s"));
    let (mail, audit) = (firing("mail"), firing("audit"));
    running.send(&[changed(&mail), changed(&audit)]);
    wait_until(SOON, "a request is under way", async || proxy.connections() == 1).await;
    proxy.set_mode(ProxyMode::Forward);
    running.follow(&with("19s"));
    running.send(&[changed(&resolved(&mail)), changed(&resolved(&audit))]);
    wait_for(3 * SOON, "what is old is heard, and then what is new", async || {
        let fires = fires(&hook);
        if fires.contains(&true) && fires.ends_with(&[false]) { Ok(()) } else { Err(format!("{fires:?}")) }
    })
    .await;
    wait_until(SOON, "nothing waits", async || running.waiting("hook") == 0.0).await;
    assert_eq!(running.counted("hook", "dropped"), 0.0);

    // An alert in the log is not sent again.
    let other = firing("other");
    running.send(&[changed(&other)]);
    running.until_counted_within(3 * SOON, "hook", "delivered", 5.0).await;
    let requests = hook.received().len();
    running.follow(&with("18s"));
    running.send(&[again(&other)]);
    assert_eq!(running.waiting("hook"), 0.0);
    let counted = running.end().await;
    assert_eq!(counted["streamgauge_notifications_total{notifier=\"hook\",result=\"dropped\"}"], 0.0);
    assert_eq!(hook.received().len(), requests);
}
