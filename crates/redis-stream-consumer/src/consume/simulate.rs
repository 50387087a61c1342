//! Simulated work before another handler: `--work-time` and `--fail-rate`.

use std::time::Duration;

use tokio::time::sleep;

use super::handler::{Handler, HandlerError};
use crate::entry::Entry;

/// A handler that takes time and fails at random, and then calls another one.
#[derive(Clone, Debug)]
pub struct Simulated<H> {
    /// The handler that is called after the simulated work.
    pub inner: H,
    /// Duration of the simulated work on each entry.
    pub work_time: Duration,
    /// Share of deliveries that fail, from 0 to 1.
    pub fail_rate: f64,
}

impl<H: Handler> Handler for Simulated<H> {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        if !self.work_time.is_zero() {
            sleep(self.work_time).await;
        }
        if fastrand::f64() < self.fail_rate {
            return Err(HandlerError::failed("simulated failure"));
        }
        self.inner.handle(entry).await
    }
}
