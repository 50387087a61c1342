//! The future that ends a run, in a form that can be asked again and again.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A future that ends a run, and whether it has.
pub(super) struct Stop {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    fired: bool,
}

impl Stop {
    /// Not polled before it is first asked.
    pub(super) fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { future: Box::pin(future), fired: false }
    }

    /// Resolves once the run shall end, and at once from then on. Safe to drop before.
    pub(super) async fn wait(&mut self) {
        if !self.fired {
            self.future.as_mut().await;
            self.fired = true;
        }
    }

    /// Whether the run shall end now.
    pub(super) fn is_set(&mut self) -> bool {
        if !self.fired {
            // Whoever waits next polls again and leaves a waker that works.
            let mut context = Context::from_waker(Waker::noop());
            self.fired = matches!(self.future.as_mut().poll(&mut context), Poll::Ready(()));
        }
        self.fired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_that_fired_stays_fired() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut stop = Stop::new(async {
            let _ = receiver.await;
        });
        assert!(!stop.is_set());
        drop(sender);
        stop.wait().await;
        stop.wait().await;
        assert!(stop.is_set());
    }
}
