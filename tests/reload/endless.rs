//! Many reloads, while it is scraped and polls.

use std::time::Duration;

use redis_stream_core::clock::now;

use crate::fixture::{QUICK, Reloading, SOON, server, value};
use crate::support::wait::wait_until;

const RELOADS: usize = 200;

#[tokio::test]
async fn two_hundred_reloads_under_load_leak_nothing() {
    let (server, mut client) = server().await;
    // Each differs from the one before in all that can change.
    let config = |turn: usize| {
        let (key, bound, spare) = (["a", "*", "[ab]"][turn % 3], turn % 4, turn % 5);
        let spares: String = (0..spare)
            .map(|n| format!(", {{name: spare-{turn}-{n}, url: '{}', streams: [{{key: b}}]}}", server.url()))
            .collect();
        format!(
            "{QUICK}targets: [{{name: t, url: '{}', streams: [{{key: '{key}'}}]}}{spares}]\n\
             alerts: {{external_labels: {{turn: '{turn}'}}, rules: [{{alert: Behind, expr: lag > {bound}}}], \
             notifiers: [{{name: n{spare}, webhook: {{url: 'http://127.0.0.1:1/{turn}'}}}}]}}",
            server.url()
        )
    };
    let reloading = Reloading::start(&config(0)).await;
    let address = reloading.exporter.address;
    let scraping = tokio::spawn(async move {
        loop {
            let response = crate::support::http::get(address, "/metrics").await;
            assert_eq!(response.status, 200);
            // Panics where a series is there twice.
            crate::support::metrics::parse(&response.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    for turn in 1..20 {
        reloading.to(&config(turn)).await;
    }
    let settled = |turn: usize| config(turn - turn % 60);
    reloading.to(&settled(0)).await;
    let before = at_rest(&reloading, &mut client).await;
    for turn in 20..20 + RELOADS {
        reloading.to(&config(turn)).await;
    }
    reloading.to(&settled(60)).await;
    let after = at_rest(&reloading, &mut client).await;
    assert!(!scraping.is_finished(), "every scrape was answered");
    scraping.abort();
    assert!(after.descriptors <= before.descriptors + 3.0, "{before:?} {after:?}");
    assert!(after.memory_bytes <= before.memory_bytes + 12e6, "{before:?} {after:?}");

    // A task that was left behind would poll as well.
    let polls = async || {
        let metrics = reloading.exporter.metrics().await;
        value(&metrics, "streamgauge_polls_total", &["target=\"t\"", "result=\"ok\""]).unwrap()
    };
    let (count, began) = (polls().await, now());
    let mut polled = 0.0;
    wait_until(SOON, "it polls", async || {
        polled = polls().await - count;
        polled >= 10.0
    })
    .await;
    assert!(polled <= began.elapsed().as_secs_f64() / 0.2 + 2.0, "{polled} polls in {:?}", began.elapsed());
}

#[derive(Debug)]
struct AtRest {
    descriptors: f64,
    memory_bytes: f64,
}

/// Returns the resources in use once all removed targets have ended.
async fn at_rest(reloading: &Reloading, client: &mut crate::support::client::RedisClient) -> AtRest {
    wait_until(SOON, "one connection to the server is left", async || {
        let clients: String = client.ask(&["CLIENT", "LIST"]).await;
        // The test's own is the other.
        clients.lines().count() == 2
    })
    .await;
    let metrics = reloading
        .metrics_when("one notifier is left", |metrics| {
            let queues = "streamgauge_notification_queue_length";
            crate::support::metrics::named(metrics, queues).len() == 1
        })
        .await;
    AtRest {
        descriptors: metrics["process_open_fds"],
        memory_bytes: metrics["process_resident_memory_bytes"],
    }
}
