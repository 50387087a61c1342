//! A consumer of your own: sums up the field `amount` of the stream `orders`, until Ctrl-C.
//!
//! With `--batches` it takes up to 100 entries at a time, as for one transaction of a database.
//!
//! ```text
//! streamgauge produce --redis-url redis://localhost:6379 --stream orders --field 'amount={{number}}' --count 1000
//! cargo run --example consumer -- redis://localhost:6379
//! cargo run --example consumer -- redis://localhost:6379 --batches
//! ```

#![expect(clippy::print_stdout, reason = "the result of the example")]

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::handler::{Handler, HandlerError};
use redis_stream_consumer::consume::metrics::Metrics;
use redis_stream_consumer::consume::{self, ConsumerConfig};
use redis_stream_consumer::entry::Entry;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// Handles entries one by one.
struct Sum(Arc<AtomicU64>);

impl Handler for Sum {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        self.0.fetch_add(amount(entry)?, Ordering::Relaxed);
        Ok(())
    }
}

/// An entry that fails is tried again, and goes to the stream orders:dead in the end. One without a right amount never
/// succeeds, so it goes there at once.
fn amount(entry: &Entry) -> Result<u64, HandlerError> {
    let rejected = || HandlerError::Rejected("the field amount is no number".to_owned());
    let text =
        entry.field("amount").and_then(|amount| std::str::from_utf8(amount).ok()).ok_or_else(rejected)?;
    text.parse().map_err(|_| rejected())
}

/// Most entries of a batch.
const BATCH: usize = 100;

/// An amount, and where to report that it was written.
type Waiting = (u64, oneshot::Sender<()>);

/// Hands entries to a task that writes them in batches, and returns for each once its batch was written. What is there
/// makes a batch, so no entry waits for others.
struct Batches(mpsc::Sender<Waiting>);

impl Handler for Batches {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let unavailable = || HandlerError::Unavailable("the writer of batches has ended".to_owned());
        let (written, is_written) = oneshot::channel();
        self.0.send((amount(entry)?, written)).await.map_err(|_| unavailable())?;
        // If the batch fails, the sender is dropped, and the entry is tried again.
        is_written.await.map_err(|_| unavailable())
    }
}

async fn write_batches(mut waiting: mpsc::Receiver<Waiting>, sum: Arc<AtomicU64>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        println!("a batch of {} entries", batch.len());
        // In place of a transaction. Meanwhile the next batch gathers.
        sleep(Duration::from_millis(5)).await;
        sum.fetch_add(batch.iter().map(|(amount, _)| amount).sum(), Ordering::Relaxed);
        for (_, written) in batch.drain(..) {
            // The receiver is gone if the consumer ended at once.
            let _ = written.send(());
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Log lines of the consumer: reconnects, failures, dead letters, progress.
    tracing_subscriber::fmt().init();
    let (flags, urls): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let url = urls.first().map_or("redis://localhost:6379", String::as_str);
    let takes_batches = flags.iter().any(|flag| flag == "--batches");
    let consumer = format!("example-{}", std::process::id());
    let config = ConsumerConfig {
        concurrency: if takes_batches { u32::try_from(BATCH)? } else { 4 },
        ..ConsumerConfig::new(ConnectOptions::new(url, None, None)?, "orders", "billing", consumer)
    };
    let sum = Arc::new(AtomicU64::new(0));
    let metrics = Metrics::new(&config.member())?;
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let stats = if takes_batches {
        let (sender, receiver) = mpsc::channel(BATCH);
        tokio::spawn(write_batches(receiver, Arc::clone(&sum)));
        consume::run_with(&config, Batches(sender), metrics.clone(), stop, pending()).await?
    } else {
        consume::run_with(&config, Sum(Arc::clone(&sum)), metrics.clone(), stop, pending()).await?
    };
    println!("{} entries handled, {} in all", stats.handled, sum.load(Ordering::Relaxed));
    // An HTTP server would send this to Prometheus.
    let metrics = String::from_utf8(metrics.render()?)?;
    println!("{} lines of metrics", metrics.lines().count());
    Ok(())
}
