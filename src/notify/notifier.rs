//! The interface between the send loop and the kinds of receivers.

use futures_util::future::BoxFuture;

use crate::http_client::HttpError;
use crate::notify::model::{Batch, ProbeResult, Sent};

/// Sends notifications to one receiver.
pub(super) trait Notifier: Send + Sync {
    /// Makes one attempt to send a batch.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Sent, HttpError>>;

    /// Connects to each address, over TLS where the URL says so, and sends nothing.
    fn probe(&self) -> BoxFuture<'_, Vec<ProbeResult>>;
}
