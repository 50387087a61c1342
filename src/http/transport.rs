//! The stream under hyper: disconnects a client that does not read, and closes without losing the last reply. It works
//! on any stream, plain or TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::http::activity::Activity;

/// Bytes that a client must read before the stall timeout starts again. With fewer it could keep its connection for
/// ever by reading single bytes.
const PROGRESS_BYTES: usize = 64 * 1024;

pub(crate) struct Transport<S> {
    stream: S,
    stall: Duration,
    /// Runs from the first blocked write until the client has made progress.
    stalled: Option<Pin<Box<Sleep>>>,
    progress_bytes: usize,
    linger: Duration,
    lingering: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl<S> Transport<S> {
    /// Wraps a stream. `stall` limits how long a write may block, `linger` how long a close waits for a client that
    /// still sends. Progress of the client is recorded in `activity`.
    pub(crate) fn new(stream: S, stall: Duration, linger: Duration, activity: Arc<Activity>) -> Self {
        Self { stream, stall, stalled: None, progress_bytes: 0, linger, lingering: None, activity }
    }

    /// Must not be called for a flush, which succeeds whenever there is nothing to send.
    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.note_progress();
        }
    }

    /// Turns a write, flush or shutdown that blocks for too long into an error.
    fn pace<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
        taken_bytes: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match &outcome {
            Poll::Ready(Ok(value)) => {
                self.progress_bytes = self.progress_bytes.saturating_add(taken_bytes(value));
                if self.progress_bytes >= PROGRESS_BYTES {
                    self.stalled = None;
                }
                outcome
            }
            Poll::Ready(Err(_)) => outcome,
            Poll::Pending => {
                if self.stalled.is_none() {
                    self.progress_bytes = 0;
                }
                let stall = self.stall;
                let clock = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
                ready!(clock.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read its answer")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Transport<S> {
    /// Discards what the client still sends. A socket closed with unread bytes resets the connection, and a client that
    /// is reset may lose the reply.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger;
        let clock = self.lingering.get_or_insert_with(|| Box::pin(sleep(linger)));
        // Polled first, since the reads below may use up the task budget.
        if clock.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.activity.note_unread();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if self.activity.has_unread() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(&written);
        self.pace(context, written, |taken| *taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_written(&written);
        self.pace(context, written, |taken| *taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // A finished flush means that all written bytes are sent.
        self.pace(context, flushed, |()| PROGRESS_BYTES)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let shut = Pin::new(&mut self.stream).poll_shutdown(context);
            ready!(self.pace(context, shut, |()| PROGRESS_BYTES))?;
        }
        self.poll_linger(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);
    const LINGER: Duration = Duration::from_secs(2);
    const ROOM_BYTES: usize = 1024;

    fn pair() -> (Transport<DuplexStream>, DuplexStream, Arc<Activity>) {
        let (server, client) = duplex(ROOM_BYTES);
        let activity = Arc::new(Activity::new());
        (Transport::new(server, STALL, LINGER, Arc::clone(&activity)), client, activity)
    }

    /// Writes much to a client that takes so many bytes each ten seconds.
    async fn written_to_client_that_takes(bytes: usize) -> io::Result<()> {
        let (mut transport, mut client, _) = pair();
        let reader = tokio::spawn(async move {
            let mut taken = vec![0; bytes];
            while client.read_exact(&mut taken).await.is_ok() {
                sleep(Duration::from_secs(10)).await;
            }
        });
        let written = transport.write_all(&vec![0; 10 * PROGRESS_BYTES]).await;
        reader.abort();
        written
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        let error = written_to_client_that_takes(0).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_byte_now_and_then_is_cut_off() {
        let error = written_to_client_that_takes(1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_everything() {
        written_to_client_that_takes(PROGRESS_BYTES / 2).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_forgotten_once_everything_was_taken() {
        let (mut transport, mut client, _) = pair();
        for _ in 0..3 {
            let write = async {
                transport.write_all(&[0; 2 * ROOM_BYTES]).await?;
                transport.flush().await
            };
            let read = async {
                sleep(STALL / 2).await;
                client.read_exact(&mut [0; 2 * ROOM_BYTES]).await
            };
            tokio::try_join!(write, read).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_without_anything_unread_is_immediate() {
        let (mut transport, _client, _) = pair();
        timeout(Duration::from_millis(1), transport.shutdown()).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_waits_until_the_client_has_sent_all() {
        let (mut transport, mut client, activity) = pair();
        activity.note_unread();
        let send = async {
            client.write_all(&[0; 10 * ROOM_BYTES]).await?;
            assert_eq!(client.read(&mut [0]).await?, 0, "the client sees the end at once");
            client.shutdown().await
        };
        let (closed, sent) = tokio::join!(timeout(LINGER / 2, transport.shutdown()), send);
        closed.unwrap().unwrap();
        sent.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_does_not_wait_for_ever() {
        let (mut transport, mut client, _) = pair();
        client.write_all(&[0; 10]).await.unwrap();
        assert!(timeout(LINGER / 2, transport.shutdown()).await.is_err(), "it waits");
        timeout(LINGER, transport.shutdown()).await.unwrap().unwrap();
    }
}
