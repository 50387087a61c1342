//! Clients of the HTTP server that keep others out, or act for somebody else.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::config::{ConfigFile, QUICK};
use crate::support::http;
use crate::support::program::Streamgauge;
use crate::support::series::TARGET_UP;
use crate::support::server::{Server, free_port};
use crate::support::servers::newest;
use crate::support::wait::wait_until;
use crate::support::watch::until_metrics;

#[tokio::test]
async fn idle_connections_do_not_use_up_the_file_descriptors() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let run = Streamgauge::command("serve").args(["--listen", &address.to_string()]);
    let run = run.args(["--redis-url", "redis://127.0.0.1:1"]).into_command();
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -n 64; exec \"$0\" \"$@\"").arg(run.get_program()).args(run.get_args());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("there is a shell");
    wait_until(Duration::from_secs(10), "it listens", async || {
        http::try_get(address, "/-/healthy", &[]).await.is_ok()
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..84 {
        idle.push(TcpStream::connect(address).await.expect("the backlog has room"));
    }
    let healthy = timeout(Duration::from_secs(6), http::get(address, "/-/healthy")).await;
    assert_eq!(healthy.expect("it is served in time").status, 200);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    child.wait().expect("it ends");
}

/// Sends a request with these headers, and returns the reply.
async fn replied(address: SocketAddr, method: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("it replies");
    reply
}

fn status(reply: &str) -> &str {
    reply.split(' ').nth(1).unwrap_or_default()
}

/// Sends a POST with these headers, and returns the status code.
async fn posted(address: SocketAddr, headers: &str) -> String {
    status(&replied(address, "POST", "/-/reload", headers).await).to_owned()
}

#[tokio::test]
async fn a_page_of_another_site_cannot_reload() {
    let yaml = "targets: [{name: t, url: 'redis://127.0.0.1:1'}]\n";
    let web = "web: {enable_reload: true, external_url: 'https://gauge.example.com'}\n";
    let config = ConfigFile::new(&format!("{QUICK}{web}{yaml}"));
    let exporter = config.serve().serving().await;
    let own = exporter.address;
    for (headers, code) in [
        (format!("Host: {own}\r\n"), "200"),
        (format!("Host: {own}\r\nOrigin: http://{own}\r\n"), "200"),
        ("Host: gauge.example.com\r\nOrigin: https://gauge.example.com\r\n".to_owned(), "200"),
        (format!("Host: {own}\r\nOrigin: https://evil.example\r\n"), "403"),
        (format!("Host: {own}\r\nOrigin: null\r\n"), "403"),
        (format!("Host: {own}\r\nSec-Fetch-Site: cross-site\r\n"), "403"),
        ("Host: evil.example\r\n".to_owned(), "403"),
        ("Host: evil.example\r\nOrigin: http://evil.example\r\n".to_owned(), "403"),
    ] {
        assert_eq!(posted(own, &headers).await, code, "{headers}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_reads_no_secret_and_changes_nothing() {
    const RELOADED: &str = "streamgauge_config_last_reload_success_timestamp_seconds";
    const FOREIGN: &str =
        "Host: evil.example\r\nOrigin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n";
    const CROSS: &str = "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n";
    let server = Server::start(newest(), &["--requirepass", "hunter2-server"]).await;
    let target =
        format!("{{name: t, url: 'redis://{}', password: hunter2-server, streams: [s]}}", server.address());
    let receiver =
        "{name: w, webhook: {url: 'http://127.0.0.1:1/hunter3-path', headers: {x-key: hunter4-header}}}";
    let yaml = format!(
        "{QUICK}web: {{enable_reload: true}}\ntargets: [{target}]\nalerts: {{notifiers: [{receiver}]}}\n"
    );
    let config = ConfigFile::new(&yaml);
    let exporter = config.serve().serving().await;
    until_metrics(&exporter, "a poll", |metrics| metrics.get(TARGET_UP) == Some(&1.0)).await;
    let reloaded = exporter.metrics().await[RELOADED];
    let own = format!("Host: {}\r\n", exporter.address);
    let paths = [
        "/",
        "/groups/t/db0/s/g",
        "/streams/t/db0/s",
        "/assets/x/y",
        "/metrics",
        "/api/v1/alerts",
        "/api/v1/backlog?target=t&stream=s&group=g",
        "/api/v1/groups",
        "/api/v1/probe",
        "/-/reload",
        "/-/healthy",
        "/-/ready",
        "/other",
    ];
    for headers in [FOREIGN.to_owned(), format!("{own}{CROSS}")] {
        for path in paths {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "RELOAD"] {
                let reply = replied(exporter.address, method, path, &headers).await;
                let shown = format!("{method} {path}: {reply}");
                let expected: &[&str] = match (method, path) {
                    ("POST", "/-/reload") => &["403"],
                    (_, "/other") => &["404"],
                    ("GET" | "HEAD", "/-/reload") => &["405"],
                    ("GET" | "HEAD", _) => &["200", "404", "503"],
                    _ => &["405"],
                };
                assert!(expected.contains(&status(&reply)), "{shown}");
                let reply = reply.to_ascii_lowercase();
                assert!(!reply.contains("access-control-") && !reply.contains("hunter"), "{shown}");
            }
        }
    }
    assert_eq!(exporter.metrics().await[RELOADED], reloaded);
    exporter.stop().await;
}
