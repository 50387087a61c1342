//! Work that is only made up, in front of another handler: `--work-time` and `--fail-rate`.

use std::time::Duration;

use tokio::time::sleep;

use super::handler::{Handler, HandlerError};
use crate::entry::Entry;

/// Takes its time and fails now and then, before the handler within is called.
#[derive(Clone, Debug)]
pub struct Simulated<H> {
    /// What is called in the end.
    pub inner: H,
    /// Time spent on each entry.
    pub work_time: Duration,
    /// Share of deliveries that fail, 0 to 1.
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
