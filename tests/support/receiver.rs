//! An HTTP receiver that records its requests, and replies as configured or forwards them to another receiver.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis_stream_core::clock::unix_time;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::wait::wait_for;

/// Time limit for requests to arrive.
const DEADLINE: Duration = Duration::from_secs(20);

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and headers.
    pub head: String,
    pub body: Value,
    /// Time at which it was complete, since the Unix epoch.
    pub at: Duration,
    /// The body as it was sent.
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum ReceiverReply {
    Text(String),
    /// Forwards the request to the receiver at this address, and its response back.
    Forwarded(SocketAddr),
}

impl Received {
    /// Returns the value of a header; `None` if it is missing.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// A listener on a loopback port, closed on drop.
pub struct TestReceiver {
    pub address: SocketAddr,
    answer: Arc<Mutex<ReceiverReply>>,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl TestReceiver {
    /// Starts a receiver that replies with this text.
    pub async fn answering(answer: &str) -> Self {
        Self::with(ReceiverReply::Text(answer.to_owned())).await
    }

    /// Starts a receiver that forwards everything to another one.
    pub async fn before(receiver: SocketAddr) -> Self {
        Self::with(ReceiverReply::Forwarded(receiver)).await
    }

    async fn with(answer: ReceiverReply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let received = Arc::new(Mutex::new(Vec::new()));
        let (answers, recorded) = (Arc::clone(&answer), Arc::clone(&received));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, recorded) = (Arc::clone(&answers), Arc::clone(&recorded));
                tokio::spawn(async move {
                    while let Some(request) = receive(&mut stream).await {
                        recorded.lock().unwrap().push(request.clone());
                        let answer = answers.lock().unwrap().clone();
                        let answer = match answer {
                            ReceiverReply::Text(words) => words.into_bytes(),
                            ReceiverReply::Forwarded(receiver) => {
                                forward(&request, receiver).await.unwrap_or_default()
                            }
                        };
                        if answer.is_empty() || stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, answer, received, task }
    }

    /// Starts a receiver that accepts everything.
    pub async fn new() -> Self {
        Self::answering(OK).await
    }

    /// Replies with another text from now on.
    pub fn answer(&self, answer: &str) {
        *self.answer.lock().unwrap() = ReceiverReply::Text(answer.to_owned());
    }

    /// Drops the requests received so far.
    pub fn forget(&self) {
        self.received.lock().unwrap().clear();
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until this number of requests arrived, and returns all of them.
    pub async fn until_received(&self, requests: usize) -> Vec<Received> {
        wait_for(DEADLINE, &format!("{requests} requests"), async || {
            let received = self.received();
            if received.len() >= requests { Ok(received) } else { Err(format!("{} came", received.len())) }
        })
        .await
    }
}

impl Drop for TestReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request; `None` at the end of the connection.
pub async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65_536]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let received = Received { head, body: Value::Null, at: Duration::ZERO, bytes: Vec::new() };
            let length = received.header("content-length").map_or(0, |length| length.parse().unwrap());
            if let Some(bytes) = bytes.get(end + 4..end + 4 + length) {
                let body = serde_json::from_slice(bytes).unwrap();
                return Some(Received { body, at: unix_time(), bytes: bytes.to_vec(), ..received });
            }
        }
        match stream.read(&mut chunk).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

/// Forwards a request and returns the response.
async fn forward(request: &Received, receiver: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(receiver).await?;
    // The response ends with the connection.
    let head = format!("{}\r\nConnection: close\r\n\r\n", request.head);
    stream.write_all(&[head.as_bytes(), &request.bytes].concat()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
