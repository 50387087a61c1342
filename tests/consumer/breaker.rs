//! The circuit breaker: an outage of what handlers depend on puts no entry into the dead-letter stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis_stream_consumer::consume::handler::{Handler, HandlerError};
use redis_stream_consumer::consume::metrics::Metrics;
use redis_stream_consumer::consume::{self, ConsumerConfig};
use redis_stream_consumer::entry::Entry;
use tokio_util::sync::CancellationToken;

use crate::member::{DEADLINE, Recorder, Running, add, deliveries, member, pending, send};
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

/// Fails for every entry while a service is down.
struct Dependent {
    is_down: Arc<AtomicBool>,
    recorder: Recorder,
}

impl Handler for Dependent {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        self.recorder.handle(entry).await?;
        match self.is_down.load(Ordering::SeqCst) {
            true => Err(HandlerError::failed("the service is down")),
            false => Ok(()),
        }
    }
}

fn is_open(metrics: &Metrics) -> bool {
    let text = String::from_utf8(metrics.render().expect("they can be rendered")).expect("it is text");
    let line = text.lines().find(|line| line.starts_with("streamgauge_consumer_circuit_breaker_open{"));
    line.expect("it is there from the start").ends_with(" 1")
}

#[tokio::test]
async fn an_outage_costs_no_delivery_and_the_consumer_reads_again_after_it() {
    for_each_server(async |server| {
        add(&server, 1, 50).await;
        let (is_down, recorder) = (Arc::new(AtomicBool::new(false)), Recorder::default());
        let handler = Dependent { is_down: Arc::clone(&is_down), recorder: recorder.clone() };
        let config = ConsumerConfig {
            batch: 10,
            concurrency: 3,
            max_deliveries: 2,
            // No entry is retried before the breaker opens.
            retry_delay: Duration::from_millis(300),
            ..member(&server, "one")
        };
        let metrics = Metrics::new(&config.member()).expect("new metrics");
        let (stop, own) = (CancellationToken::new(), metrics.clone());
        let stopped = stop.clone().cancelled_owned();
        let run = tokio::spawn(async move {
            consume::run_with(&config, handler, own, stopped, std::future::pending()).await
        });
        wait_until(DEADLINE, "all are handled", async || recorder.count() == 50).await;
        assert!(!is_open(&metrics));

        is_down.store(true, Ordering::SeqCst);
        add(&server, 51, 600).await;
        wait_until(DEADLINE, "it opens", async || is_open(&metrics)).await;
        // Twice as often as the deliveries would last.
        let tried = recorder.count();
        wait_until(DEADLINE, "entries are tried", async || recorder.count() >= tried + 8).await;
        let counts = deliveries(&server).await;
        // A batch, those in flight, and one for a trial now and then.
        assert!((10..40).contains(&counts.len()), "{}", counts.len());
        assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
        let in_a_row = recorder.seen()[tried..].iter().filter(|(_, count)| *count > 1).count();
        assert_eq!(in_a_row, 0, "{:?}", recorder.seen());

        is_down.store(false, Ordering::SeqCst);
        let mut connection = server.connection().await;
        wait_until(DEADLINE, "all are handled", async || {
            recorder.distinct().len() == 650 && pending(&mut connection).await == Some(0)
        })
        .await;
        assert!(!is_open(&metrics));
        assert_eq!(send::<u64>(&mut connection, "EXISTS orders:dead").await, 0);
        stop.cancel();
        let stats = run.await.expect("no panic").expect("no error");
        assert_eq!((stats.handled, stats.dead_lettered), (650, 0));
    })
    .await;
}

/// As many poison entries as open the breaker, good ones after them that are not read yet, and later one now and then.
#[tokio::test]
async fn entries_that_always_fail_do_not_keep_the_breaker_open() {
    for_each_server(async |server| {
        add(&server, 1, 30).await;
        let recorder = Recorder { poison: (1..=10).collect(), ..Recorder::default() };
        let config = ConsumerConfig {
            batch: 1,
            claim_min_idle: Duration::from_millis(500),
            max_deliveries: 3,
            max_retry_delay: Duration::from_millis(100),
            ..member(&server, "one")
        };
        let running = Running::start(config, recorder);
        let mut connection = server.connection().await;
        let mut last = 30;
        wait_until(DEADLINE, "the poison is buried", async || {
            let handled = running.recorder.distinct().len() as u64;
            if handled == last {
                last += 1;
                add(&server, last, 1).await;
            }
            send::<u64>(&mut connection, "XLEN orders:dead").await == 10
        })
        .await;
        wait_until(DEADLINE, "nothing is pending", async || {
            let handled = running.recorder.distinct().len() as u64;
            handled == last && pending(&mut connection).await == Some(0)
        })
        .await;
        let (_, stats) = running.stop().await;
        assert_eq!((stats.handled, stats.dead_lettered), (last - 10, 10));
    })
    .await;
}

#[tokio::test]
async fn what_a_broken_consumer_was_given_goes_to_the_others() {
    for_each_server(async |server| {
        add(&server, 1, 100).await;
        let broken = Recorder { poison: (1..=1_000).collect(), ..Recorder::default() };
        let config = |name: &str| ConsumerConfig {
            batch: 50,
            claim_min_idle: Duration::from_millis(500),
            max_deliveries: 2,
            ..member(&server, name)
        };
        let broken = Running::start(config("broken"), broken);
        broken.has_seen(12).await;
        let healthy = Running::start(config("healthy"), Recorder::default());
        let mut connection = server.connection().await;
        wait_until(DEADLINE, "the other handles all", async || {
            healthy.recorder.distinct().len() == 100 && pending(&mut connection).await == Some(0)
        })
        .await;
        assert_eq!(broken.stop().await.1.dead_lettered, 0);
        assert_eq!(healthy.stop().await.1.dead_lettered, 0);
    })
    .await;
}

#[tokio::test]
async fn a_stop_while_it_is_open_leaves_the_deliveries_as_they_were() {
    for_each_server(async |server| {
        add(&server, 1, 30).await;
        let recorder = Recorder { poison: (1..=30).collect(), ..Recorder::default() };
        let running = Running::start(member(&server, "one"), recorder);
        running.has_seen(12).await;
        let (_, stats) = running.stop().await;
        assert_eq!((stats.handled, stats.dead_lettered), (0, 0));
        let counts = deliveries(&server).await;
        assert_eq!(counts.len(), 30);
        assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
    })
    .await;
}

#[tokio::test]
async fn without_a_threshold_it_stays_closed() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 30).await;
    let recorder = Recorder { poison: (1..=30).collect(), ..Recorder::default() };
    let config = ConsumerConfig { breaker_threshold: 0, max_deliveries: 2, ..member(&server, "one") };
    let running = Running::start(config, recorder);
    wait_until(DEADLINE, "all are buried", async || {
        send::<u64>(&mut server.connection().await, "XLEN orders:dead").await == 30
    })
    .await;
    running.stop().await;
}
