//! A log line each 30 seconds, with what was done since the last one.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::ConsumeStats;
use super::metrics::Metrics;

const PERIOD: Duration = Duration::from_secs(30);

/// Logs while entries are in flight or were handled. Never ends.
pub(super) async fn log(metrics: &Metrics) -> Infallible {
    let mut before = metrics.stats();
    loop {
        sleep(PERIOD).await;
        let stats = metrics.stats();
        let in_flight = metrics.in_flight.get();
        if stats != before || in_flight > 0 {
            let ConsumeStats { handled, failed, dead_lettered, .. } = stats;
            let per_second = format!("{:.1}", (handled - before.handled) as f64 / PERIOD.as_secs_f64());
            info!(handled, per_second, failed, dead_lettered, in_flight, "progress");
        }
        before = stats;
    }
}
