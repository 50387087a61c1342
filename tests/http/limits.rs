//! Clients that take more than they may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use streamgauge::http::body::Body;
use streamgauge::http::limits::ServerLimits;
use streamgauge::http::reply::Reply;
use tokio::task::JoinSet;

use crate::client::{Router, Server, fine, generous, within_deadline};

const SHORT: Duration = Duration::from_millis(200);

fn head_of(bytes: usize) -> String {
    let start = "GET / HTTP/1.1\r\nHost: test\r\nX-Filler: ";
    let filler = "x".repeat(bytes - start.len() - 4);
    format!("{start}{filler}\r\n\r\n")
}

#[tokio::test]
async fn a_head_over_16_kib_is_refused() {
    let server = Server::start(fine(), generous());
    let mut client = server.connect().await;
    client.send(head_of(16 * 1024)).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(head_of(17 * 1024)).await;
    assert_eq!(client.answer().await.status, 431);
    client.finish_sending().await;
    client.closed().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused_before_it_is_whole() {
    let server = Server::start(fine(), generous());
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nX-Filler: ").await;
    client.send("x".repeat(1 << 20)).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn a_client_that_sends_its_head_slowly_is_cut_off() {
    let server = Server::start(fine(), ServerLimits { head: SHORT, ..generous() });
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nX-Slow: ").await;
    // Each byte is in time; it is the whole head that is late.
    let mut each = tokio::time::interval(SHORT / 10);
    let drip = async {
        loop {
            each.tick().await;
            if client.try_send("x").await.is_err() {
                break;
            }
        }
    };
    within_deadline(drip).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    // Long enough for a request to arrive in time on a busy machine.
    let server = Server::start(fine(), ServerLimits { head: Duration::from_secs(1), ..generous() });
    let mut silent = server.connect().await;
    silent.closed().await;
    let mut kept_alive = server.connect().await;
    for _ in 0..2 {
        assert_eq!(kept_alive.get("/").await.status, 200);
    }
    kept_alive.closed().await;
}

#[tokio::test]
async fn a_connection_carries_so_many_requests_and_no_more() {
    let server = Server::start(fine(), ServerLimits { requests: 3, ..generous() });
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10)).await;
    for last in [None, None, Some("close")] {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, last));
    }
    client.finish_sending().await;
    client.closed().await;
}

#[tokio::test]
async fn who_only_holds_a_place_loses_it_when_all_are_taken() {
    let crowded = Duration::from_secs(1);
    let server = Server::start(fine(), ServerLimits { connections: 2, crowded, ..generous() });
    // Nothing else ends these: all other limits are out of reach.
    let _silent = server.connect().await;
    let mut dripping = server.connect().await;
    dripping.send("GET / HTTP/1.1\r\nX-Slow: ").await;
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect().await;
        assert_eq!(client.get("/").await.status, 200);
        others.push(client);
    }
}

#[tokio::test]
async fn who_holds_a_place_keeps_it_while_there_are_others() {
    let crowded = Duration::from_millis(10);
    let server = Server::start(fine(), ServerLimits { crowded, ..generous() });
    let mut kept_alive = server.connect().await;
    assert_eq!(kept_alive.get("/").await.status, 200);
    for _ in 0..50 {
        assert_eq!(server.connect().await.ask("GET", "/nowhere").await.status, 404);
    }
    assert_eq!(kept_alive.get("/").await.status, 200);
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_up_others_but_for_a_moment_and_open_routes_not_at_all() {
    let router = large().open("/open", |_| Reply::text(StatusCode::OK, "open\n"));
    let crowded = Duration::from_secs(1);
    let server = Server::start(router, ServerLimits { answers: 2, crowded, ..generous() });
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200);
        stalled.push(client);
    }
    assert_eq!(server.connect().await.get("/open").await.status, 200);
    assert_eq!(server.connect().await.get("/").await.status, 200);
}

/// Far more than the buffers of both sockets hold.
const LARGE_BYTES: usize = 256 << 20;

pub(crate) fn large() -> Router {
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    fine().get("/large", move |_| {
        let chunks = vec![chunk.clone(); LARGE_BYTES / chunk.len()];
        Reply::new(StatusCode::OK, "text/plain", Body::Chunks(chunks))
    })
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_place() {
    let limits = ServerLimits { connections: 1, write_stall: SHORT, ..generous() };
    let server = Server::start(large(), limits);
    let mut stalled = server.connect().await;
    stalled.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(stalled.head().await.status, 200);
    let mut next = server.connect().await;
    assert_eq!(next.get("/").await.status, 200);
    assert!(stalled.rest().await.unwrap_or_default().len() < LARGE_BYTES);
}

#[tokio::test]
async fn more_clients_than_places_are_all_answered_and_never_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let router = {
        let most = Arc::clone(&most);
        Router::new().get("/", move |_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            let body = Body::stream(move |out| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                now.fetch_sub(1, Ordering::SeqCst);
                std::io::Write::write_all(out, b"fine\n")
            });
            Reply::new(StatusCode::OK, "text/plain", body)
        })
    };
    let server = Arc::new(Server::start(router, ServerLimits { connections: 16, ..generous() }));
    let mut clients = JoinSet::new();
    for _ in 0..300 {
        let server = Arc::clone(&server);
        clients.spawn(async move {
            let mut client = server.connect().await;
            assert_eq!(client.get("/").await.text(), "fine\n");
            // Nobody closes: an idle connection must not keep out those who wait.
            client
        });
    }
    assert_eq!(clients.join_all().await.len(), 300);
    let most = most.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} at once");
}
