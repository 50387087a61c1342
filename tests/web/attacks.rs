//! Clients with ill intent. Whatever they do, the exporter polls on time, stays within 64 MiB, and serves others.

use std::net::SocketAddr;
use std::time::Duration;

use redis_stream_core::clock::now;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::client::RedisClient;
use crate::support::config::ConfigFile;
use crate::support::http;
use crate::support::metrics::{self, Metrics};
use crate::support::program::Exporter;
use crate::support::server::Server;
use crate::support::servers::newest;

const MAX_MEMORY_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
const INTERVAL: Duration = Duration::from_secs(1);
/// Duration of each attack.
const ATTACK: Duration = Duration::from_secs(6);

/// One attack at a time: they take all the processors there are.
static TURN: Mutex<()> = Mutex::const_new(());

/// An exporter that polls a server with 500 groups: what it serves is larger than what sockets hold.
struct Attacked {
    exporter: Exporter,
    _file: ConfigFile,
    _server: Server,
    _turn: MutexGuard<'static, ()>,
}

/// Progress of polling.
struct Seen {
    at: Instant,
    polls: f64,
}

impl Attacked {
    async fn start() -> Self {
        let turn = TURN.lock().await;
        let server = Server::start(newest(), &[]).await;
        let mut client = RedisClient::to(&server).await;
        let commands: String = (0..50)
            .map(|stream| {
                let groups: String =
                    (0..10).map(|group| format!("XGROUP CREATE stream:{stream} group-{group} 0\n")).collect();
                format!("XADD stream:{stream} * f v\n{groups}")
            })
            .collect();
        client.run(&commands).await;
        let config = format!(
            "poll: {{interval: {}ms}}\ntargets: [{{name: t, url: '{}'}}]",
            INTERVAL.as_millis(),
            server.url()
        );
        let file = ConfigFile::new(&config);
        let exporter = file.serve().serving().await;
        Self { exporter, _file: file, _server: server, _turn: turn }
    }

    /// Returns its metrics; other connections may use up the limit, so this may take a while.
    async fn metrics(&self) -> Metrics {
        let deadline = now() + Duration::from_secs(60);
        loop {
            match http::try_get(self.exporter.address, "/metrics", &[]).await {
                Ok(response) if response.status == 200 => return metrics::parse(&response.text()),
                outcome => assert!(now() < deadline, "not served within a minute: {outcome:?}"),
            }
        }
    }

    async fn look(&self) -> Seen {
        let metrics = self.metrics().await;
        let memory = metrics["process_resident_memory_bytes"];
        assert!(memory < MAX_MEMORY_BYTES, "{memory} bytes");
        // One that is cut off by a machine that has too much to do was in time.
        let polls = ["ok", "partial"]
            .map(|result| metrics[&format!("streamgauge_polls_total{{result=\"{result}\",target=\"t\"}}")]);
        Seen { at: now(), polls: polls.iter().sum() }
    }

    /// Lets an attack go on, of so many clients, and looks before, meanwhile and afterwards.
    async fn under<F>(&self, clients: usize, attack: impl Fn(SocketAddr) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let before = self.look().await;
        let mut attackers = JoinSet::new();
        for _ in 0..clients {
            attackers.spawn(attack(self.exporter.address));
        }
        let end = now() + ATTACK;
        let meanwhile = self.look().await;
        while now() < end {
            self.look().await;
            sleep(INTERVAL).await;
        }
        attackers.shutdown().await;
        let after = self.look().await;
        // Half of them would be plenty on a machine that is idle; this one may not be.
        for (from, to) in [(&before, &after), (&meanwhile, &after)] {
            let due = (to.at - from.at).div_duration_f64(INTERVAL);
            let polled = to.polls - from.polls;
            assert!(polled >= due * 0.7 - 2.0, "{polled} polls of {due}");
        }
    }
}

/// Begins anew whenever it is cut off.
async fn for_ever<F: Future<Output = std::io::Result<()>>>(attempt: impl Fn() -> F) {
    loop {
        if attempt().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn five_hundred_clients_that_drip() {
    let attacked = Attacked::start().await;
    let drip = |address| {
        for_ever(move || async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ").await?;
            loop {
                stream.write_all(b"x").await?;
                sleep(Duration::from_millis(300)).await;
            }
        })
    };
    attacked.under(500, drip).await;
}

#[tokio::test]
async fn heads_of_16_mib() {
    let attacked = Attacked::start().await;
    let flood = |address| {
        for_ever(move || async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nX-Large: ").await?;
            let piece = [b'x'; 64 * 1024];
            for _ in 0..256 {
                stream.write_all(&piece).await?;
            }
            Ok(())
        })
    };
    attacked.under(100, flood).await;
}

#[tokio::test]
async fn requests_without_end_and_nobody_who_reads_the_answers() {
    let attacked = Attacked::start().await;
    let flood = |address| {
        for_ever(move || async move {
            let mut stream = TcpStream::connect(address).await?;
            loop {
                let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
                // Once the answers are stuck nothing is taken any more.
                let sent = timeout(Duration::from_secs(1), stream.write_all(&request.repeat(100))).await;
                if let Ok(outcome) = sent {
                    outcome?;
                }
            }
        })
    };
    attacked.under(150, flood).await;
}

#[tokio::test]
async fn bodies_without_end() {
    let attacked = Attacked::start().await;
    let flood = |address| {
        for_ever(move || async move {
            let mut stream = TcpStream::connect(address).await?;
            stream
                .write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        })
    };
    attacked.under(100, flood).await;
}

#[tokio::test]
async fn connections_that_come_and_go() {
    let attacked = Attacked::start().await;
    let flood = |address| {
        for_ever(move || async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
            stream.read_to_end(&mut Vec::new()).await?;
            sleep(Duration::from_millis(20)).await;
            Ok(())
        })
    };
    attacked.under(20, flood).await;
}
