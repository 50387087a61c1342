//! Those who read: scrapers, people with a browser, programs that ask for JSON, and clients that are slow or leave.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::journal::Journal;
use crate::schedule::{Deck, Plan};
use crate::setup::Setup;
use crate::support::http::get_with;
use crate::support::metrics;

/// A kind of reader.
#[derive(Clone, Copy, Debug)]
enum Reader {
    /// A scrape without compression.
    Plain,
    /// A scrape with it.
    Gzip,
    /// One target alone.
    OneTarget,
    /// Many scrapes at once.
    Crowd,
    /// The pages for people.
    Pages,
    /// Groups and alerts as JSON.
    Json,
    /// Takes some bytes at a time, and leaves in the midst.
    Slow,
    /// Leaves when it has asked.
    Aborted,
    /// Sends half of a request, and leaves.
    Half,
    /// Asks over and over on one connection.
    KeptAlive,
}

const READERS: &[Reader] = &[
    Reader::Plain,
    Reader::Gzip,
    Reader::OneTarget,
    Reader::Crowd,
    Reader::Pages,
    Reader::Json,
    Reader::Slow,
    Reader::Aborted,
    Reader::Half,
    Reader::KeptAlive,
];

/// Scrapes at once. Threads that serve them stay for as long as polls keep ten seconds from passing without work for each
/// of them: whoever waits longest gets the next.
pub(crate) const CROWD: usize = 20;
const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n";
const GZIP: [(&str, &str); 1] = [("accept-encoding", "gzip")];

/// One reader after the other, until the time is over. All have left then.
pub(crate) async fn run(setup: &Setup, plan: Plan, journal: &Journal) {
    let mut deck = Deck::new(READERS, plan, 4);
    let targets = setup.targets();
    while let Some(reader) = deck.deal(100..700).await {
        journal.count(reader);
        let target = &targets[deck.chance.usize(..targets.len())];
        read(setup.exporter.address, reader, target).await;
    }
}

async fn read(address: SocketAddr, reader: Reader, target: &str) {
    match reader {
        Reader::Plain => scrape(address, "/metrics", &[]).await,
        Reader::Gzip => scrape(address, "/metrics", &GZIP).await,
        Reader::OneTarget => scrape(address, &format!("/metrics?target={target}"), &GZIP).await,
        Reader::Crowd => {
            join_all((0..CROWD).map(|n| scrape(address, "/metrics", if n % 2 == 0 { &GZIP } else { &[] })))
                .await;
        }
        Reader::Pages => {
            answered(address, "/").await;
            // It may not be there just now.
            let group = format!("/groups/{target}/db0/orders/workers");
            get_with(address, &group, &GZIP).await;
        }
        Reader::Json => {
            for path in ["/api/v1/groups", "/api/v1/groups?status=ok&limit=5", "/api/v1/alerts", "/-/healthy"]
            {
                answered(address, path).await;
            }
        }
        Reader::Slow | Reader::Aborted | Reader::Half => leave_early(address, reader).await,
        Reader::KeptAlive => keep_alive(address).await,
    }
}

/// Panics where a series is there twice.
async fn scrape(address: SocketAddr, path: &str, headers: &[(&str, &str)]) {
    let response = get_with(address, path, headers).await;
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    metrics::parse(&response.text());
}

async fn answered(address: SocketAddr, path: &str) {
    let response = get_with(address, path, &[]).await;
    assert_eq!(response.status, 200, "{path}: {}", response.text());
}

async fn leave_early(address: SocketAddr, reader: Reader) {
    let mut stream = TcpStream::connect(address).await.expect("it takes connections");
    let sent = if matches!(reader, Reader::Half) { &SCRAPE[..SCRAPE.len() / 2] } else { SCRAPE };
    stream.write_all(sent).await.expect("it reads");
    if matches!(reader, Reader::Slow) {
        let mut bytes = [0; 512];
        for _ in 0..10 {
            stream.read_exact(&mut bytes).await.expect("there is more");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn keep_alive(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.expect("it takes connections");
    let mut bytes = [0; 4096];
    for _ in 0..5 {
        let request = b"GET /-/healthy HTTP/1.1\r\nHost: soak\r\n\r\n";
        stream.write_all(request).await.expect("it reads");
        let read = stream.read(&mut bytes).await.expect("it answers");
        assert!(bytes[..read].starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&bytes[..read]));
        sleep(Duration::from_millis(50)).await;
    }
}
