//! An HTTP receiver that records its requests, and answers as configured or as another receiver answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis_stream_core::clock::unix_time;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::wait::wait_for;

/// How long what is waited for may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// An answer that takes what was sent.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its head, with the request line.
    pub head: String,
    /// Its body.
    pub body: Value,
    /// When it was here as a whole, since the Unix epoch.
    pub at: Duration,
    /// Its body as it came.
    bytes: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
enum Answer {
    /// This.
    Words(String),
    /// What the receiver at this address answers, which is sent the same.
    Of(SocketAddr),
}

impl Received {
    /// The value of a header; `None` where it is missing.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// A listener on a loopback port; it is gone when this is dropped.
pub struct TestReceiver {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl TestReceiver {
    /// One that answers this.
    pub async fn answering(answer: &str) -> Self {
        Self::with(Answer::Words(answer.to_owned())).await
    }

    /// One that passes everything on to this receiver.
    pub async fn before(receiver: SocketAddr) -> Self {
        Self::with(Answer::Of(receiver)).await
    }

    async fn with(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let received = Arc::new(Mutex::new(Vec::new()));
        let (answers, takes_down) = (Arc::clone(&answer), Arc::clone(&received));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, takes_down) = (Arc::clone(&answers), Arc::clone(&takes_down));
                tokio::spawn(async move {
                    while let Some(request) = receive(&mut stream).await {
                        takes_down.lock().unwrap().push(request.clone());
                        let answer = answers.lock().unwrap().clone();
                        let answer = match answer {
                            Answer::Words(words) => words.into_bytes(),
                            Answer::Of(receiver) => pass_on(&request, receiver).await.unwrap_or_default(),
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

    /// One that takes everything.
    pub async fn new() -> Self {
        Self::answering(OK).await
    }

    /// Answers something else from now on.
    pub fn answer(&self, answer: &str) {
        *self.answer.lock().unwrap() = Answer::Words(answer.to_owned());
    }

    /// Forgets what came until now.
    pub fn forget(&self) {
        self.received.lock().unwrap().clear();
    }

    /// All that came.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until so many requests came, and returns all.
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

/// Sends the request to another, and returns what it answers.
async fn pass_on(request: &Received, receiver: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(receiver).await?;
    // The end of the answer is the end of the connection.
    let head = format!("{}\r\nConnection: close\r\n\r\n", request.head);
    stream.write_all(&[head.as_bytes(), &request.bytes].concat()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
