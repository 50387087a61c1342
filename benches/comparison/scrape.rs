//! A GET of a page as Prometheus sends it, timed from the connection to the last byte.

use std::io::{Read, copy, sink};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Time limit for a scrape. An exporter that waits for each reply is slow: a minute for 100,000 streams on loopback.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Content encoding that the scraper accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// The page as it is.
    Plain,
    /// Compressed.
    Gzip,
}

/// A page that was scraped.
pub(crate) struct Page {
    /// Time from connecting to the last byte.
    pub(crate) took: Duration,
    chunks: Vec<Bytes>,
}

/// Scrapes `/metrics`. Panics if there is no page.
pub(crate) async fn scrape(address: SocketAddr, coding: Coding) -> Page {
    let mut chunks = Vec::new();
    // Joining the chunks would be part of the measured time.
    let took = timed(address, coding, |chunk| chunks.push(chunk)).await;
    Page { took, chunks }
}

/// Returns the median time of so many scrapes. Their pages are dropped as they come, so that no memory has to be found for
/// them meanwhile: Prometheus reads into the buffer of an earlier scrape.
pub(crate) async fn median_time(address: SocketAddr, coding: Coding, scrapes: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..scrapes {
        times.push(timed(address, coding, drop).await);
    }
    times.sort_unstable();
    times[scrapes / 2]
}

async fn timed(address: SocketAddr, coding: Coding, take: impl FnMut(Bytes)) -> Duration {
    let page = tokio::time::timeout(TIMEOUT, exchange(address, coding, take)).await.expect("a page in time");
    page.unwrap_or_else(|error| panic!("/metrics from {address}: {error}"))
}

async fn exchange(
    address: SocketAddr,
    coding: Coding,
    mut take: impl FnMut(Bytes),
) -> anyhow::Result<Duration> {
    let began = now();
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let accepted = if coding == Coding::Gzip { "gzip" } else { "identity" };
    let request =
        Request::get("/metrics").header(HOST, address.to_string()).header(ACCEPT_ENCODING, accepted);
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    anyhow::ensure!(status == 200, "status {status}");
    let is_gzip = response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    anyhow::ensure!(is_gzip == (coding == Coding::Gzip), "not in the coding that was asked for");
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame?.into_data() {
            take(chunk);
        }
    }
    let took = began.elapsed();
    driver.abort();
    Ok(took)
}

impl Page {
    /// Returns the transferred size.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    /// Returns an uncompressed page as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.chunks.concat()).expect("the page is UTF-8")
    }

    /// Returns the decompressed size, which also validates the compression.
    pub(crate) fn unpacked_bytes(&self) -> u64 {
        let packed = self.chunks.concat();
        let mut unpacking = flate2::read::GzDecoder::new(packed.as_slice());
        copy(&mut unpacking.by_ref(), &mut sink()).expect("the page is whole")
    }
}

/// Returns the number of series of a metric.
pub(crate) fn series(page: &str, metric: &str) -> usize {
    page.lines().filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'))).count()
}

/// Returns the value of the only series of a metric.
pub(crate) fn value(page: &str, metric: &str) -> f64 {
    let line = page.lines().find(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{')));
    let (_, value) = line.and_then(|line| line.rsplit_once(' ')).unwrap_or_else(|| panic!("no {metric}"));
    value.parse().expect("a value is a number")
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn now() -> Instant {
    Instant::now()
}
