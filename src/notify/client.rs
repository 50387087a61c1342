//! A POST to a receiver: one request, one connection, one deadline. Redirects are not followed, an answer of
//! success is not read, and of any other only the beginning is.
//!
//! Receivers are sent a request now and then: a pool of connections would keep open what is hardly used. And each
//! address behind a name is to be reached by itself, which hyper-rustls cannot be told.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::{Either, select, select_ok};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Password;
use crate::config::http_receiver::{Authorization, HttpClientConfig, UrlSource};
use crate::http_client;
use crate::http_url::{HttpUrl, Scheme};
use crate::notify::error::NotifyError;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::dial::connect_first;
use redis_stream_core::redis_url::Address;
use redis_stream_core::secret::Secret;
use redis_stream_core::tls::{TlsContext, TlsError};

/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 4096;
/// Bytes of the head of an answer, and of what is read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Longest time to find the address family by which a host can be reached.
const PROBE: Duration = Duration::from_secs(2);
/// A part of a path that is shorter is no secret, and would hide too much.
const SHORTEST_SECRET: usize = 9;

/// How one receiver is reached. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    authorization: Option<Authorization>,
    timeout: Duration,
    tls: TlsContext,
}

/// What is sent, and where.
#[derive(Debug)]
pub(super) struct Post<'a> {
    /// Where.
    pub(super) url: &'a HttpUrl,
    /// The one address of its host that is asked; `None` is the first that can be connected to.
    pub(super) at: Option<SocketAddr>,
    /// Headers of the configuration, names in lower case.
    pub(super) headers: &'a BTreeMap<String, Secret>,
    /// JSON.
    pub(super) body: Bytes,
    /// Secrets in the body.
    pub(super) secrets: &'a [Secret],
}

impl Client {
    /// Nothing is connected yet.
    pub(super) fn new(http: HttpClientConfig) -> Self {
        Self { authorization: http.authorization, timeout: http.timeout, tls: TlsContext::new(http.tls) }
    }

    /// The deadline of a request.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends it.
    pub(super) async fn post(&self, post: Post<'_>) -> Result<(), NotifyError> {
        let address = shown(post.url, post.at);
        let timed_out = |_| Err(NotifyError::Timeout { address: address.clone(), timeout: self.timeout });
        let deadline = now() + self.timeout;
        timeout_at(deadline, self.try_post(post, &address, deadline)).await.unwrap_or_else(timed_out)
    }

    /// Connects as for a request, over TLS where the URL says so, reads the secrets that it would take, and sends
    /// nothing.
    pub(super) async fn reach(&self, post: Post<'_>) -> Result<(), NotifyError> {
        let address = shown(post.url, post.at);
        let timed_out = |_| Err(NotifyError::Timeout { address: address.clone(), timeout: self.timeout });
        let deadline = now() + self.timeout;
        let reach = async {
            self.headers(&post).await?;
            let stream = self.dial(&post, &address, deadline).await?;
            if post.url.scheme == Scheme::Https {
                let secured = self.tls.connect(stream, &post.url.address.host).await;
                secured.map_err(|error| not_secure(&address, error))?;
            }
            Ok(())
        };
        timeout_at(deadline, reach).await.unwrap_or_else(timed_out)
    }

    async fn try_post(&self, post: Post<'_>, address: &str, deadline: Instant) -> Result<(), NotifyError> {
        let (headers, secrets) = self.headers(&post).await?;
        let mut request = Request::post(post.url.path.expose())
            .body(Full::new(post.body.clone()))
            .map_err(|error| lost(address, &error))?;
        *request.headers_mut() = headers;
        let stream = self.dial(&post, address, deadline).await?;
        match post.url.scheme {
            Scheme::Http => exchange(stream, request, address, &secrets).await,
            Scheme::Https => {
                let secured = self.tls.connect(stream, &post.url.address.host).await;
                let stream = secured.map_err(|error| not_secure(address, error))?;
                exchange(stream, request, address, &secrets).await
            }
        }
    }

    async fn dial(
        &self,
        post: &Post<'_>,
        address: &str,
        deadline: Instant,
    ) -> Result<TcpStream, NotifyError> {
        let candidates = match post.at {
            Some(at) => vec![at],
            None => resolve(&post.url.address).await?,
        };
        let not_connected = |source| NotifyError::Connect { address: address.to_owned(), source };
        connect_first(&candidates, deadline).await.map_err(not_connected)
    }

    /// The headers of a request, and what of it must not be shown.
    async fn headers(&self, post: &Post<'_>) -> Result<(HeaderMap, Vec<Secret>), NotifyError> {
        let mut secrets = secrets_of(post.url);
        secrets.extend_from_slice(post.secrets);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, value(&Secret::new(post.url.authority()))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("streamgauge/", env!("CARGO_PKG_VERSION"))));
        let (scheme, secret) = match (&post.url.credentials, &self.authorization) {
            (Some((user, password)), _) => ("Basic", Some(basic(user, password, &mut secrets))),
            (None, Some(Authorization::Basic { username, password })) => {
                ("Basic", Some(basic(username, &read(password).await?, &mut secrets)))
            }
            (None, Some(Authorization::Bearer(token))) => ("Bearer", Some(read(token).await?)),
            (None, None) => ("", None),
        };
        if let Some(secret) = secret {
            headers.insert(AUTHORIZATION, value(&Secret::new(format!("{scheme} {}", secret.expose())))?);
            secrets.push(secret);
        }
        for (name, secret) in post.headers {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| NotifyError::File { detail: format!("{name:?} is not the name of a header") })?;
            headers.insert(name, value(secret)?);
            secrets.push(secret.clone());
        }
        Ok((headers, secrets))
    }
}

/// How messages call an address.
pub(super) fn shown(url: &HttpUrl, at: Option<SocketAddr>) -> String {
    match at {
        None => url.address.to_string(),
        Some(at) => format!("{} ({at})", url.address),
    }
}

/// The addresses that a host's name stands for, each once, in the order of the resolver.
pub(super) async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, NotifyError> {
    let not_resolved = |source| NotifyError::Resolve { host: address.host.clone(), source };
    let found = lookup_host((address.host.as_str(), address.port)).await.map_err(not_resolved)?;
    let mut addresses = Vec::new();
    for candidate in found {
        if !addresses.contains(&candidate) {
            addresses.push(candidate);
        }
    }
    if addresses.is_empty() {
        return Err(not_resolved(std::io::Error::other("the name stands for no address")));
    }
    Ok(addresses)
}

/// Resolves the addresses of a host that are all sent to.
pub(super) async fn resolve_all(host: &Address, within: Duration) -> Result<Vec<SocketAddr>, NotifyError> {
    let found = timeout(within, resolve(host)).await;
    let no_answer = std::io::Error::other(format!("no answer within {} s", within.as_secs_f64()));
    let timed_out = |_| Err(NotifyError::Resolve { host: host.host.clone(), source: no_answer });
    Ok(of_one_family(found.unwrap_or_else(timed_out)?).await)
}

/// Selects one address family: `localhost` mostly stands for two addresses of one server, which may listen on one of
/// them only.
async fn of_one_family(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    if others.is_empty() || is_reachable(&preferred).await || !is_reachable(&others).await {
        return preferred;
    }
    others
}

async fn is_reachable(addresses: &[SocketAddr]) -> bool {
    let attempts = addresses.iter().map(|address| Box::pin(TcpStream::connect(*address)));
    matches!(timeout(PROBE, select_ok(attempts)).await, Ok(Ok(_)))
}

/// The URL as it is now.
pub(super) async fn url(source: &UrlSource) -> Result<HttpUrl, NotifyError> {
    match source {
        UrlSource::Url(url) => Ok(url.clone()),
        UrlSource::File(file) => {
            let text = read(file).await?;
            HttpUrl::parse(text.expose()).map_err(|source| NotifyError::Url { source })
        }
    }
}

/// A secret as it is now. A file may lie where reading takes its time.
pub(super) async fn read(password: &Password) -> Result<Secret, NotifyError> {
    let password = password.clone();
    let read = spawn_blocking(move || password.read()).await.unwrap_or_else(|panic| Err(panic.into()));
    read.map_err(|error| NotifyError::File { detail: error.to_string() })
}

fn basic(user: &str, password: &Secret, secrets: &mut Vec<Secret>) -> Secret {
    secrets.push(password.clone());
    Secret::new(STANDARD.encode(format!("{user}:{}", password.expose())))
}

fn value(secret: &Secret) -> Result<HeaderValue, NotifyError> {
    let no_header = |_| NotifyError::File {
        detail: "a password, token or header holds a control character; expected one line of text".to_owned(),
    };
    let mut value = HeaderValue::try_from(secret.expose()).map_err(no_header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Path and query of a URL, and each part of them that may be a secret.
fn secrets_of(url: &HttpUrl) -> Vec<Secret> {
    let parts = url.path.expose().split(['/', '?', '&', '=']);
    parts.filter(|part| part.len() >= SHORTEST_SECRET).map(Secret::new).collect()
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
    address: &str,
    secrets: &[Secret],
) -> Result<(), NotifyError> {
    let handshake = http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| lost(address, &error))?;
    let exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| lost(address, &error))?;
        judge(response, address, secrets).await
    });
    match select(exchange, connection).await {
        Either::Left((result, _)) => result,
        // The connection has ended, and has handed over all that came.
        Either::Right((_, exchange)) => exchange.await,
    }
}

async fn judge(response: Response<Incoming>, address: &str, secrets: &[Secret]) -> Result<(), NotifyError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| wait(value.to_str().ok()?, unix_time()));
    let detail = if status.is_redirection() {
        ": a redirect, which is not followed".to_owned()
    } else {
        quote(&beginning(response.into_body()).await, secrets)
    };
    Err(NotifyError::Status { address: address.to_owned(), status, detail, retry_after })
}

/// The time that a `Retry-After` asks for: in seconds, or until a date.
fn wait(text: &str, now: Duration) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(now))
}

/// What came of a body, up to a bound. One that breaks off is worth as much as came of it.
async fn beginning(mut body: Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend_from_slice(&data[..data.len().min(ANSWER_BYTES - bytes.len())]);
        if bytes.len() == ANSWER_BYTES {
            break;
        }
    }
    bytes
}

/// An answer as messages quote it: one line, and nothing where it repeats a secret.
fn quote(answer: &[u8], secrets: &[Secret]) -> String {
    let text = String::from_utf8_lossy(answer);
    if secrets.iter().any(|secret| !secret.expose().is_empty() && text.contains(secret.expose())) {
        return String::new();
    }
    http_client::quote(answer)
}

fn not_secure(address: &str, error: TlsError) -> NotifyError {
    match error {
        TlsError::File(detail) => NotifyError::File { detail },
        TlsError::Handshake(detail) => NotifyError::Tls { address: address.to_owned(), detail },
    }
}

fn lost(address: &str, error: &(impl Error + ?Sized)) -> NotifyError {
    let detail = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    NotifyError::Lost { address: address.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::QUOTED_CHARS;

    #[test]
    fn an_answer_is_quoted_on_one_line_and_never_with_a_secret() {
        let secrets = [Secret::new("hunter2"), Secret::new("")];
        for (answer, quoted) in [
            (&b""[..], ""),
            (b"\r\n\x00", ""),
            (b"bad request", ": bad request"),
            (b"{\n  \"error\":\t\"no\xff\"\n}\n", ": { \"error\": \"no\u{fffd}\" }"),
            (b"Authorization: hunter2", ""),
        ] {
            assert_eq!(quote(answer, &secrets), quoted);
        }
        assert_eq!(quote(&[b'x'; 5000], &secrets).len(), QUOTED_CHARS + 2);
    }

    #[test]
    fn a_receiver_asks_for_time_in_seconds_or_until_a_date() {
        let now = Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn the_parts_of_a_path_are_secrets() {
        let url = HttpUrl::parse("https://hooks/services/T00000000/abc/hunter2xx?token=hunter3xx").unwrap();
        let secrets: Vec<_> = secrets_of(&url).iter().map(|secret| secret.expose().to_owned()).collect();
        assert_eq!(secrets, ["T00000000", "hunter2xx", "hunter3xx"]);
    }
}
