//! Limits on one client and on all clients together.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// Time that every client has to send a request.
const SHORTEST_CROWDED: Duration = Duration::from_millis(200);

/// Limits on connections, request heads and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at a time. Others wait in the backlog of the kernel, and while this limit is reached no connection
    /// is kept alive.
    pub connections: usize,
    /// Replies made or sent at a time, without those of open routes. Other requests wait.
    pub answers: usize,
    /// Size of a request head. A larger one is answered with 431.
    pub head_bytes: usize,
    /// Time from the moment a connection is ready for a request until its head has arrived. Ends slow and idle
    /// connections.
    pub head: Duration,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Idle time after which a connection is closed while `connections` or `answers` is reached, so that idle clients
    /// do not keep others out.
    pub crowded: Duration,
    /// Requests on one connection.
    pub requests: usize,
    /// Time in which a client must read 64 KiB of a reply, or the rest of it.
    pub write_stall: Duration,
    /// Time to discard what a client still sends after its last reply, without which a reset could destroy that reply.
    pub linger: Duration,
    /// Time for replies in progress at shutdown.
    pub drain: Duration,
}

/// File descriptors for everything except connections of clients and targets.
const RESERVED_DESCRIPTORS: u64 = 32;

impl ServerLimits {
    /// Returns the limits for this process, which leave it file descriptors for `targets` targets and for its files.
    #[must_use]
    pub fn within_descriptors(targets: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::default().within(descriptors.saturating_sub(2 * targets as u64))
    }

    fn within(self, descriptors: u64) -> Self {
        // The listener for probes has the rest.
        let free = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 4 * 3;
        let connections = self.connections.min(usize::try_from(free).unwrap_or(usize::MAX)).max(4);
        // Few connections are taken by idle clients sooner, so these are closed sooner.
        let share = connections as f64 / self.connections as f64;
        let crowded = self.crowded.mul_f64(share).max(SHORTEST_CROWDED.min(self.crowded));
        Self { connections, crowded, ..self }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            // Each takes up to 512 KiB while it is sent.
            answers: 16,
            head_bytes: 16 * 1024,
            // Between the usual scrape intervals: at exactly 10 s, 15 s or 30 s each request of a scraper could meet
            // the close of its connection.
            head: Duration::from_secs(20),
            handshake: Duration::from_secs(10),
            crowded: Duration::from_secs(2),
            requests: 1000,
            write_stall: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        for (descriptors, connections, crowded_ms) in [
            (0, 4, 200),
            (40, 6, 200),
            (64, 24, 200),
            (256, 168, 656),
            (1024, 512, 2000),
            (u64::MAX, 512, 2000),
        ] {
            let limits = ServerLimits::default().within(descriptors);
            assert_eq!(
                (limits.connections, limits.crowded.as_millis()),
                (connections, crowded_ms),
                "{descriptors}"
            );
        }
    }
}
