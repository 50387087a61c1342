//! Resources used by a server, by its own counters.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::cmd;

use crate::support::server::connect;

/// Number of timed round trips.
const PINGS: usize = 20;

/// Counters of a server, from INFO.
pub(crate) struct Usage {
    /// CPU time.
    cpu: Duration,
    commands: u64,
    sent_bytes: u64,
    /// Size of the INFO reply itself, which the server adds to the bytes sent after sending it.
    own_bytes: u64,
}

/// Resources used between two readings.
pub(crate) struct Used {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Commands sent to it.
    pub(crate) commands: u64,
    /// Bytes sent by it.
    pub(crate) sent_bytes: u64,
}

impl Usage {
    /// Reads the counters.
    pub(crate) async fn of(server: &mut MultiplexedConnection) -> Self {
        let info: String =
            cmd("INFO").arg("all").query_async(server).await.expect("the server answers to INFO");
        let value = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("INFO lacks {name}")).trim()
        };
        let seconds = |name: &str| value(name).parse().map(Duration::from_secs_f64).expect("CPU in seconds");
        let calls = info.lines().filter_map(|line| {
            let (_, after) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            after.split(',').next()?.parse::<u64>().ok()
        });
        Self {
            cpu: seconds("used_cpu_user") + seconds("used_cpu_sys"),
            commands: calls.sum(),
            sent_bytes: value("total_net_output_bytes").parse().expect("bytes are a number"),
            own_bytes: info.len() as u64,
        }
    }

    /// Returns the resources used since, without the reply to the first INFO, which is counted after it.
    pub(crate) async fn since(self, server: &mut MultiplexedConnection) -> Used {
        let now = Self::of(server).await;
        Used {
            cpu: now.cpu.saturating_sub(self.cpu),
            commands: now.commands.saturating_sub(self.commands + 1),
            sent_bytes: now.sent_bytes.saturating_sub(self.sent_bytes + self.own_bytes),
        }
    }
}

/// Returns the shortest of a few round trips.
pub(crate) async fn round_trip(url: &str) -> Duration {
    let mut connection = connect(url).await.expect("the server takes a connection");
    let mut shortest = Duration::MAX;
    for _ in 0..PINGS {
        let sent = now();
        let _: String = cmd("PING").query_async(&mut connection).await.expect("the server answers");
        shortest = shortest.min(sent.elapsed());
    }
    shortest
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn now() -> Instant {
    Instant::now()
}
