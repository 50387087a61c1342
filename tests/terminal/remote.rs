//! `streamgauge status --server`, and completions.

use serde_json::Value;

use crate::scenario::{cells, fill};
use crate::support::config::{ConfigFile, ONCE};
use crate::support::fake_server::{Behavior, FakeServer};
use crate::support::program::{Exporter, Streamgauge};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_until;

async fn exporter(server: &Server) -> Exporter {
    let config = ConfigFile::new(&format!("{ONCE}targets: [{{name: here, url: '{}'}}]\n", server.url()));
    let exporter = config.serve().serving().await;
    let soon = std::time::Duration::from_secs(30);
    wait_until(soon, "it has polled", async || exporter.get("/-/ready").await.status == 200).await;
    exporter
}

fn status(url: &str) -> Streamgauge {
    Streamgauge::command("status").args(["--server", url])
}

#[tokio::test]
async fn a_running_streamgauge_is_asked() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let exporter = exporter(&server).await;
    let url = format!("http://{}", exporter.address);
    let end = status(&url).run().await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{}", end.stdout);
    assert_eq!(cells(&end.stdout, "behind")[..4], ["unknown", "orders", "behind", "4"]);
    let end = status(&format!("{url}/")).args(["--stream", "b*", "--fail-on", "ok"]).run().await;
    assert_eq!(end.code, Some(3), "{}", end.stderr);
    assert!(end.stdout.contains("\\x1b[2Jgone") && !end.stdout.contains("orders"), "{}", end.stdout);
    let end = status(&exporter.address.to_string()).args(["--json"]).run().await;
    let shown: Value = serde_json::from_str(&end.stdout).unwrap();
    let answered: Value = serde_json::from_str(&exporter.get("/api/v1/groups").await.text()).unwrap();
    assert_eq!(shown, answered);
}

#[tokio::test]
async fn what_is_no_streamgauge_exits_1_and_no_secret_is_shown() {
    let not_http = FakeServer::new(Behavior::ReplyOnce(b"-ERR unknown command\r\n")).await;
    let elsewhere =
        FakeServer::new(Behavior::ReplyOnce(b"HTTP/1.1 404 Gone\r\nContent-Length: 4\r\n\r\nno!\n")).await;
    let other =
        FakeServer::new(Behavior::ReplyOnce(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]")).await;
    for (address, said) in [
        ("127.0.0.1:1".to_owned(), "cannot connect to 127.0.0.1:1: "),
        (not_http.address.to_string(), "no HTTP response from 127.0.0.1:"),
        (elsewhere.address.to_string(), "answers 404 Not Found: no!"),
        (other.address.to_string(), "does not answer as /api/v1/groups of streamgauge does"),
    ] {
        let end = status(&format!("http://me:hunter2@{address}")).run().await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""), "{}", end.stderr);
        assert!(end.stderr.contains(said), "{said:?} is not in {}", end.stderr);
        assert!(!end.stderr.contains("hunter2"), "{}", end.stderr);
    }
}

#[tokio::test]
async fn what_is_asked_for_wrongly_exits_2() {
    for (args, variable, said) in [
        (
            &["--server", "http://a", "--config", "b"][..],
            "",
            "--server: --config is given too; expected one of them",
        ),
        (&["--server", "ftp://:hunter2@a"], "", "--server: not an http:// or https:// URL"),
        (&[], "http://:hunter2@a b", "STREAMGAUGE_SERVER: "),
        (&["--watch", "--json", "--server", "http://a"], "", "cannot be used with"),
        (&["--server", ""], "", "--server: empty; expected a value, or leave the flag out"),
    ] {
        let end = Streamgauge::command("status").args(args).env("STREAMGAUGE_SERVER", variable).run().await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(2), ""), "{args:?}: {}", end.stderr);
        assert!(end.stderr.contains(said) && !end.stderr.contains("hunter2"), "{args:?}: {}", end.stderr);
    }
}

#[tokio::test]
async fn completions_know_the_commands() {
    for (shell, says) in [
        ("bash", "complete -F _streamgauge"),
        ("zsh", "#compdef streamgauge"),
        ("fish", "complete -c streamgauge"),
        ("elvish", "set edit:completion:arg-completer[streamgauge]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let end = Streamgauge::command("completions").args([shell]).run().await;
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""));
        for text in [says, "pending", "min-idle"] {
            assert!(end.stdout.contains(text), "{text} is not in the script for {shell}");
        }
    }
}
