//! The body of a reply: bytes, chunks that are made while they are sent, or a closure that writes it.

use std::io::{self, BufWriter, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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

/// The same of chunks that are sent without a copy: with more of them, two threads wait less for each other. Half of those
/// of `/metrics` are headers.
const SHARED_CHUNKS_AHEAD: usize = 8;

/// Writes a streamed body, on a thread that may block.
pub type Render = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// Makes chunks on a thread that may block.
pub type Chunks = Box<dyn Iterator<Item = Bytes> + Send>;

/// The body of a reply. Only a whole one has a `Content-Length`.
pub enum Body {
    /// One chunk.
    Whole(Bytes),
    /// Chunks that are made while they are sent, in order and without a copy. They are not compressed.
    Chunks(Chunks),
    /// Rendered while it is sent.
    Stream(Render),
}

impl Body {
    /// Creates a body of chunks. If the iterator panics the connection is cut.
    pub fn chunks(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        Self::Chunks(Box::new(chunks))
    }

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

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        send(&self.pieces, Piece::End)
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
        send(&self.pieces, Piece::Chunk(chunk.into()))
    }
}

fn send(pieces: &mpsc::Sender<Piece>, piece: Piece) -> io::Result<()> {
    pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// A body as hyper takes it: given bytes, or what is being made.
#[derive(Default)]
pub(crate) struct Frames {
    whole: Bytes,
    pieces: Option<mpsc::Receiver<Piece>>,
    /// Held until the body is sent.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Frames {
    pub(crate) fn new(body: Body) -> Self {
        match body {
            Body::Whole(whole) => Self { whole, ..Self::default() },
            Body::Chunks(chunks) => {
                Self::made_by(SHARED_CHUNKS_AHEAD, move |pieces| send_all(&pieces, chunks))
            }
            Body::Stream(render) => Self::made_by(CHUNKS_AHEAD, move |pieces| {
                let mut writer = BodyWriter::new(pieces);
                render(&mut writer)?;
                writer.finish()
            }),
        }
    }

    /// Runs a closure that may block, and sends what it makes; up to `ahead` pieces wait for the client.
    fn made_by(
        ahead: usize,
        make: impl FnOnce(mpsc::Sender<Piece>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(ahead);
        tokio::task::spawn_blocking(move || match make(sender) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                debug!("client left before the end of a streamed body");
            }
            Err(error) => warn!(%error, "streamed body not completed"),
        });
        Self { pieces: Some(receiver), ..Self::default() }
    }
}

fn send_all(pieces: &mpsc::Sender<Piece>, mut chunks: Chunks) -> io::Result<()> {
    chunks.try_for_each(|chunk| send(pieces, Piece::Chunk(chunk)))?;
    send(pieces, Piece::End)
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let next = match &mut this.pieces {
            None => Some(std::mem::take(&mut this.whole)).filter(|whole| !whole.is_empty()).map(Ok),
            Some(pieces) => match ready!(pieces.poll_recv(context)) {
                Some(Piece::Chunk(chunk)) => Some(Ok(chunk)),
                Some(Piece::End) => None,
                None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            },
        };
        if !matches!(next, Some(Ok(_))) {
            this.pieces = None;
        }
        Poll::Ready(next.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none() && self.whole.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pieces.is_some() {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.whole.len() as u64)
        }
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
    async fn chunks_are_sent_as_they_are() {
        let given = vec![Bytes::from(vec![1; 10]), Bytes::new(), Bytes::from(vec![2; 20])];
        let frames = Frames::new(Body::chunks(given.clone().into_iter()));
        assert_eq!(frames.size_hint().exact(), None);
        let sent = chunks(frames).await.unwrap();
        let addresses = |chunks: &[Bytes]| chunks.iter().map(|chunk| chunk.as_ptr()).collect::<Vec<_>>();
        assert_eq!(addresses(&sent), addresses(&given));
    }

    #[tokio::test]
    async fn a_whole_body_is_sent_as_it_is_and_its_size_is_known() {
        let given = Bytes::from(vec![1; 10]);
        let frames = Frames::new(Body::Whole(given.clone()));
        assert_eq!((frames.size_hint().exact(), frames.is_end_stream()), (Some(10), false));
        let sent = chunks(frames).await.unwrap();
        assert_eq!((sent.len(), sent[0].as_ptr()), (1, given.as_ptr()));
    }

    #[test]
    fn a_body_without_bytes_has_ended() {
        let frames = Frames::new(Body::Whole(Bytes::new()));
        assert!(frames.is_end_stream());
        assert_eq!(frames.size_hint().exact(), Some(0));
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
        let half = std::iter::once(Bytes::from_static(b"half"));
        let panicking = half.chain(std::iter::once_with(|| panic!("expected by the test")));
        assert!(chunks(Frames::new(Body::chunks(panicking))).await.is_err());
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
