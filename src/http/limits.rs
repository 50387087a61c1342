//! What one client, and all clients together, may take of the server.

use std::time::Duration;

/// Bounds on connections, request heads and time: no client keeps a connection that it does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at once. Further ones wait in the kernel's backlog, and no connection is kept alive while all
    /// places are taken. One that waits for a request takes little memory.
    pub connections: usize,
    /// Answers that are made or sent at once, those of open routes apart. Further requests wait.
    pub answers: usize,
    /// Bytes of a request's head, from the method to the empty line. A longer one is answered with 431.
    pub head_bytes: usize,
    /// Time from the moment a connection is ready for a request until the request's head has arrived. So it
    /// cuts off slow senders and idle connections alike.
    pub head: Duration,
    /// Time until the TLS handshake is over.
    pub handshake: Duration,
    /// Time without progress after which a client loses its place while all places, or all answers, are taken: it sends
    /// no request, or takes nothing of its answer. So clients that only hold places do not keep out others for long.
    pub crowded: Duration,
    /// Requests that one connection may carry; after the last one it is closed.
    pub requests: usize,
    /// Time in which a client must take some of an answer (64 KiB, or what is left of it).
    pub write_stall: Duration,
    /// Time to throw away what a client still sends after the last answer, so that it can read that answer.
    pub linger: Duration,
    /// Time that answers under way have to finish after the shutdown began.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            // One takes up to half a MiB while it is sent.
            answers: 16,
            head_bytes: 16 * 1024,
            // Between the usual scrape intervals: at exactly 10 s, 15 s or 30 s a scraper's next request would
            // meet the close of its connection again and again.
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
