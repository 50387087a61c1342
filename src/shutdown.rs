//! Turns SIGINT and SIGTERM into [`CancellationToken`]s that every part of the program waits for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Tokens that signals cancel.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Cancelled by the first SIGINT or SIGTERM: finish what was begun, and end.
    pub requested: CancellationToken,
    /// Cancelled by the second one: end at once.
    pub repeated: CancellationToken,
}

/// Returns tokens that are cancelled by SIGINT and SIGTERM. The signals are caught from this call on.
///
/// # Errors
///
/// The system refuses to register the signals.
pub fn on_signal() -> io::Result<Shutdown> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = Shutdown { requested: CancellationToken::new(), repeated: CancellationToken::new() };
    // What waits for a token must not wait for ever if this task fails.
    let requested = shutdown.requested.clone().drop_guard();
    let repeated = shutdown.repeated.clone().drop_guard();
    tokio::spawn(async move {
        let signal = next(&mut interrupt, &mut terminate).await;
        info!(signal, "shutting down");
        drop(requested);
        next(&mut interrupt, &mut terminate).await;
        drop(repeated);
    });
    Ok(shutdown)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
