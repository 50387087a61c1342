//! Waiting for a condition with a deadline, in place of sleeping. Needs the real clock: not for paused Tokio time.

use std::fmt::Display;
use std::time::Duration;

/// Time between two checks of the condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until the condition holds; panics with `what` after the deadline.
///
/// ```ignore
/// wait_until(Duration::from_secs(5), "the stream is up again", async || up(&exporter).await == 1.0).await;
/// ```
pub async fn wait_until(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    wait_for(deadline, what, async || match condition().await {
        true => Ok(()),
        false => Err("the condition does not hold"),
    })
    .await;
}

/// Waits until the attempt gives a value, and returns it; panics with `what` and the last error after the deadline.
pub async fn wait_for<T, E: Display>(
    deadline: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = "no attempt ended".to_owned();
    let found = tokio::time::timeout(deadline, async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("not within {deadline:?}: {what}; at last: {last}"))
}
