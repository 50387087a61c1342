//! Turns SIGINT and SIGTERM into a [`CancellationToken`] that every part of the program waits for.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Returns a token that is cancelled by the first SIGINT or SIGTERM. The signals are caught from this call on.
///
/// # Errors
///
/// The system refuses to register the signals.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = CancellationToken::new();
    // What waits for the token must not wait for ever if this task fails.
    let guard = shutdown.clone().drop_guard();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        info!(signal = name, "shutting down");
        drop(guard);
    });
    Ok(shutdown)
}
