//! The body of a reply: shared bytes, sent without a copy, or a closure that writes them.

use std::io::{self, BufWriter, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{debug, warn};

/// Size of the chunks of a streamed body.
const CHUNK_BYTES: usize = 128 * 1024;

/// Chunks of a streamed body that wait for the client: the next is rendered while one is sent.
const CHUNKS_AHEAD: usize = 2;

/// Writes a streamed body, on a thread that may block.
pub type Render = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The body of a reply.
pub enum Body {
    /// One chunk.
    Whole(Bytes),
    /// Several chunks, sent in order. Their sum is the `Content-Length`.
    Chunks(Vec<Bytes>),
    /// Rendered while it is sent, so there is no `Content-Length`.
    Stream(Render),
}

impl Body {
    /// Creates a streamed body. If the closure fails or panics the connection is cut, so that the client does not take
    /// a part for the whole.
    pub fn stream(render: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        Self::Stream(Box::new(render))
    }
}

pub(crate) fn compressed(render: Render) -> Render {
    Box::new(move |out| {
        // Gzip has a cost for each write, and JSON is written a few bytes at a time.
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, GzEncoder::new(out, Compression::fast()));
        render(&mut out)?;
        out.into_inner()?.finish().map(drop)
    })
}

/// A part of a streamed body. The end is explicit: a sender that was dropped without it has failed.
pub(crate) enum Piece {
    Chunk(Bytes),
    End,
}

/// Collects what a closure writes into chunks. After a disconnect every write returns `BrokenPipe`.
struct BodyWriter {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
}

impl BodyWriter {
    fn new(pieces: mpsc::Sender<Piece>) -> Self {
        Self { buffer: Vec::with_capacity(CHUNK_BYTES), pieces }
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Piece::End)
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.send(Piece::Chunk(chunk.into()))
    }
}

/// A body as hyper takes it: given chunks, or what is being rendered.
#[derive(Default)]
pub(crate) struct Frames {
    chunks: vec::IntoIter<Bytes>,
    left_bytes: u64,
    rendering: Option<mpsc::Receiver<Piece>>,
    /// Held until the body is sent.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Frames {
    pub(crate) fn new(body: Body) -> Self {
        let chunks = match body {
            Body::Whole(bytes) => vec![bytes],
            Body::Chunks(chunks) => chunks,
            Body::Stream(render) => {
                let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
                tokio::task::spawn_blocking(move || render_into(BodyWriter::new(sender), render));
                return Self { rendering: Some(receiver), ..Self::default() };
            }
        };
        let left_bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks: chunks.into_iter(), left_bytes, ..Self::default() }
    }
}

fn render_into(mut writer: BodyWriter, render: Render) {
    match render(&mut writer).and_then(|()| writer.finish()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            debug!("client left before the end of a streamed body");
        }
        Err(error) => warn!(%error, "streamed body not completed"),
    }
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let next = match &mut this.rendering {
            None => this.chunks.next().map(|chunk| {
                this.left_bytes -= chunk.len() as u64;
                Ok(Frame::data(chunk))
            }),
            Some(pieces) => match ready!(pieces.poll_recv(context)) {
                Some(Piece::Chunk(chunk)) => Some(Ok(Frame::data(chunk))),
                Some(Piece::End) => None,
                None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            },
        };
        if !matches!(next, Some(Ok(_))) {
            this.rendering = None;
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.rendering.is_none() && self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.rendering.is_some() { SizeHint::default() } else { SizeHint::with_exact(self.left_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;

    async fn chunks(mut frames: Frames) -> io::Result<Vec<Bytes>> {
        let mut chunks = Vec::new();
        while let Some(frame) = frames.frame().await {
            chunks.push(frame?.into_data().unwrap());
        }
        Ok(chunks)
    }

    #[tokio::test]
    async fn chunks_are_sent_as_they_are_and_their_sum_is_known() {
        let given = vec![Bytes::from(vec![1; 10]), Bytes::new(), Bytes::from(vec![2; 20])];
        let frames = Frames::new(Body::Chunks(given.clone()));
        assert_eq!(frames.size_hint().exact(), Some(30));
        let sent = chunks(frames).await.unwrap();
        let addresses = |chunks: &[Bytes]| chunks.iter().map(|chunk| chunk.as_ptr()).collect::<Vec<_>>();
        assert_eq!(addresses(&sent), addresses(&given));
    }

    #[test]
    fn a_body_without_bytes_has_ended() {
        for body in [Body::Chunks(Vec::new()), Body::Whole(Bytes::new()), Body::Chunks(vec![Bytes::new()])] {
            let frames = Frames::new(body);
            assert!(frames.is_end_stream());
            assert_eq!(frames.size_hint().exact(), Some(0));
        }
    }

    #[tokio::test]
    async fn a_streamed_body_is_collected_into_chunks() {
        let frames = Frames::new(Body::stream(|out| (0..100_000).try_for_each(|_| out.write_all(b"abc"))));
        let sent = chunks(frames).await.unwrap();
        let lengths: Vec<_> = sent.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [CHUNK_BYTES, CHUNK_BYTES, 300_000 - 2 * CHUNK_BYTES]);
        assert_eq!(sent.concat(), b"abc".repeat(100_000));
    }

    #[tokio::test]
    async fn a_streamed_body_is_compressed_while_it_is_written() {
        let render: Render = Box::new(|out| (0..1_000).try_for_each(|_| out.write_all(b"abc")));
        let sent = chunks(Frames::new(Body::Stream(compressed(render)))).await.unwrap().concat();
        let mut text = Vec::new();
        GzDecoder::new(sent.as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, b"abc".repeat(1_000));
        assert!(sent.len() < 100, "{} bytes", sent.len());
        let failing: Render = Box::new(|out| out.write_all(b"half").and(Err(io::Error::other("no more"))));
        assert!(chunks(Frames::new(Body::Stream(compressed(failing)))).await.is_err());
    }

    #[tokio::test]
    async fn a_streamed_body_that_fails_is_not_taken_for_a_whole_one() {
        let failing = Body::stream(|out| {
            out.write_all(b"half")?;
            out.flush()?;
            Err(io::Error::other("no more"))
        });
        assert!(chunks(Frames::new(failing)).await.is_err());
        let panicking = Body::stream(|_| panic!("expected by the test"));
        assert!(chunks(Frames::new(panicking)).await.is_err());
    }

    #[tokio::test]
    async fn a_streamed_body_ends_when_nobody_takes_it() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let frames = Frames::new(Body::stream(move |out| {
            let error = std::iter::repeat(()).try_for_each(|()| out.write_all(b"endless")).unwrap_err();
            ended.send(error.kind()).unwrap();
            Err(error)
        }));
        drop(frames);
        assert_eq!(end.await.unwrap(), io::ErrorKind::BrokenPipe);
    }
}
