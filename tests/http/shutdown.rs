//! The end of the server.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use hyper::StatusCode;
use streamgauge::http::body::Body;
use streamgauge::http::limits::ServerLimits;
use streamgauge::http::reply::Reply;
use tokio::net::TcpStream;

use crate::client::{Router, Server, fine, generous, within_deadline};
use crate::limits::large;

#[tokio::test]
async fn idle_connections_are_closed_at_once() {
    let server = Server::start(fine(), generous());
    let mut silent = server.connect().await;
    let mut kept_alive = server.connect().await;
    assert_eq!(kept_alive.get("/").await.status, 200);
    let ended = server.stop();
    kept_alive.closed().await;
    silent.closed().await;
    within_deadline(ended).await.unwrap();
}

#[tokio::test]
async fn an_answer_under_way_is_finished_and_nobody_else_accepted() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let router = Router::new().get("/", move |_| {
        let gate = gate.lock().unwrap().take().expect("one request");
        let body = Body::stream(move |out| {
            gate.recv().expect("the test releases it");
            std::io::Write::write_all(out, b"finished\n")
        });
        Reply::new(StatusCode::OK, "text/plain", body)
    });
    let server = Server::start(router, generous());
    let address = server.address;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let ended = server.stop();
    within_deadline(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    assert!(!ended.is_finished());
    release.send(()).unwrap();
    assert_eq!(client.rest().await.unwrap(), b"9\r\nfinished\n\r\n0\r\n\r\n");
    within_deadline(ended).await.unwrap();
}

#[tokio::test]
async fn a_client_that_hangs_does_not_outlast_the_drain_time() {
    let drain = Duration::from_millis(200);
    let server = Server::start(large(), ServerLimits { drain, ..generous() });
    let mut half_sent = server.connect().await;
    half_sent.send("GET / HTTP/1.1\r\n").await;
    let mut does_not_read = server.connect().await;
    does_not_read.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(does_not_read.head().await.status, 200);
    within_deadline(server.stop()).await.unwrap();
    half_sent.closed().await;
}
