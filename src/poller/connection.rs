//! A connection to one server: commands go out in pipelines, and their replies come back in order.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::poller::resp::{End, Malformed, Scanner, Value, Values};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::dial::Stream;

const READ_BYTES: usize = 16 * 1024;

/// Number of the first bytes that are kept.
const FIRST_BYTES: usize = 64;

/// Replies of more kept bytes than this are large: 5,000 groups or consumers have fewer.
const LARGE_BYTES: usize = 1024 * 1024;

/// Permits for large replies, in the whole process: however many servers send them, they take little memory.
static LARGE_REPLIES: Semaphore = Semaphore::const_new(3);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("closed by the server")]
    Closed,
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The replies to one pipeline.
#[derive(Debug)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    /// Held until large replies are decoded.
    _permit: Option<SemaphorePermit<'static>>,
}

impl Replies {
    pub(super) fn values(&self) -> Values<'_> {
        Values::all(&self.bytes)
    }

    /// Returns the first reply.
    pub(super) fn value(&self) -> Value<'_> {
        self.values().next().unwrap_or_default()
    }
}

/// A connection. A request whose future is dropped leaves it usable: its replies are skipped when they arrive.
#[derive(Debug)]
pub(super) struct NodeConnection {
    stream: Stream,
    metrics: TargetMetrics,
    /// Bytes to be written, from `written` on.
    output: Vec<u8>,
    written: usize,
    /// Bytes that were read, from `scanned` on.
    input: Vec<u8>,
    scanned: usize,
    scanner: Scanner,
    permit: Option<SemaphorePermit<'static>>,
    /// Replies to the commands sent so far that have not arrived.
    outstanding: usize,
    has_ended: bool,
    /// The first bytes that were received, at most [`FIRST_BYTES`].
    first: Vec<u8>,
}

impl NodeConnection {
    pub(super) fn new(stream: Stream, metrics: TargetMetrics) -> Self {
        Self {
            stream,
            metrics,
            output: Vec::new(),
            written: 0,
            input: Vec::with_capacity(READ_BYTES),
            scanned: 0,
            scanner: Scanner::default(),
            permit: None,
            outstanding: 0,
            has_ended: false,
            first: Vec::new(),
        }
    }

    /// Returns the first bytes that were received: they show a server that speaks another protocol.
    pub(super) fn first_bytes(&self) -> &[u8] {
        &self.first
    }

    /// Skips the replies that are outstanding, as the requests that they belong to were dropped.
    pub(super) async fn skip_outstanding(&mut self) -> Result<(), ConnectionError> {
        while self.outstanding > 0 {
            self.read(1).await?;
        }
        Ok(())
    }

    /// Queues packed commands, each of which gets one reply.
    pub(super) fn send(&mut self, commands: &[u8], count: usize) {
        self.output.drain(..std::mem::take(&mut self.written));
        self.output.extend_from_slice(commands);
        self.outstanding += count;
    }

    /// Returns the next `count` replies.
    pub(super) async fn read(&mut self, count: usize) -> Result<Replies, ConnectionError> {
        let mut left = count;
        while left > 0 {
            if self.scanned == self.input.len() {
                poll_fn(|context| self.exchange(context)).await.inspect_err(|_| self.has_ended = true)?;
            }
            if self.scanner.kept_bytes() > LARGE_BYTES && self.permit.is_none() {
                self.permit = LARGE_REPLIES.acquire().await.ok();
            }
            let scanned = self.scanner.scan(&self.input[self.scanned..]);
            let (taken, end) = scanned.inspect_err(|_| self.has_ended = true)?;
            self.scanned += taken;
            if end == End::Reply {
                left -= 1;
                self.outstanding = self.outstanding.saturating_sub(1);
            }
        }
        Ok(Replies { bytes: self.scanner.take_replies(), _permit: self.permit.take() })
    }

    /// Sends packed commands and returns their replies.
    pub(super) async fn request(
        &mut self,
        commands: &[u8],
        count: usize,
    ) -> Result<Replies, ConnectionError> {
        self.skip_outstanding().await?;
        self.send(commands, count);
        self.read(count).await
    }

    /// Returns true if the other side closed the connection.
    pub(super) fn is_closed(&mut self) -> bool {
        if !self.has_ended && self.scanned == self.input.len() {
            let polled = self.poll_input(&mut Context::from_waker(Waker::noop()));
            self.has_ended = matches!(polled, Poll::Ready(Err(_)));
        }
        self.has_ended
    }

    /// Reads what has arrived, and writes what is queued. An error of writing is not reported: the server may have
    /// sent the reason before it closed the connection, which only reading shows.
    fn exchange(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.has_ended {
            return Poll::Ready(Err(ConnectionError::Closed));
        }
        let input = self.poll_input(context);
        if input.is_pending() && self.poll_output(context).is_err() {
            (self.output, self.written) = (Vec::new(), 0);
        }
        input
    }

    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.input.resize(READ_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut self.input);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        let count = buffer.filled().len();
        self.input.truncate(count);
        self.scanned = 0;
        ready!(polled).map_err(ConnectionError::Io)?;
        self.metrics.count_reply_bytes(count as u64);
        let wanted = FIRST_BYTES.saturating_sub(self.first.len()).min(count);
        self.first.extend_from_slice(&self.input[..wanted]);
        Poll::Ready(if count == 0 { Err(ConnectionError::Closed) } else { Ok(()) })
    }

    fn poll_output(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.written < self.output.len() {
            let written = Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]);
            match written? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.written += count,
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }
}
