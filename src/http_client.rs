//! The HTTP client: one request, one connection, one deadline. Redirects are not followed, and of a response other than
//! success only the beginning is read. No message holds a secret.
//!
//! There is no pool, since requests are rare, and no library on top of hyper, since each address behind a host name must be
//! reachable by itself.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Password;
use crate::config::http_receiver::{Authorization, HttpClientConfig, UrlSource};
use crate::http_url::{HttpUrl, HttpUrlError, Scheme};
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::dial::{DialError, Dialer, Stream};
use redis_stream_core::redis_url::Endpoint;
use redis_stream_core::secret::{Secret, hide_secrets};
use redis_stream_core::tls::TlsError;

/// Longest body of a successful GET: 10,000 groups with ten consumers each are 20 MB.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of the body that are read of other responses.
const ERROR_BODY_BYTES: usize = 4096;
/// Longest head of a response, and the most that is read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Time to read a file with a secret.
const FILE_TIME: Duration = Duration::from_secs(5);
/// Characters of a body that messages quote.
const QUOTED_CHARS: usize = 200;
/// Shorter parts of a path are not treated as secrets, since they would hide too much.
const SHORTEST_SECRET: usize = 9;

static NO_HEADERS: BTreeMap<String, Secret> = BTreeMap::new();

/// A request failed. `address` is host and port.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection could be made, or none as secure as required.
    #[error("{}", not_reached(address, cause))]
    Dial {
        /// Host and port.
        address: String,
        /// The cause. Not a source, since the message names it in full.
        cause: DialError,
    },
    /// The connection broke, or the server does not speak HTTP.
    #[error("no HTTP response from {address}: {detail}")]
    Lost {
        /// Host and port.
        address: String,
        /// The cause.
        detail: String,
    },
    /// The deadline passed.
    #[error("{address} did not answer within {} s", timeout.as_secs_f64())]
    Timeout {
        /// Host and port.
        address: String,
        /// The time that the request had.
        timeout: Duration,
    },
    /// The response is not a success.
    #[error("{address} answers {status}{detail}")]
    Status {
        /// Host and port.
        address: String,
        /// Its status.
        status: StatusCode,
        /// The beginning of its body after `: `, or empty.
        detail: String,
        /// The wait that it asks for; `None` if it does not.
        retry_after: Option<Duration>,
    },
    /// A secret cannot be read or sent.
    #[error("{detail}")]
    File {
        /// The cause, with the name of the file.
        detail: String,
    },
    /// The file that should contain the URL does not.
    #[error("the URL in the file: {source}")]
    Url {
        /// The cause.
        source: HttpUrlError,
    },
}

impl HttpError {
    /// Returns the wait that the server asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn not_reached(address: &str, cause: &DialError) -> String {
    match cause {
        DialError::Resolve { .. } => cause.to_string(),
        DialError::Connect(error) => format!("cannot connect to {address}: {error}"),
        DialError::Timeout => format!("cannot connect to {address}: no answer"),
        DialError::Tls(TlsError::File(detail)) => detail.clone(),
        DialError::Tls(error) => format!("no TLS with {address}: {error}"),
    }
}

/// Sends requests with the same settings. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    authorization: Option<Authorization>,
    timeout: Duration,
    dialer: Dialer,
}

/// A request without its method.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    /// The URL.
    pub url: &'a HttpUrl,
    /// The address to connect to; `None`: the first of the host that accepts a connection.
    pub at: Option<SocketAddr>,
    /// Additional headers, names in lower case.
    pub headers: &'a BTreeMap<String, Secret>,
    /// JSON, or empty.
    pub body: Bytes,
    /// Secrets in the body.
    pub secrets: &'a [Secret],
}

impl<'a> HttpRequest<'a> {
    /// Creates a request without headers and body.
    pub fn to(url: &'a HttpUrl) -> Self {
        Self { url, at: None, headers: &NO_HEADERS, body: Bytes::new(), secrets: &[] }
    }

    /// Returns how messages name the server.
    fn address(&self) -> String {
        let address = self.url.address.to_string();
        match self.at.map(|at| at.to_string()) {
            Some(at) if at != address => format!("{address} ({at})"),
            _ => address,
        }
    }
}

impl HttpClient {
    /// Creates a client. Nothing is read or connected yet.
    pub fn new(config: HttpClientConfig) -> Self {
        Self { authorization: config.authorization, timeout: config.timeout, dialer: Dialer::new(config.tls) }
    }

    /// Returns the time that a request has.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the body of a successful response.
    ///
    /// # Errors
    ///
    /// There is no such response in time.
    pub async fn get(&self, request: HttpRequest<'_>) -> Result<Bytes, HttpError> {
        self.send(Method::GET, request, MAX_BODY_BYTES).await
    }

    /// Posts the body. A successful response is not read.
    ///
    /// # Errors
    ///
    /// There is no successful response in time.
    pub async fn post(&self, request: HttpRequest<'_>) -> Result<(), HttpError> {
        self.send(Method::POST, request, 0).await.map(|_| ())
    }

    /// Connects as for a request, reads its secrets, and sends nothing.
    ///
    /// # Errors
    ///
    /// The request could not be sent.
    pub async fn probe(&self, request: HttpRequest<'_>) -> Result<(), HttpError> {
        let deadline = now() + self.timeout;
        let probing = async {
            self.headers(&request).await?;
            self.dial(&request, deadline).await.map(|_| ())
        };
        self.until(deadline, &request, probing).await
    }

    async fn send(
        &self,
        method: Method,
        request: HttpRequest<'_>,
        max_body_bytes: usize,
    ) -> Result<Bytes, HttpError> {
        let deadline = now() + self.timeout;
        let sending = async {
            let (headers, secrets) = self.headers(&request).await?;
            let exchange = Exchange { address: request.address(), secrets, max_body_bytes };
            let mut message = Request::new(Full::new(request.body.clone()));
            let path = request.url.path.expose().parse().map_err(|error| exchange.lost(&error))?;
            *message.method_mut() = method;
            *message.uri_mut() = path;
            *message.headers_mut() = headers;
            exchange.run(self.dial(&request, deadline).await?, message).await
        };
        self.until(deadline, &request, sending).await
    }

    async fn until<T>(
        &self,
        deadline: Instant,
        request: &HttpRequest<'_>,
        work: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<T, HttpError> {
        let timed_out = |_| Err(HttpError::Timeout { address: request.address(), timeout: self.timeout });
        timeout_at(deadline, work).await.unwrap_or_else(timed_out)
    }

    async fn dial(&self, request: &HttpRequest<'_>, deadline: Instant) -> Result<Stream, HttpError> {
        let endpoint = match request.url.scheme {
            Scheme::Http => Endpoint::Tcp(request.url.address.clone()),
            Scheme::Https => Endpoint::Tls(request.url.address.clone()),
        };
        let stream = match request.at {
            None => self.dialer.dial(&endpoint, deadline).await,
            Some(at) => self.dialer.dial_at(&endpoint, at, deadline).await,
        };
        stream.map_err(|cause| HttpError::Dial { address: request.address(), cause })
    }

    /// Returns the headers of a request, and the secrets that must not be quoted.
    async fn headers(&self, request: &HttpRequest<'_>) -> Result<(HeaderMap, Vec<Secret>), HttpError> {
        let mut secrets = secrets_of(request.url);
        secrets.extend_from_slice(request.secrets);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, value(&Secret::new(request.url.authority()))?);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("streamgauge/", env!("CARGO_PKG_VERSION"))));
        if !request.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let (scheme, secret) = match (&request.url.credentials, &self.authorization) {
            (Some((user, password)), _) => ("Basic", Some(basic(user, password, &mut secrets))),
            (None, Some(Authorization::Basic { username, password })) => {
                ("Basic", Some(basic(username, &read_secret(password).await?, &mut secrets)))
            }
            (None, Some(Authorization::Bearer(token))) => ("Bearer", Some(read_secret(token).await?)),
            (None, None) => ("", None),
        };
        if let Some(secret) = secret {
            headers.insert(AUTHORIZATION, value(&Secret::new(format!("{scheme} {}", secret.expose())))?);
            secrets.push(secret);
        }
        for (name, secret) in request.headers {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| HttpError::File { detail: format!("{name:?} is not the name of a header") })?;
            headers.insert(name, value(secret)?);
            secrets.push(secret.clone());
        }
        for secret in &secrets {
            secret.mark_in_use();
        }
        Ok((headers, secrets))
    }
}

/// Reads a secret as it is now. Its file may be on a slow file system.
///
/// # Errors
///
/// The file cannot be read.
pub async fn read_secret(password: &Password) -> Result<Secret, HttpError> {
    let password = password.clone();
    let read = timeout(FILE_TIME, spawn_blocking(move || password.read())).await;
    let read = read
        .map_err(|_| HttpError::File { detail: "a file with a secret cannot be read in time".to_owned() })?;
    let read = read.unwrap_or_else(|panic| Err(panic.into()));
    read.map_err(|error| HttpError::File { detail: error.to_string() })
}

/// Reads a URL as it is now.
///
/// # Errors
///
/// The file cannot be read, or contains no URL.
pub async fn read_url(source: &UrlSource) -> Result<HttpUrl, HttpError> {
    match source {
        UrlSource::Url(url) => Ok(url.clone()),
        UrlSource::File(file) => {
            let text = read_secret(file).await?;
            HttpUrl::parse(text.expose()).map_err(|source| HttpError::Url { source })
        }
    }
}

fn basic(user: &str, password: &Secret, secrets: &mut Vec<Secret>) -> Secret {
    secrets.push(password.clone());
    Secret::new(STANDARD.encode(format!("{user}:{}", password.expose())))
}

fn value(secret: &Secret) -> Result<HeaderValue, HttpError> {
    let not_a_header = |_| HttpError::File {
        detail: "a password, token or header holds a control character; expected one line of text".to_owned(),
    };
    let mut value = HeaderValue::try_from(secret.expose()).map_err(not_a_header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the parts of a URL's path and query that may be secrets.
fn secrets_of(url: &HttpUrl) -> Vec<Secret> {
    let parts = url.path.expose().split(['/', '?', '&', '=']);
    parts.filter(|part| part.len() >= SHORTEST_SECRET).map(Secret::new).collect()
}

/// One request and its response over a connection.
struct Exchange {
    address: String,
    secrets: Vec<Secret>,
    max_body_bytes: usize,
}

impl Exchange {
    async fn run(&self, stream: Stream, request: Request<Full<Bytes>>) -> Result<Bytes, HttpError> {
        let handshake =
            http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.lost(&error))?;
        let exchange = pin!(async {
            let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
            self.read(response).await
        });
        match select(exchange, connection).await {
            Either::Left((result, _)) => result,
            // The connection has ended, and everything received is in the response.
            Either::Right((_, exchange)) => exchange.await,
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, HttpError> {
        let status = response.status();
        if status.is_success() && self.max_body_bytes == 0 {
            return Ok(Bytes::new());
        }
        if status.is_success() {
            let body = Limited::new(response.into_body(), self.max_body_bytes).collect().await;
            return Ok(body.map_err(|error| self.lost(&*error))?.to_bytes());
        }
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| parse_retry_after(value.to_str().ok()?, unix_time()));
        let detail = if status.is_redirection() {
            ": a redirect, which is not followed".to_owned()
        } else {
            quote(&read_prefix(response.into_body()).await, &self.secrets)
        };
        Err(HttpError::Status { address: self.address.clone(), status, detail, retry_after })
    }

    fn lost(&self, error: &(dyn Error + 'static)) -> HttpError {
        let detail = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        HttpError::Lost { address: self.address.clone(), detail: hide_secrets(&detail).into_owned() }
    }
}

/// Parses `Retry-After`: seconds, or a date.
fn parse_retry_after(text: &str, now: Duration) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(now))
}

/// Reads the beginning of a body. If the body breaks off, the part before that is returned.
async fn read_prefix(mut body: Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend_from_slice(&data[..data.len().min(ERROR_BODY_BYTES - bytes.len())]);
        if bytes.len() == ERROR_BODY_BYTES {
            break;
        }
    }
    bytes
}

/// Quotes the beginning of a body on one line after a colon. Returns nothing if the body is empty or repeats a secret.
fn quote(body: &[u8], secrets: &[Secret]) -> String {
    let text = String::from_utf8_lossy(body);
    if secrets.iter().any(|secret| !secret.expose().is_empty() && text.contains(secret.expose())) {
        return String::new();
    }
    let text = hide_secrets(&text);
    let words = text.split(|char: char| char.is_whitespace() || char.is_control());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(QUOTED_CHARS).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_quoted_on_one_line_and_never_with_a_secret() {
        let secrets = [Secret::new("hunter2"), Secret::new("")];
        for (body, quoted) in [
            (&b""[..], ""),
            (b"\r\n\x00", ""),
            (b"bad request", ": bad request"),
            (b"not\nfound\x1b[2J\n", ": not found [2J"),
            (b"{\n  \"error\":\t\"no\xff\"\n}\n", ": { \"error\": \"no\u{fffd}\" }"),
            (b"Authorization: hunter2", ""),
        ] {
            assert_eq!(quote(body, &secrets), quoted);
        }
        assert_eq!(quote(&[b'x'; 5000], &secrets).len(), QUOTED_CHARS + 2);
    }

    #[test]
    fn a_server_asks_for_time_in_seconds_or_until_a_date() {
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
            assert_eq!(parse_retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn the_parts_of_a_path_are_secrets() {
        let url = HttpUrl::parse("https://hooks/services/T00000000/abc/hunter2xx?token=hunter3xx").unwrap();
        let secrets: Vec<_> = secrets_of(&url).iter().map(|secret| secret.expose().to_owned()).collect();
        assert_eq!(secrets, ["T00000000", "hunter2xx", "hunter3xx"]);
    }

    #[test]
    fn an_address_is_shown_once() {
        let url = HttpUrl::parse("http://127.0.0.1:9093").unwrap();
        let at = |at: &str| HttpRequest { at: at.parse().ok(), ..HttpRequest::to(&url) };
        assert_eq!(at("").address(), "127.0.0.1:9093");
        assert_eq!(at("127.0.0.1:9093").address(), "127.0.0.1:9093");
        assert_eq!(at("127.0.0.2:9093").address(), "127.0.0.1:9093 (127.0.0.2:9093)");
    }
}
