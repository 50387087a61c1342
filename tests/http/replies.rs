//! What is answered to which request.

use std::io::{self, Read as _, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flate2::read::GzDecoder;
use hyper::{Method, StatusCode};
use streamgauge::http::body::Body;
use streamgauge::http::encoding::Encoding;
use streamgauge::http::limits::ServerLimits;
use streamgauge::http::reply::Reply;
use tokio::sync::oneshot;

use crate::client::{Router, Server, fine, generous, within_deadline};

const TEXT: &str = "text/plain; charset=utf-8";

#[tokio::test]
async fn paths_and_methods_that_are_not_known_are_refused() {
    let router = fine().route(Method::POST, "/-/reload", |_| Reply::empty(StatusCode::NO_CONTENT));
    let server = Server::start(router, generous());
    let mut client = server.connect().await;

    let answer = client.get("/nowhere").await;
    assert_eq!((answer.status, answer.text()), (404, "not found\n"));
    let answer = client.ask("DELETE", "/").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(answer.text(), "method not allowed\n");
    let answer = client.get("/-/reload?now").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    client.send("POST /-/reload HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.head().await.status, 204);
    assert_eq!(client.get("/").await.text(), "fine\n");

    let observed = [("other", 404), ("/", 405), ("/-/reload", 405), ("/-/reload", 204), ("/", 200)];
    assert_eq!(*server.observed.lock().unwrap(), observed);
}

#[tokio::test]
async fn every_answer_forbids_to_guess_its_type() {
    let server = Server::start(fine(), generous());
    let mut client = server.connect().await;
    for path in ["/", "/nowhere"] {
        let answer = client.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-type"), Some(TEXT));
    }
}

#[tokio::test]
async fn head_is_answered_with_the_headers_of_get_and_no_body() {
    let chunks = || Body::Chunks(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cde")]);
    let router = fine()
        .get("/chunks", move |request| Reply::new(StatusCode::OK, TEXT, chunks()).encoding(request.encoding));
    let server = Server::start(router, generous());
    let mut client = server.connect().await;
    for path in ["/", "/chunks", "/nowhere"] {
        let get = client.get(path).await;
        let head = client.ask("HEAD", path).await;
        assert_eq!((head.status, head.headers), (get.status, get.headers), "{path}");
        assert!(!get.body.is_empty());
    }
}

#[tokio::test]
async fn the_encoding_is_negotiated() {
    let router = Router::new().get("/", |request| {
        let body = if request.encoding == Encoding::Gzip { "zipped" } else { "plain" };
        Reply::text(StatusCode::OK, body).encoding(request.encoding)
    });
    let server = Server::start(router, generous());
    let mut client = server.connect().await;
    for (accepted, encoding, body) in [
        ("Accept-Encoding: deflate, GZIP;q=0.3\r\n", Some("gzip"), "zipped"),
        ("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", Some("gzip"), "zipped"),
        ("Accept-Encoding: gzip;q=0\r\n", None, "plain"),
        ("", None, "plain"),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{accepted}\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.header("content-encoding"), answer.text()), (encoding, body), "{accepted}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
}

#[tokio::test]
async fn a_list_of_chunks_is_sent_whole_with_its_length() {
    let segments: Vec<_> = (0..5000).map(|n| Bytes::from(format!("segment {n}\n").repeat(n % 7))).collect();
    let whole = segments.concat();
    let router =
        Router::new().get("/", move |_| Reply::new(StatusCode::OK, TEXT, Body::Chunks(segments.clone())));
    let server = Server::start(router, generous());
    let mut client = server.connect().await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!(answer.header("content-length"), Some(whole.len().to_string().as_str()));
        assert!(answer.body == whole);
    }
}

#[tokio::test]
async fn what_is_streamed_is_compressed_for_clients_that_take_it() {
    let server = Server::start(streamed(lines), generous());
    let mut client = server.connect().await;
    for (accepted, coded) in [
        ("", None),
        ("Accept-Encoding: gzip\r\n", Some("gzip")),
        ("Accept-Encoding: br;q=1.0, gzip;q=0.8, *;q=0.1\r\n", Some("gzip")),
        ("Accept-Encoding: gzip;q=0.2, identity;q=0.9\r\n", None),
        ("Accept-Encoding: *, gzip;q=0\r\n", None),
        ("Accept-Encoding: br\r\naccept-encoding: x-gzip\r\n", Some("gzip")),
    ] {
        for method in ["HEAD", "GET"] {
            client.send(format!("{method} / HTTP/1.1\r\nHost: test\r\n{accepted}\r\n")).await;
            let answer = if method == "GET" { client.answer().await } else { client.head().await };
            assert_eq!(answer.header("content-encoding"), coded, "{method}, {accepted}");
            assert_eq!(answer.header("vary"), Some("accept-encoding"), "{method}, {accepted}");
            let mut text = Vec::new();
            match coded {
                Some(_) => drop(GzDecoder::new(answer.body.as_slice()).read_to_end(&mut text)),
                None => text.clone_from(&answer.body),
            }
            assert!(method == "HEAD" || text == written_lines(), "{accepted}");
        }
    }
}

#[tokio::test]
async fn what_is_compressed_and_fails_does_not_look_complete() {
    let failing = |out: &mut dyn Write| out.write_all(b"half").and(Err(io::Error::other("no more")));
    let server = Server::start(streamed(failing), generous());
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    assert!(!client.rest().await.unwrap_or_default().ends_with(b"0\r\n\r\n"));
}

fn streamed(render: impl Fn(&mut dyn Write) -> io::Result<()> + Clone + Send + Sync + 'static) -> Router {
    Router::new().get("/", move |_| {
        let render = render.clone();
        Reply::new(StatusCode::OK, TEXT, Body::stream(move |out| render(out)))
    })
}

fn lines(out: &mut dyn Write) -> io::Result<()> {
    (0..100_000).try_for_each(|n| writeln!(out, "{n}"))
}

fn written_lines() -> Vec<u8> {
    let mut written = Vec::new();
    lines(&mut written).expect("a vector takes all");
    written
}

#[tokio::test]
async fn a_streamed_body_arrives_whole_and_the_connection_lives_on() {
    let server = Server::start(streamed(lines), generous());
    let mut client = server.connect().await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert!(answer.body == written_lines());
        assert_eq!(client.ask("HEAD", "/").await.status, 200);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_a_streamed_body_until_the_close() {
    let server = Server::start(streamed(lines), generous());
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert!(client.answer().await.body == written_lines());
}

#[tokio::test]
async fn a_streamed_body_that_fails_does_not_look_complete() {
    let failing = |out: &mut dyn Write| {
        out.write_all(b"half")?;
        out.flush()?;
        Err(io::Error::other("no more"))
    };
    let server = Server::start(streamed(failing), generous());
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    assert!(!client.rest().await.unwrap_or_default().ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn a_streamed_body_ends_when_its_client_leaves() {
    let (ended, end) = oneshot::channel();
    let ended = Mutex::new(Some(ended));
    let endless = move |out: &mut dyn Write| {
        let error = std::iter::repeat(()).try_for_each(|()| out.write_all(&[b'x'; 1000])).unwrap_err();
        let ended = ended.lock().unwrap().take().expect("one request");
        ended.send(error.kind()).unwrap();
        Err(error)
    };
    let endless = Arc::new(endless);
    let server = Server::start(streamed(move |out| endless(out)), generous());
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    drop(client);
    assert_eq!(within_deadline(end).await.unwrap(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_their_order() {
    let router = fine().get("/two", |_| Reply::text(StatusCode::OK, "two\n"));
    let server = Server::start(router, generous());
    let mut client = server.connect().await;
    let requests = ["/", "/two", "/three"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client.send(requests.concat().repeat(20)).await;
    for _ in 0..20 {
        for body in ["fine\n", "two\n", "not found\n"] {
            assert_eq!(client.answer().await.text(), body);
        }
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_answered_unread_and_the_connection_closed() {
    let server = Server::start(fine(), generous());
    let size = 4 << 20;
    for head in [format!("Content-Length: {size}"), "Transfer-Encoding: chunked".to_owned()] {
        let mut client = server.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n{size:x}\r\n")).await;
        // Without a close that lingers the connection would be reset here.
        client.send(vec![b'x'; size]).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (405, Some("close")));
        client.closed().await;
    }
}

#[tokio::test]
async fn a_body_that_comes_after_the_answer_does_not_reset_the_connection() {
    let server = Server::start(fine(), generous());
    let mut client = server.connect().await;
    let size = 4 << 20;
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 405);
    client.send(vec![b'x'; size]).await;
    assert_eq!(client.rest().await.unwrap(), b"");
}

#[tokio::test]
async fn a_client_that_closed_its_half_is_answered() {
    let server = Server::start(streamed(lines), generous());
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    client.finish_sending().await;
    assert!(client.answer().await.body == written_lines());
    client.closed().await;
}

#[tokio::test]
async fn a_panic_costs_one_connection_and_no_place() {
    let router = fine().get("/panic", |_| panic!("expected by the test"));
    let server = Server::start(router, ServerLimits { connections: 1, ..generous() });
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send("GET /panic HTTP/1.1\r\nHost: test\r\n\r\n").await;
        client.closed().await;
    }
    assert_eq!(server.connect().await.get("/").await.status, 200);
}
