//! Opens a stream of bytes to where a server listens: over TCP, in clear or secured by TLS, or a unix socket. What
//! goes over it is the business of others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

use crate::server_url::{Address, Place};
use crate::tls::{Tls, TlsContext, TlsError, complaint_in};

/// How servers are reached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    tls: TlsContext,
}

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host name does not resolve.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The host name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(
        /// What the system said.
        io::Error,
    ),
    /// The deadline passed.
    #[error("no answer in time")]
    Timeout,
    /// No secure connection could be made.
    #[error("no TLS: {0}")]
    Tls(TlsError),
}

/// A stream of bytes to a server.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, in clear.
    Tcp(TcpStream),
    /// Over TCP, secured.
    Tls(Box<TlsStream<TcpStream>>),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Dialer {
    /// Nothing is read or connected yet. `tls` is for places that are secured.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self { tls: TlsContext::new(tls) }
    }

    /// Connects to a place, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or not as securely as it must be.
    pub async fn dial(&self, place: &Place, deadline: Instant) -> Result<Stream, DialError> {
        let connecting = async {
            match place {
                Place::Tcp(address) | Place::Tls(address) => Ok(Stream::Tcp(connect(address).await?)),
                Place::Unix(path) => {
                    UnixStream::connect(path).await.map(Stream::Unix).map_err(DialError::Connect)
                }
            }
        };
        let stream = timeout_at(deadline, connecting).await.unwrap_or(Err(DialError::Timeout))?;
        match (place, stream) {
            (Place::Tls(address), Stream::Tcp(stream)) => {
                let securing = self.tls.connect(stream, &address.host);
                let secured = timeout_at(deadline, securing).await.unwrap_or_else(|_| Err(no_answer()));
                Ok(Stream::Tls(Box::new(secured.map_err(DialError::Tls)?)))
            }
            (_, stream) => Ok(stream),
        }
    }
}

/// A server that does not speak TLS may wait for the end of what it takes for a command.
fn no_answer() -> TlsError {
    TlsError::Handshake("no answer to its first words; does it speak TLS?".to_owned())
}

async fn connect(address: &Address) -> Result<TcpStream, DialError> {
    let resolved = lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|source| DialError::Resolve { host: address.host.clone(), source })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in resolved {
        match TcpStream::connect(candidate).await {
            Ok(stream) => {
                keep_alive(&stream);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(DialError::Connect(last))
}

/// Commands are small and wait for their replies; a peer that vanished without a word is noticed between
/// commands too. Where the system refuses either, the connection works all the same.
fn keep_alive(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_keepalive(true);
}

/// The error of a secured stream, in clear words where the other side has said what it complains of.
fn explained(error: io::Error) -> io::Error {
    complaint_in(&error).map_or(error, |text| io::Error::other(TlsError::Handshake(text)))
}

/// What the other side said before it closed the connection: what we send then fails before that is read.
fn last_words(stream: &mut TlsStream<TcpStream>, cx: &mut Context<'_>) -> Option<io::Error> {
    let mut heard = [0; 64];
    match Pin::new(stream).poll_read(cx, &mut ReadBuf::new(&mut heard)) {
        Poll::Ready(Err(error)) => {
            complaint_in(&error).map(|text| io::Error::other(TlsError::Handshake(text)))
        }
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf).map_err(explained),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => {
                let written = Pin::new(&mut *stream).poll_write(cx, bytes);
                written.map_err(|error| last_words(stream, cx).unwrap_or(error))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                flushed.map_err(|error| last_words(stream, cx).unwrap_or(error))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
