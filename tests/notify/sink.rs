//! A listener that takes down what it is sent, and answers what it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fixture::SOON;
use crate::support::wait::wait_for;

/// An answer that takes what was sent.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Its head, with the request line.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: Value,
}

impl Received {
    /// The value of a header; `None` where it is missing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// A listener on a loopback port; it is gone when this is dropped.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<String>>,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Sink {
    /// One that answers this.
    pub(crate) async fn answering(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let received = Arc::new(Mutex::new(Vec::new()));
        let (answers, takes_down) = (Arc::clone(&answer), Arc::clone(&received));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, takes_down) = (Arc::clone(&answers), Arc::clone(&takes_down));
                tokio::spawn(async move {
                    while let Some(request) = receive(&mut stream).await {
                        takes_down.lock().unwrap().push(request);
                        let answer = answers.lock().unwrap().clone();
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, answer, received, task }
    }

    /// One that takes everything.
    pub(crate) async fn new() -> Self {
        Self::answering(OK).await
    }

    /// Answers something else from now on.
    pub(crate) fn answer(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.to_owned();
    }

    /// All that came.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until so many requests came, and returns all.
    pub(crate) async fn until_received(&self, requests: usize) -> Vec<Received> {
        wait_for(SOON, &format!("{requests} requests"), async || {
            let received = self.received();
            if received.len() >= requests { Ok(received) } else { Err(format!("{} came", received.len())) }
        })
        .await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request; `None` at the end of the connection.
pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65_536]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let received = Received { head, body: Value::Null };
            let length = received.header("content-length").map_or(0, |length| length.parse().unwrap());
            if let Some(body) = bytes.get(end + 4..end + 4 + length) {
                return Some(Received { body: serde_json::from_slice(body).unwrap(), ..received });
            }
        }
        match stream.read(&mut chunk).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}
