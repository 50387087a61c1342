//! The trait that a program implements to handle entries.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::entry::Entry;

/// Handles entries, one call for each delivery.
///
/// An entry is acknowledged after `handle` returned `Ok`. After an error, a panic or a crash of the process it stays
/// pending and is handled again, so a handler must be idempotent. With a concurrency above 1, there are several calls at
/// the same time.
///
/// Work that blocks its thread (a computation, a file) belongs into `tokio::task::spawn_blocking`: until it is done,
/// nothing else runs on that thread, including the response to SIGTERM. When the run is stopped and the grace is over,
/// unfinished calls are dropped at their next `await`.
///
/// ```no_run
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use redis_stream_consumer::consume::handler::{Handler, HandlerError};
/// use redis_stream_consumer::entry::Entry;
///
/// /// Sums up the field `amount`.
/// struct Sum(AtomicU64);
///
/// impl Handler for Sum {
///     async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
///         let amount = entry.field("amount").ok_or_else(|| HandlerError::failed("no amount"))?;
///         let amount = std::str::from_utf8(amount).ok().and_then(|text| text.parse().ok());
///         let amount = amount.ok_or_else(|| HandlerError::failed("amount is not a number"))?;
///         self.0.fetch_add(amount, Ordering::Relaxed);
///         Ok(())
///     }
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// use redis_stream_consumer::consume::{self, ConsumerConfig};
/// use redis_stream_consumer::connect_options::ConnectOptions;
///
/// let connect = ConnectOptions::new("redis://localhost:6379", None, None)?;
/// let config = ConsumerConfig::new(connect, "orders", "billing", "worker-1");
/// let stop = async { /* a signal, say */ };
/// let stats = consume::run(&config, Sum(AtomicU64::new(0)), stop).await?;
/// println!("{} entries handled", stats.handled);
/// # Ok::<_, redis_stream_consumer::error::RunError>(())
/// # }).unwrap();
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles one entry, which is acknowledged after `Ok`.
    ///
    /// # Errors
    ///
    /// The entry stays pending. The variant decides whether it is retried, or the run ends.
    fn handle(&self, entry: &Entry) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// The error of a handler.
#[derive(Debug, Error)]
pub enum HandlerError {
    /// This entry failed. It is retried after a delay; after the last delivery it moves to the dead-letter stream,
    /// together with the reason.
    #[error("{reason}")]
    Failed {
        /// Text for the log and the dead letter.
        reason: String,
        /// Least delay until the next attempt; zero for the delay of the consumer's backoff.
        delay: Duration,
    },
    /// The handler cannot work at present, through no fault of this entry: a program that does not start, a service that
    /// is down. The entry is retried after a delay, and this delivery does not count.
    #[error("{0}")]
    Unavailable(String),
    /// This entry can never be handled: it moves to the dead-letter stream at once, together with this text.
    #[error("{0}")]
    Rejected(String),
    /// The output was closed by its reader (a broken pipe): the run ends with success.
    #[error("the reader of the results is gone")]
    Closed,
    /// Results cannot be written (a full disk): the run ends with this error.
    #[error("cannot write results")]
    Broken(#[source] io::Error),
}

impl HandlerError {
    /// Returns [`HandlerError::Failed`] with a reason, and the delay of the consumer's backoff.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), delay: Duration::ZERO }
    }
}

/// A handler that always succeeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

impl Handler for Noop {
    async fn handle(&self, _: &Entry) -> Result<(), HandlerError> {
        Ok(())
    }
}
