//! A consumer of your own: sums up the field `amount` of the stream `orders`, until Ctrl-C.
//!
//! ```text
//! redis-cli XADD orders '*' amount 3
//! cargo run --example consumer -- redis://localhost:6379
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::handler::{Handler, HandlerError};
use redis_stream_consumer::consume::{self, ConsumerConfig};
use redis_stream_consumer::entry::Entry;

struct Sum(Arc<AtomicU64>);

impl Handler for Sum {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let amount = entry.field("amount").ok_or_else(|| HandlerError::failed("there is no amount"))?;
        let amount = std::str::from_utf8(amount).ok().and_then(|text| text.parse::<u64>().ok());
        // An entry that fails is tried again, and goes to the stream orders:dead in the end.
        let amount = amount.ok_or_else(|| HandlerError::failed("amount is not a number"))?;
        self.0.fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://localhost:6379".to_owned());
    let consumer = format!("example-{}", std::process::id());
    let config = ConsumerConfig {
        concurrency: 4,
        ..ConsumerConfig::new(ConnectOptions::new(&url, None, None)?, "orders", "billing", consumer)
    };
    let sum = Arc::new(AtomicU64::new(0));
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let stats = consume::run(&config, Sum(Arc::clone(&sum)), stop).await?;
    #[expect(clippy::print_stdout, reason = "the result of the example")]
    {
        println!("{} entries handled, {} in all", stats.handled, sum.load(Ordering::Relaxed));
    }
    Ok(())
}
