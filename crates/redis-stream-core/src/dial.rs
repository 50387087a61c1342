//! Opens connections to servers, over TCP, TLS or a unix socket. It does not know the protocol spoken over them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;

use crate::clock::now;
use crate::redis_url::{Address, Endpoint};
use crate::tls::{Tls, TlsContext, TlsError, explain_alert};

/// Opens connections with one set of TLS settings. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    tls: TlsContext,
}

/// An error while connecting to a server.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host name does not resolve.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The host name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(
        /// The system's error.
        io::Error,
    ),
    /// The deadline passed before the connection was established.
    #[error("no answer in time")]
    Timeout,
    /// The TLS handshake failed.
    #[error("no TLS: {0}")]
    Tls(TlsError),
}

/// A connection to a server.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, unencrypted.
    Tcp(TcpStream),
    /// Over TCP, secured by TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Dialer {
    /// Creates a dialer. `tls` applies to [`Endpoint::Tls`]; its files are read when a connection is opened.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self { tls: TlsContext::new(tls) }
    }

    /// Connects to a server, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// The host does not resolve, the connection or the TLS handshake fails, or the deadline passes.
    pub async fn dial(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Stream, DialError> {
        let connecting = async {
            match endpoint {
                Endpoint::Tcp(address) | Endpoint::Tls(address) => {
                    Ok(Stream::Tcp(connect(&resolve(address).await?, deadline).await?))
                }
                Endpoint::Unix(path) => {
                    UnixStream::connect(path).await.map(Stream::Unix).map_err(DialError::Connect)
                }
            }
        };
        let stream = timeout_at(deadline, connecting).await.unwrap_or(Err(DialError::Timeout))?;
        self.secure(endpoint, stream, deadline).await
    }

    /// Connects to one address of a server's host, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// The connection or the TLS handshake fails, or the deadline passes.
    pub async fn dial_at(
        &self,
        endpoint: &Endpoint,
        at: SocketAddr,
        deadline: Instant,
    ) -> Result<Stream, DialError> {
        let stream = connect(&[at], deadline).await?;
        self.secure(endpoint, Stream::Tcp(stream), deadline).await
    }

    async fn secure(
        &self,
        endpoint: &Endpoint,
        stream: Stream,
        deadline: Instant,
    ) -> Result<Stream, DialError> {
        match (endpoint, stream) {
            (Endpoint::Tls(address), Stream::Tcp(stream)) => {
                let securing = self.tls.connect(stream, &address.host);
                let secured = timeout_at(deadline, securing).await.unwrap_or_else(|_| Err(no_answer()));
                Ok(Stream::Tls(Box::new(secured.map_err(DialError::Tls)?)))
            }
            (_, stream) => Ok(stream),
        }
    }
}

/// The error for a handshake that timed out. A server that does not speak TLS takes the client's hello for the start
/// of a command and waits for the rest.
fn no_answer() -> TlsError {
    TlsError::Handshake("no answer to the TLS handshake; does it speak TLS?".to_owned())
}

/// Returns the addresses of a host, each once, in the order of the resolver.
///
/// # Errors
///
/// The host name does not resolve, or has no address.
pub async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, DialError> {
    let not_resolved = |source| DialError::Resolve { host: address.host.clone(), source };
    let mut addresses = Vec::new();
    for found in lookup_host((address.host.as_str(), address.port)).await.map_err(not_resolved)? {
        if !addresses.contains(&found) {
            addresses.push(found);
        }
    }
    if addresses.is_empty() {
        return Err(not_resolved(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

async fn connect(candidates: &[SocketAddr], deadline: Instant) -> Result<TcpStream, DialError> {
    connect_first(candidates, deadline).await.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => DialError::Timeout,
        _ => DialError::Connect(error),
    })
}

/// Connects to the first address of a host that accepts a connection. Each has an equal share of the time that is left
/// until the deadline, so that an address that does not answer leaves time for the others. The error is that of the last
/// address: `TimedOut` if it did not answer.
async fn connect_first(candidates: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (candidate, left) in candidates.iter().zip((1..=candidates.len()).rev()) {
        let share = (deadline - now()) / u32::try_from(left).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                set_options(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(last)
}

/// Turns off Nagle's algorithm, since commands are small and wait for their replies, and turns on keepalive, so that a
/// peer that vanished is noticed between commands. Errors are ignored: the connection works without either.
fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_keepalive(true);
}

/// Replaces an error that carries a TLS alert by one that explains it.
fn explained(error: io::Error) -> io::Error {
    explain_alert(&error).map_or(error, |text| io::Error::other(TlsError::Handshake(text)))
}

/// Returns the TLS alert that the peer sent before it closed the connection, if there is one. A write to the closed
/// connection fails before the alert has been read.
fn unread_alert(stream: &mut TlsStream<TcpStream>, cx: &mut Context<'_>) -> Option<io::Error> {
    let mut buffer = [0; 64];
    match Pin::new(stream).poll_read(cx, &mut ReadBuf::new(&mut buffer)) {
        Poll::Ready(Err(error)) => {
            explain_alert(&error).map(|text| io::Error::other(TlsError::Handshake(text)))
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
                written.map_err(|error| unread_alert(stream, cx).unwrap_or(error))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                flushed.map_err(|error| unread_alert(stream, cx).unwrap_or(error))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns a listener whose backlog is full, so that it neither accepts nor refuses connections, with its address
    /// and the connection that fills it.
    async fn full() -> (Socket, SocketAddr, TcpStream) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let first = TcpStream::connect(address).await.unwrap();
        (listener, address, first)
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_others() {
        let (_listener, dead, _first) = full().await;
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let within = |seconds| now() + Duration::from_secs(seconds);
        let alone = connect_first(&[dead], within(1)).await.unwrap_err();
        assert_eq!(alone.kind(), io::ErrorKind::TimedOut);
        let candidates = [dead, alive.local_addr().unwrap()];
        let stream = connect_first(&candidates, within(10)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), candidates[1]);
        let none = connect_first(&[], within(1)).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
