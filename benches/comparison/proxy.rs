//! A TCP proxy that adds latency in both directions without limiting the throughput: bytes keep their distance in time.
//!
//! It uses threads, since the timers of an asynchronous runtime are not finer than the delay.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum number of bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;
/// Maximum number of chunks in flight in one direction: many more than arrive within the delay.
const CHUNKS_ON_THEIR_WAY: usize = 1_024;

/// A proxy that accepts connections until it is dropped.
pub(crate) struct LatencyProxy {
    address: SocketAddr,
    is_closed: Arc<AtomicBool>,
}

impl LatencyProxy {
    /// Starts a proxy to `upstream` on a free loopback port, which adds `one_way` in each direction.
    pub(crate) fn start(upstream: SocketAddr, one_way: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                // Dropping the client's connection if the server cannot be reached.
                if let Ok(server) = TcpStream::connect(upstream) {
                    join(&client, &server, one_way);
                    join(&server, &client, one_way);
                }
            }
        });
        Self { address, is_closed }
    }

    /// Returns the URL of the server through the proxy.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for LatencyProxy {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Forwards bytes in one direction, on two threads, until either end is closed.
fn join(from: &TcpStream, to: &TcpStream, delay: Duration) {
    let clone = |end: &TcpStream| {
        end.set_nodelay(true).expect("a TCP socket can be told not to wait");
        end.try_clone().expect("a second handle of a socket")
    };
    let (from, to) = (clone(from), clone(to));
    let (sender, receiver) = sync_channel(CHUNKS_ON_THEIR_WAY);
    thread::spawn(move || take(from, &sender));
    thread::spawn(move || deliver(to, &receiver, delay));
}

fn take(mut from: TcpStream, queue: &SyncSender<(Instant, Vec<u8>)>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if queue.send((now(), chunk[..read].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn deliver(mut to: TcpStream, queue: &Receiver<(Instant, Vec<u8>)>, delay: Duration) {
    for (taken, chunk) in queue {
        thread::sleep(delay.saturating_sub(taken.elapsed()));
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    // The end of one direction ends the other, since neither exporter closes half a connection.
    let _ = to.shutdown(Shutdown::Both);
}

#[expect(clippy::disallowed_methods, reason = "the delay is one of real time")]
fn now() -> Instant {
    Instant::now()
}
