//! Receivers, and proxies before them, that are slow, dead or broken: every alert is delivered at least once and shown once,
//! queues are bounded, and no other receiver waits.

use std::sync::Arc;
use std::time::Duration;

use streamgauge::alert::notification::{Notification, SendReason};
use tokio::net::TcpListener;

use crate::alerts::{again, changed, firing, resolved};
use crate::fixture::{SOON, notifying};
use crate::support::alertmanager::Alertmanager;
use crate::support::proxy::{FaultyProxy, ProxyMode};
use crate::support::receiver::{Received, TestReceiver};
use crate::support::wait::{wait_for, wait_until};

const ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nno!\n";
const GARBAGE: &[u8] = b"\x16\x03\x01 who are you?\r\n\r\n";
const CUT_OFF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Le";
const ENDLESS_HEAD: &[u8] = &[b'a'; 200_000];

fn through(proxy: &FaultyProxy, receiver: &Alertmanager, timeout: &str) -> String {
    format!(
        "{{name: bad, alertmanager: {{urls: ['http://{}'], timeout: {timeout}}}}}, {{name: good, alertmanager: {{urls: ['{}']}}}}",
        proxy.address,
        receiver.url()
    )
}

#[tokio::test]
async fn a_receiver_that_fails_gets_everything_once_it_works_and_no_other_waits() {
    let cases = [
        (ProxyMode::Reply(ERROR), "answers 500 Internal Server Error: no!"),
        (ProxyMode::Reply(GARBAGE), "no HTTP response from"),
        (ProxyMode::Reply(CUT_OFF), "no HTTP response from"),
        (ProxyMode::Reply(ENDLESS_HEAD), "no HTTP response from"),
        (ProxyMode::Reply(b""), "no HTTP response from"),
        (ProxyMode::Reset, "no HTTP response from"),
        (ProxyMode::Hang, "did not answer within 0.3 s"),
    ];
    for (mode, said) in cases {
        let (Some(behind), Some(beside)) = (Alertmanager::start().await, Alertmanager::start().await) else {
            return;
        };
        let proxy = FaultyProxy::before(behind.process.address(), mode).await;
        let running = notifying(&through(&proxy, &beside, "300ms"));
        let (stays, ends) = (firing("stays"), firing("ends"));
        running.send(&[changed(&stays), changed(&ends)]);
        beside.shows(&["ends", "stays"]).await;
        running.until_counted("bad", "failed", 4.0).await;
        assert_eq!(running.counted("bad", "delivered"), 0.0, "{mode:?}");
        for _ in 0..1_000 {
            running.send(&[again(&stays), again(&ends)]);
        }
        running.send(&[changed(&resolved(&ends))]);
        beside.shows(&["stays"]).await;
        let only_newest_wait = async || running.waiting("bad") == 2.0;
        wait_until(SOON, "of each alert the newest state waits", only_newest_wait).await;
        assert!(running.log().contains(said), "{mode:?}: {}", running.log());
        proxy.set_mode(ProxyMode::Forward);
        behind.shows(&["stays"]).await;
        wait_until(SOON, "nothing waits", async || running.waiting("bad") == 0.0).await;
        assert_eq!(running.counted("bad", "dropped"), 0.0);
    }
}

#[tokio::test]
async fn an_alert_that_a_receiver_always_fails_over_holds_up_no_other() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let proxy =
        FaultyProxy::before(alertmanager.process.address(), ProxyMode::RejectContaining("poison")).await;
    let running = notifying(&format!(
        "{{name: main, alertmanager: {{urls: ['http://{}']}}}}, {{name: hook, webhook: {{url: 'http://{}'}}}}",
        proxy.address, proxy.address
    ));
    let mut alerts: Vec<_> = (0..40).map(|n| changed(&firing(&format!("g{n:02}")))).collect();
    alerts.insert(7, changed(&firing("poison")));
    running.send(&alerts);
    let groups: Vec<_> = (0..40).map(|n| format!("g{n:02}")).collect();
    let groups: Vec<_> = groups.iter().map(String::as_str).collect();
    alertmanager.shows(&groups).await;
    running.send(&[changed(&firing("late"))]);
    let groups: Vec<_> = groups.into_iter().chain(["late"]).collect();
    alertmanager.shows(&groups).await;
    // Ten attempts with up to 15 s in between on average.
    running.until_counted_within(Duration::from_secs(240), "main", "dropped", 1.0).await;
    wait_until(SOON, "nothing waits", async || running.waiting("main") == 0.0).await;
    let given_up = "dropping alert after repeated failures";
    assert_eq!(running.log().matches(given_up).count(), 1, "{}", running.log());
    assert_eq!(running.counted("main", "delivered"), 41.0);
    assert_eq!((running.counted("hook", "dropped"), running.waiting("hook")), (0.0, 42.0));
}

#[tokio::test]
async fn a_failure_that_repeats_is_logged_once() {
    let Some(beside) = Alertmanager::start().await else { return };
    let proxy = FaultyProxy::before(beside.process.address(), ProxyMode::Reply(ERROR)).await;
    let running = notifying(&through(&proxy, &beside, "1s"));
    running.send(&[changed(&firing("mail"))]);
    running.until_counted("bad", "failed", 4.0).await;
    assert_eq!(running.log().matches("cannot notify; trying again").count(), 1, "{}", running.log());
}

#[tokio::test]
async fn a_proxy_that_takes_30_seconds_is_waited_for_or_tried_again_and_one_alert_is_shown() {
    const SLOW: Duration = Duration::from_secs(30);
    let (Some(patient), Some(hasty)) = (Alertmanager::start().await, Alertmanager::start().await) else {
        return;
    };
    let before_patient = FaultyProxy::before(patient.process.address(), ProxyMode::Delay(SLOW)).await;
    let before_hasty = FaultyProxy::before(hasty.process.address(), ProxyMode::Delay(SLOW)).await;
    let running = notifying(&format!(
        "{{name: patient, alertmanager: {{urls: ['http://{}'], timeout: 60s, resolve_all: false}}}},
         {{name: hasty, alertmanager: {{urls: ['http://{}'], timeout: 5s, resolve_all: false}}}}",
        before_patient.address, before_hasty.address
    ));
    let alert = firing("mail");
    running.send(&[changed(&alert)]);
    running.until_counted_within(2 * SLOW, "patient", "delivered", 1.0).await;
    assert_eq!((before_patient.connections(), running.counted("patient", "failed")), (1, 0.0));
    patient.shows(&["mail"]).await;
    // Those who did not wait for the answer were heard all the same, some of them several times.
    hasty.shows(&["mail"]).await;
    assert!(running.counted("hasty", "failed") >= 2.0, "{}", running.log());
    assert_eq!((running.counted("hasty", "delivered"), running.waiting("hasty")), (0.0, 1.0));
}

/// Returns true for each request in which the alert was over, in order.
fn endings(receiver: &TestReceiver) -> Vec<bool> {
    let received = receiver.received();
    let is_over = |request: &Received| {
        let body = &request.body;
        if let Some(action) = body.get("event_action") {
            return action == "resolve";
        }
        let alert = &body.get("alerts").unwrap_or(body)[0];
        match alert["status"].as_str() {
            Some(status) => status == "resolved",
            None => {
                let ends_at = humantime::parse_rfc3339(alert["endsAt"].as_str().unwrap()).unwrap();
                ends_at < std::time::UNIX_EPOCH + request.at
            }
        }
    };
    received.iter().map(is_over).collect()
}

#[tokio::test]
async fn a_request_that_arrives_late_is_followed_by_the_newest_state() {
    const LATE: Duration = Duration::from_secs(5);
    let [am, hook, duty] = [TestReceiver::new().await, TestReceiver::new().await, TestReceiver::new().await];
    let before_am = FaultyProxy::before(am.address, ProxyMode::Delay(LATE)).await;
    let before_hook = FaultyProxy::before(hook.address, ProxyMode::Delay(LATE)).await;
    let before_duty = FaultyProxy::before(duty.address, ProxyMode::Delay(LATE)).await;
    let running = notifying(&format!(
        "{{name: am, alertmanager: {{urls: ['http://{}'], timeout: 1s, resolve_all: false}}}},
         {{name: hook, webhook: {{url: 'http://{}', timeout: 1s}}}},
         {{name: duty, pagerduty: {{url: 'http://{}', routing_key: k, timeout: 1s}}}}",
        before_am.address, before_hook.address, before_duty.address
    ));
    let alert = firing("mail");
    running.send(&[changed(&alert)]);
    for (notifier, proxy) in [("am", &before_am), ("hook", &before_hook), ("duty", &before_duty)] {
        running.until_counted(notifier, "failed", 1.0).await;
        proxy.set_mode(ProxyMode::Forward);
    }
    let resolved = resolved(&alert);
    running.send(&[changed(&resolved)]);
    wait_until(SOON, "am hears the old state last", async || endings(&am).ends_with(&[true, false])).await;
    // The evaluator sends a reminder each minute.
    running.send(&[Notification { alert: Arc::new(resolved), reason: SendReason::Repeated }]);
    for (notifier, receiver) in [("am", &am), ("hook", &hook), ("duty", &duty)] {
        wait_for(3 * SOON, &format!("{notifier} hears what is old, and then what is new"), async || {
            let endings = endings(receiver);
            let late = endings.iter().skip_while(|is_over| !**is_over).skip_while(|is_over| **is_over);
            let is_told_again = late.clone().count() > 0 && late.last() == Some(&true);
            if is_told_again { Ok(()) } else { Err(format!("{endings:?}")) }
        })
        .await;
        wait_until(SOON, "nothing waits", async || running.waiting(notifier) == 0.0).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let Some(elsewhere) = Alertmanager::start().await else { return };
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("{}/api/v2/alerts?hunter2", elsewhere.url());
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let receiver = TestReceiver::answering(&answer).await;
        let running =
            notifying(&format!("{{name: main, alertmanager: {{urls: ['http://{}']}}}}", receiver.address));
        running.send(&[changed(&firing("mail"))]);
        running.until_counted("main", "failed", 2.0).await;
        assert!(elsewhere.alerts().await.is_empty());
        let said = format!("answers {status}: a redirect, which is not followed");
        assert!(running.log().contains(&said), "{}", running.log());
        assert!(!running.log().contains("hunter2"));
    }
}

#[tokio::test]
async fn a_receiver_that_cannot_be_found_or_reached_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let cases = [
        ("http://no-such-host.invalid:9093".to_owned(), true, "cannot resolve no-such-host.invalid: "),
        ("http://no-such-host.invalid:9093".to_owned(), false, "cannot resolve no-such-host.invalid: "),
        (format!("http://{closed}"), true, "cannot connect to 127.0.0.1:"),
        (format!("http://{closed}"), false, "cannot connect to 127.0.0.1:"),
    ];
    for (url, resolve_all, said) in cases {
        let running = notifying(&format!(
            "{{name: main, alertmanager: {{urls: ['{url}'], resolve_all: {resolve_all}}}}}"
        ));
        running.send(&[changed(&firing("mail"))]);
        running.until_counted("main", "failed", 2.0).await;
        assert_eq!(running.waiting("main"), 1.0);
        assert!(running.log().contains(said), "{}", running.log());
    }
}

#[tokio::test]
async fn alerts_that_wait_are_bounded_and_the_oldest_are_dropped_first() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let proxy = FaultyProxy::before(alertmanager.process.address(), ProxyMode::Hang).await;
    let running = notifying(&format!(
        "{{name: main, alertmanager: {{urls: ['http://{}'], timeout: 1s, resolve_all: false}}}}",
        proxy.address
    ));
    let alerts: Vec<_> = (0..50_003).map(|n| changed(&firing(&format!("g{n:05}")))).collect();
    running.send(&alerts);
    assert_eq!((running.waiting("main"), running.counted("main", "dropped")), (50_000.0, 3.0));
    assert_eq!(running.log().matches("queue is full; dropping the oldest alerts").count(), 1);
    proxy.set_mode(ProxyMode::Forward);
    running.until_counted_within(Duration::from_secs(120), "main", "delivered", 50_000.0).await;
    assert_eq!(alertmanager.received().await, 50_000.0);
    assert!(alertmanager.shows_group("g00003").await && !alertmanager.shows_group("g00002").await);
}

#[tokio::test]
async fn at_shutdown_a_dead_receiver_costs_ten_seconds_and_one_that_comes_back_is_notified() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let proxy = FaultyProxy::before(alertmanager.process.address(), ProxyMode::Reply(ERROR)).await;
    let dead = FaultyProxy::before(alertmanager.process.address(), ProxyMode::Hang).await;
    let running = notifying(&format!(
        "{{name: back, alertmanager: {{urls: ['http://{}'], resolve_all: false}}}},
         {{name: fan, alertmanager: {{urls: ['http://{}']}}}}, {{name: hook, webhook: {{url: 'http://{}'}}}}",
        proxy.address, dead.address, dead.address
    ));
    running.send(&[changed(&firing("mail")), changed(&firing("audit"))]);
    running.until_counted("back", "failed", 6.0).await;
    let began = redis_stream_core::clock::now();
    proxy.set_mode(ProxyMode::Forward);
    let counted = running.end().await;
    let took = redis_stream_core::clock::now() - began;
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(20), "{took:?}");
    alertmanager.shows(&["audit", "mail"]).await;
    for (notifier, result, alerts) in [
        ("back", "delivered", 2.0),
        ("fan", "dropped", 2.0),
        ("hook", "dropped", 2.0),
        ("back", "dropped", 0.0),
    ] {
        let series =
            format!("streamgauge_notifications_total{{notifier=\"{notifier}\",result=\"{result}\"}}");
        assert_eq!(counted[&series], alerts, "{notifier} {result}");
        assert_eq!(
            counted[&format!("streamgauge_notification_queue_length{{notifier=\"{notifier}\"}}")],
            0.0
        );
    }
}

#[tokio::test]
async fn a_response_is_quoted_unless_it_repeats_a_secret() {
    let receiver =
        TestReceiver::answering("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 9\r\n\r\ncome back")
            .await;
    let running = notifying(&format!(
        "{{name: hook, webhook: {{url: 'http://gauge:hunter2@{}/services/hunter3-xyz?key=hunter4-xyz', headers: {{X-Key: hunter5}}}}}}",
        receiver.address
    ));
    running.send(&[changed(&firing("mail"))]);
    let first = receiver.until_received(1).await.remove(0);
    assert_eq!(first.head.lines().next(), Some("POST /services/hunter3-xyz?key=hunter4-xyz HTTP/1.1"));
    assert_eq!(first.header("authorization"), Some("Basic Z2F1Z2U6aHVudGVyMg=="));
    assert_eq!(first.header("x-key"), Some("hunter5"));
    let log = async |text: &str| {
        wait_for(SOON, text, async || {
            let log = running.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    };
    log(": come back").await;
    for (secret, status) in [
        ("hunter2", "500 A"),
        ("hunter3-xyz", "501 B"),
        ("hunter4-xyz", "502 C"),
        ("hunter5", "504 D"),
        ("Z2F1Z2U6aHVudGVyMg==", "505 E"),
    ] {
        let said = format!("you sent {secret}");
        receiver.answer(&format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{said}", said.len()));
        log(&format!("answers {}", &status[..3])).await;
    }
    assert!(!running.log().contains("hunter") && !running.log().contains("Z2F1"), "{}", running.log());
}
