//! A GET, for the commands that ask a running exporter: one connection, one deadline, and a bound on the answer.
//! Redirects are not followed. No message holds a credential.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::timeout_at;

use crate::http_url::{HttpUrl, Scheme};
use redis_stream_core::clock::now;
use redis_stream_core::dial::{DialError, Dialer, Stream};
use redis_stream_core::redis_url::Place;
use redis_stream_core::tls::Tls;

/// Longest time of a connection and its answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Bytes of an answer that are taken: 10,000 groups with ten consumers each are 20 MB.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Characters of an answer that messages quote.
pub const QUOTED_CHARS: usize = 200;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum GetError {
    /// No connection could be made, or none as secure as it must be.
    #[error("{address}: {source}")]
    Dial {
        /// Host and port.
        address: String,
        /// What went wrong.
        source: DialError,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{address} does not answer as an HTTP server does: {detail}")]
    Lost {
        /// Host and port.
        address: String,
        /// What happened.
        detail: String,
    },
    /// The deadline passed.
    #[error("{address} did not answer within {} s", DEADLINE.as_secs())]
    Timeout {
        /// Host and port.
        address: String,
    },
    /// An answer that is none.
    #[error("{address} answers {status}{detail}")]
    Status {
        /// Host and port.
        address: String,
        /// The status.
        status: StatusCode,
        /// What it said, after a colon.
        detail: String,
    },
}

/// What lies there. With `https` the certificate has to be of an authority of the system, or of the file that
/// `SSL_CERT_FILE` names.
///
/// # Errors
///
/// There is no answer of success in time.
pub async fn get(url: &HttpUrl) -> Result<Bytes, GetError> {
    let address = url.address.to_string();
    let deadline = now() + DEADLINE;
    let place = match url.scheme {
        Scheme::Http => Place::Tcp(url.address.clone()),
        Scheme::Https => Place::Tls(url.address.clone()),
    };
    let stream = Dialer::new(Tls::default()).dial(&place, deadline).await;
    let stream = stream.map_err(|source| GetError::Dial { address: address.clone(), source })?;
    let timed_out = |_| Err(GetError::Timeout { address: address.clone() });
    timeout_at(deadline, exchange(stream, url, &address)).await.unwrap_or_else(timed_out)
}

async fn exchange(stream: Stream, url: &HttpUrl, address: &str) -> Result<Bytes, GetError> {
    let lost = |detail: String| GetError::Lost { address: address.to_owned(), detail };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(error.to_string()))?;
    let driver = tokio::spawn(connection);
    let request = request(url).map_err(|error| lost(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| lost(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    driver.abort();
    let body = body.map_err(|error| lost(error.to_string()))?.to_bytes();
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(GetError::Status { address: address.to_owned(), status, detail: quote(&body) })
}

fn request(url: &HttpUrl) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let mut request = Request::get(url.path.expose())
        .header(HOST, url.authority())
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("streamgauge/", env!("CARGO_PKG_VERSION")));
    if let Some((user, password)) = &url.credentials {
        let encoded = STANDARD.encode(format!("{user}:{}", password.expose()));
        let mut value = HeaderValue::try_from(format!("Basic {encoded}"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Empty::new())
}

/// The beginning of an answer, on one line, as messages quote it: after a colon, or nothing.
#[must_use]
pub fn quote(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let line: Vec<_> = text.split(|char: char| char.is_whitespace() || char.is_control()).collect();
    let line: Vec<_> = line.into_iter().filter(|word| !word.is_empty()).collect();
    let line: String = line.join(" ").chars().take(QUOTED_CHARS).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_quoted_on_one_line() {
        assert_eq!(quote(b"not\nfound\x1b[2J\n"), ": not found [2J");
        assert_eq!(quote(b"\n"), "");
        assert_eq!(quote(&[b'x'; 5_000]).len(), QUOTED_CHARS + 2);
    }
}
