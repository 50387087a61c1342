//! What becomes of targets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use streamgauge::commands::serve;
use streamgauge::config::load;
use tokio_util::sync::CancellationToken;

use crate::fixture::{QUICK, Reloading, SOON, has_target, server, value, was_successful};
use crate::support::http;
use crate::support::server::free_port;
use crate::support::wait::wait_until;

const RULES: &str = "alerts: {recommended: false, rules: [{alert: Behind, expr: lag > 1}]}\n";

fn config(targets: &[String]) -> String {
    format!("{QUICK}{RULES}targets: [{}]", targets.join(", "))
}

fn target(name: &str, url: &str, rest: &str) -> String {
    format!("{{name: {name}, url: '{url}'{rest}}}")
}

#[tokio::test]
async fn one_goes_with_its_alerts_one_comes_and_one_stays_as_it_is() {
    let (first, mut client) = server().await;
    let (second, _) = server().await;
    let (stays, goes) = (target("stays", &first.url(), ""), target("goes", &second.url(), ""));
    let reloading = Reloading::start(&config(&[stays.clone(), goes])).await;
    wait_until(SOON, "all four groups fire", async || reloading.alerts().await.len() == 4).await;
    client.run("XTRIM a MAXLEN 2").await;
    let lost =
        |metrics: &_| value(metrics, "redis_stream_group_entries_lost_total", &["stays", "stream=\"a\""]);
    let before = reloading.metrics_when("a loss is seen", |metrics| lost(metrics) == Some(7.0)).await;
    let polls = |metrics: &_| value(metrics, "streamgauge_polls_total", &["stays", "result=\"ok\""]).unwrap();

    reloading.to(&config(&[target("comes", &second.url(), ""), stays])).await;
    let metrics = reloading.exporter.metrics().await;
    assert!(!has_target(&metrics, "goes"), "its series go at once");
    assert_eq!(lost(&metrics), Some(7.0), "what was lost is not forgotten");
    assert!(polls(&metrics) >= polls(&before), "nor what was counted");
    let log = reloading.exporter.stderr();
    assert!(log.lines().any(|line| line.contains("alerts resolved") && line.contains("goes")), "{log}");
    assert!(!log.lines().any(|line| line.contains("alerts resolved") && line.contains("stays")), "{log}");
    reloading
        .metrics_when("the new one is polled", |metrics| {
            value(metrics, "redis_stream_group_lag", &["comes", "stream=\"b\""]) == Some(9.0)
        })
        .await;
    let ready = reloading.exporter.get("/-/ready").await;
    assert_eq!(ready.status, 200);
    assert_eq!(reloading.exporter.get("/metrics?target=goes").await.status, 404);
    wait_until(SOON, "its groups fire", async || reloading.alerts().await.len() == 4).await;
}

#[tokio::test]
async fn a_target_that_changes_keeps_what_it_knows() {
    let (server, mut client) = server().await;
    let reloading = Reloading::start(&config(&[target("t", &server.url(), ", labels: {team: x}")])).await;
    wait_until(SOON, "both groups fire", async || reloading.alerts().await.len() == 2).await;
    client.run("XTRIM a MAXLEN 2").await;
    let lost = |metrics: &_, team: &str| {
        value(
            metrics,
            "redis_stream_group_entries_lost_total",
            &["stream=\"a\"", &format!("team=\"{team}\"")],
        )
    };
    reloading.metrics_when("a loss is seen", |metrics| lost(metrics, "x") == Some(7.0)).await;

    let changed = target("t", &server.url(), ", labels: {team: y}, streams: [{key: a}]");
    reloading.to(&config(&[changed])).await;
    let metrics = reloading
        .metrics_when("what does not match any more is gone", |metrics| {
            lost(metrics, "y").is_some() && value(metrics, "redis_stream_up", &["stream=\"b\""]).is_none()
        })
        .await;
    assert_eq!(lost(&metrics, "y"), Some(7.0));
    assert!(!metrics.keys().any(|series| series.contains("team=\"x\"")), "{metrics:?}");
    assert_eq!(value(&metrics, "streamgauge_target_up", &["team=\"y\""]), Some(1.0));
    let alerts = reloading.alerts().await;
    assert_eq!(alerts.iter().map(|alert| &alert[2]).collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn the_same_name_of_another_server_begins_anew() {
    let (first, mut client) = server().await;
    let (second, _) = server().await;
    let reloading = Reloading::start(&config(&[target("t", &first.url(), "")])).await;
    let lost = |metrics: &_| value(metrics, "redis_stream_group_entries_lost_total", &["stream=\"a\""]);
    reloading.metrics_when("the first is polled", |metrics| lost(metrics) == Some(0.0)).await;
    client.run("XTRIM a MAXLEN 2").await;
    reloading.metrics_when("a loss is seen", |metrics| lost(metrics) == Some(7.0)).await;

    reloading.to(&config(&[target("t", &second.url(), "")])).await;
    reloading.metrics_when("the second is polled", |metrics| lost(metrics) == Some(0.0)).await;
}

#[tokio::test]
async fn a_target_that_hangs_does_not_hold_up_a_reload() {
    let (server, _talk) = server().await;
    let (hanging, _) = self::server().await;
    let slow = "poll: {interval: 1h, timeout: 50m}\nweb: {enable_reload: true}\n";
    let of = |targets: &[String]| format!("{slow}targets: [{}]", targets.join(", "));
    let (good, hangs) = (target("good", &server.url(), ""), target("hangs", &hanging.url(), ""));
    hanging.pause();
    let reloading = Reloading::start(&of(&[good.clone(), hangs])).await;
    reloading
        .metrics_when("the good one is polled", |metrics| {
            value(metrics, "streamgauge_target_up", &["good"]) == Some(1.0)
        })
        .await;
    reloading.to(&of(&[good])).await;
    assert!(!has_target(&reloading.exporter.metrics().await, "hangs"));
    hanging.resume();
}

#[tokio::test]
async fn on_sighup_the_file_is_read_again_and_users_change() {
    let hash = bcrypt::hash("password", 4).unwrap();
    let (server, _talk) = server().await;
    let targets = format!("targets: [{}]", target("t", &server.url(), ""));
    let reloading = Reloading::start(&targets).await;
    // Over HTTP it is not allowed unless the configuration says so.
    let forbidden = reloading.try_to(&targets).await;
    assert_eq!(forbidden.status, 403);
    assert!(forbidden.text().contains("web.enable_reload"), "{}", forbidden.text());
    reloading.file.put("config.yaml", &format!("web: {{basic_auth_users: {{anna: '{hash}'}}}}\n{targets}"));
    reloading.exporter.hang_up();
    wait_until(SOON, "a user is asked for", async || reloading.exporter.get("/metrics").await.status == 401)
        .await;
    assert_eq!(reloading.exporter.get("/-/healthy").await.status, 200);
    let anna = [("authorization", "Basic YW5uYTpwYXNzd29yZA==")];
    let response = http::get_with(reloading.exporter.address, "/metrics", &anna).await;
    assert_eq!(response.status, 200);
    assert_eq!(was_successful(&crate::support::metrics::parse(&response.text())), 1.0);
}

#[tokio::test]
async fn without_a_file_a_reload_is_refused_at_once() {
    let (server, _talk) = server().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let yaml = format!("web: {{listen: '{address}'}}\ntargets: [{}]", target("t", &server.url(), ""));
    let config = load::from_text("test", &yaml, Path::new(""), &|_| None).unwrap();
    let ending = CancellationToken::new();
    let exporter = tokio::spawn(serve::run_with(config, ending.clone()));
    let is_ready =
        async || http::try_get(address, "/-/ready", &[]).await.is_ok_and(|reply| reply.status == 200);
    wait_until(SOON, "it is ready", is_ready).await;
    assert_eq!(http::post(address, "/-/reload").await.status, 403);
    ending.cancel();
    exporter.await.unwrap().unwrap();
}
