//! Who is let in: users and their passwords.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use redis_stream_core::secret::Secret;
use streamgauge::http::access::{AccessControl, Users};
use streamgauge::http::reply::Reply;

use crate::client::{Answer, Client, Router, Server, fine, generous};

fn access(users: &[(&str, &str)]) -> AccessControl {
    let hash = |password: &str| Secret::new(bcrypt::hash(password, 4).expect("a hash"));
    let hashes: BTreeMap<_, _> =
        users.iter().map(|(name, password)| ((*name).to_owned(), hash(password))).collect();
    AccessControl { tls: None, users: Users::new(hashes).map(Arc::new) }
}

fn router() -> Router {
    fine().open("/-/healthy", |_| Reply::text(StatusCode::OK, "healthy\n"))
}

async fn ask(client: &mut Client, path: &str, claim: &str) -> Answer {
    let claim = STANDARD.encode(claim);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {claim}\r\n\r\n")).await;
    client.answer().await
}

#[tokio::test]
async fn all_but_the_open_routes_take_a_user_and_the_right_password() {
    let server = Server::behind(access(&[("anna", "a")]), router(), generous());
    let mut client = server.connect().await;
    for (claim, status) in [("anna:a", 200), ("anna:b", 401), ("bert:a", 401), ("anna:a", 200)] {
        assert_eq!(ask(&mut client, "/", claim).await.status, status, "{claim}");
        assert_eq!(ask(&mut client, "/-/healthy", claim).await.status, 200, "{claim}");
    }
    assert_eq!(ask(&mut client, "/nowhere", "anna:a").await.status, 404);
    // Not even what there is is told to strangers.
    for path in ["/", "/nowhere", "/-/healthy/", "/-/healthy/../"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.text()), (401, "unauthorized\n"), "{path}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some("Basic realm=\"streamgauge\", charset=\"UTF-8\""));
    }
    assert_eq!(client.get("/-/healthy").await.status, 200);
    let refused = server.observed.lock().unwrap().iter().filter(|seen| **seen == ("/", 401)).count();
    assert_eq!(refused, 3, "they are counted by their route");
}

#[tokio::test]
async fn new_users_count_from_the_next_request_of_a_connection_on() {
    let server = Server::behind(access(&[("anna", "a")]), router(), generous());
    let mut client = server.connect().await;
    assert_eq!(ask(&mut client, "/", "anna:a").await.status, 200);
    server.access.send_replace(access(&[("anna", "other"), ("bert", "b")]));
    assert_eq!(ask(&mut client, "/", "anna:a").await.status, 401);
    assert_eq!(ask(&mut client, "/", "bert:b").await.status, 200);
    server.access.send_replace(AccessControl::default());
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn a_refused_request_with_a_body_is_answered_unread() {
    let server = Server::behind(access(&[("anna", "a")]), router(), generous());
    let mut client = server.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
}
