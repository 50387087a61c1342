//! What a consumer does with its entries: the trait that a program of yours implements.

use std::io;

use thiserror::Error;

use crate::entry::Entry;

/// Handles entries, one call for each delivery.
///
/// An entry is acknowledged after `handle` returned `Ok`. Everything else (an error, a panic, a process that is
/// killed) leaves it pending, and it is handled again: so a handler has to bear an entry that comes twice. With a
/// concurrency above 1 there are several calls at a time.
///
/// A handler that blocks its thread (a computation, a file) belongs into `tokio::task::spawn_blocking`: until it
/// is done nothing else runs on that thread, the answer to SIGTERM among it. When the consumer ends and the grace
/// is over, calls that are under way are dropped at their next `await`.
///
/// ```no_run
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use redis_stream_consumer::consume::handler::{Handler, HandlerError};
/// use redis_stream_consumer::entry::Entry;
///
/// /// Adds up the field `amount`.
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
/// # Ok::<_, redis_stream_consumer::error::WorkloadError>(())
/// # }).unwrap();
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles one entry; `Ok` means that it may be acknowledged.
    fn handle(&self, entry: &Entry) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Why an entry was not handled.
#[derive(Debug, Error)]
pub enum HandlerError {
    /// This entry failed. It stays pending and is tried again after a while; after the last delivery it goes to
    /// the dead-letter stream together with this text.
    #[error("{0}")]
    Failed(String),
    /// Nobody is interested in results any more (a broken pipe): the consumer ends, which is a success. The
    /// entry stays pending.
    #[error("the reader of the results is gone")]
    Closed,
    /// Results cannot be written at all (a full disk): the consumer ends with this error. The entry stays pending.
    #[error("cannot write results")]
    Broken(#[source] io::Error),
}

impl HandlerError {
    /// This entry failed, for this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }
}

/// Does nothing, and always succeeds: what a consumer can do at most, and what the demo needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

impl Handler for Noop {
    async fn handle(&self, _: &Entry) -> Result<(), HandlerError> {
        Ok(())
    }
}
