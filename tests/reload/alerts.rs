//! What becomes of alerts.

use crate::fixture::{QUICK, Reloading, SOON, server};
use crate::support::wait::wait_until;

fn config(url: &str, rules: &str) -> String {
    format!("{QUICK}targets: [{{name: t, url: '{url}'}}]\nalerts: {{recommended: false, rules: [{rules}]}}")
}

fn lag_over(bound: u32, summary: &str) -> String {
    format!("{{alert: Behind, expr: lag > {bound}, annotations: {{summary: '{summary}'}}}}")
}

#[tokio::test]
async fn a_changed_rule_keeps_its_firing_alert() {
    let (server, mut client) = server().await;
    let reloading = Reloading::start(&config(&server.url(), &lag_over(5, "one"))).await;
    wait_until(SOON, "both fire", async || reloading.alerts().await.len() == 2).await;
    let before = reloading.alerts().await;

    reloading.to(&config(&server.url(), &lag_over(6, "two"))).await;
    let mut after = Vec::new();
    wait_until(SOON, "the new rule speaks", async || {
        after = reloading.alerts().await;
        after.iter().all(|alert| alert[4] == "two")
    })
    .await;
    assert_eq!(after.len(), 2);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before[..4], after[..4], "state, name, stream and since when are the same");
    }
    // And it goes by the new rule.
    client.run("XREADGROUP GROUP g c COUNT 3 STREAMS a >").await;
    wait_until(SOON, "one of them resolves", async || reloading.alerts().await.len() == 1).await;
    assert_eq!(reloading.alerts().await[0][3], before[1][3]);
    let log = reloading.exporter.stderr();
    assert_eq!(log.matches("alerts began to fire").count(), 1, "{log}");
    assert!(!log.contains("reconnecting"), "rules alone need no other connection: {log}");
}

#[tokio::test]
async fn a_rule_that_is_taken_out_ends_its_alerts_and_a_new_one_begins() {
    let (server, _talk) = server().await;
    let reloading = Reloading::start(&config(&server.url(), &lag_over(5, "one"))).await;
    wait_until(SOON, "both fire", async || reloading.alerts().await.len() == 2).await;

    reloading.to(&config(&server.url(), "{alert: Long, expr: length >= 10}")).await;
    wait_until(SOON, "the new rule fires and the old one does not", async || {
        let alerts = reloading.alerts().await;
        alerts.len() == 2 && alerts.iter().all(|alert| alert[0] == "firing" && alert[1] == "Long")
    })
    .await;
    let log = reloading.exporter.stderr();
    let resolved: Vec<_> = log.lines().filter(|line| line.contains("alerts resolved")).collect();
    assert_eq!(resolved.len(), 1, "{log}");
    assert!(resolved[0].contains("resolved=2"), "{log}");
}
