//! Sends a GET or POST over a connection of its own.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::header::{CONTENT_ENCODING, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(10);
const POST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body as it was transferred, which may be compressed.
    pub body: Bytes,
}

impl Response {
    /// Returns the body as text, decompressed if it is gzipped. Panics if it is not UTF-8.
    pub fn text(&self) -> String {
        let gzipped = self.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        if !gzipped {
            return String::from_utf8(self.body.to_vec()).expect("the body is UTF-8");
        }
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(self.body.as_ref());
        decoder.read_to_string(&mut text).expect("the body is gzip of UTF-8");
        text
    }

    /// Returns the value of a header; `None` if it is missing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("the header is text"))
    }
}

/// GETs a path. Panics if there is no response.
pub async fn get(address: SocketAddr, path: &str) -> Response {
    get_with(address, path, &[]).await
}

/// GETs a path with headers: `&[("accept-encoding", "gzip")]`.
pub async fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    let response = try_get(address, path, headers).await;
    response.unwrap_or_else(|error| panic!("GET {path} from {address}: {error}"))
}

/// GETs a path. The error is that of the connection or the timeout.
pub async fn try_get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response> {
    tokio::time::timeout(TIMEOUT, exchange(address, Method::GET, path, headers)).await?
}

/// POSTs an empty body to a path. Panics if there is no response.
pub async fn post(address: SocketAddr, path: &str) -> Response {
    let response = tokio::time::timeout(POST_TIMEOUT, exchange(address, Method::POST, path, &[])).await;
    let response = response.unwrap_or_else(|error| Err(error.into()));
    response.unwrap_or_else(|error| panic!("POST {path} to {address}: {error}"))
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Response> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Response { status: parts.status, headers: parts.headers, body })
}
