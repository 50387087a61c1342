//! How the program is asked to end: one signal, seen by every room through a token that is cheap to clone.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// Asks every [`Shutdown`] that belongs to it to end. Dropping it asks as well, so that nothing waits for
/// ever on a part of the program that is gone.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

impl Trigger {
    /// Asks all to end. Asking twice is asking once.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

/// Tells a room that it shall end.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A token, and what fires it.
    pub fn new() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// A token that fires on the first SIGINT or SIGTERM.
    ///
    /// # Errors
    ///
    /// Where the system refuses to register the signals.
    pub fn on_signal() -> io::Result<Self> {
        let signalled = signalled()?;
        let (trigger, shutdown) = Self::new();
        tokio::spawn(async move {
            let name = signalled.await;
            info!(signal = name, "shutting down");
            trigger.fire();
        });
        Ok(shutdown)
    }

    /// Resolves once shutdown was asked for, and at once from then on. Owns what it needs, and is safe to drop.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut receiver = self.0.clone();
        async move {
            // An error says that the trigger is gone, which asks as well.
            let _ = receiver.wait_for(|asked| *asked).await;
        }
    }

    /// Whether shutdown was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// A future that resolves on SIGINT or SIGTERM, with the signal's name. The signals are caught from this
/// call on, not from the first poll.
///
/// # Errors
///
/// Where the system refuses to register the signals.
pub fn signalled() -> io::Result<impl Future<Output = &'static str> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_and_its_clones_fire_once_and_stay_fired() {
        let (trigger, shutdown) = Shutdown::new();
        let waiting = shutdown.clone().requested();
        assert!(!shutdown.is_requested());
        trigger.fire();
        waiting.await;
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_trigger_that_is_gone_asks_too() {
        let (trigger, shutdown) = Shutdown::new();
        drop(trigger);
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
