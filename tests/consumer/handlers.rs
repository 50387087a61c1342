//! The handlers of the program (lines, child processes), its metrics, and invalid settings.

use std::time::Duration;

use redis::cmd;

use crate::member::{DEADLINE, add, pending, program};
use crate::support::http;
use crate::support::metrics::parse;
use crate::support::program::{Running, Streamgauge};
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

async fn has_written(running: &Running, lines: usize) {
    wait_until(DEADLINE, "lines are written", async || running.stdout().lines().count() >= lines).await;
}

#[tokio::test]
async fn a_line_is_exact_and_bytes_that_are_not_text_are_marked() {
    for_each_server(async |server| {
        let mut add = cmd("XADD");
        add.arg("orders").arg("5-1").arg("name").arg("größe \"M\"").arg(b"\xff\\x41").arg(b"a\x00\xfe");
        let _: () = add.query_async(&mut server.connection().await).await.expect("it is added");
        let running = program(&server).spawn();
        has_written(&running, 1).await;
        let end = running.stop().await;
        assert_eq!(
            end.stdout,
            concat!(
                r#"{"id":"5-1","stream":"orders","group":"billing","consumer":"one","deliveries":1,"#,
                r#""fields":{"name":"größe \"M\"","\\xff\\x5cx41":{"base64":"YQD+"}}}"#,
                "\n"
            )
        );
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_consumer_with_success() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 1_000).await;
    let program = env!("CARGO_BIN_EXE_streamgauge");
    let url = server.url();
    let command = format!(
        "'{program}' consume --redis-url {url} --stream orders --group billing --consumer one | head -n 2; exit ${{PIPESTATUS[0]}}"
    );
    let run = tokio::process::Command::new("bash").args(["-c", &command]).output();
    let output = tokio::time::timeout(DEADLINE, run).await.expect("it ends by itself").expect("bash runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // Only entries written into the pipe were acknowledged.
    let left = pending(&mut server.connection().await).await.expect("the group is there");
    assert!((1..=998).contains(&left), "{left}");
}

#[tokio::test]
async fn a_reader_that_stands_still_does_not_hold_up_the_end() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 10_000).await;
    let program = env!("CARGO_BIN_EXE_streamgauge");
    let mut child = tokio::process::Command::new(program)
        .args(["consume", "--redis-url", &server.url(), "--stream", "orders", "--group", "billing"])
        .args(["--grace", "300ms"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it runs");
    let filled = async || {
        let before = pending(&mut server.connection().await).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        before.is_some() && pending(&mut server.connection().await).await == before
    };
    wait_until(DEADLINE, "the pipe is full", filled).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().expect("it runs")).expect("a pid"));
    rustix::process::kill_process(pid.expect("not 0"), rustix::process::Signal::TERM).expect("it is there");
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.expect("it ends");
    assert_eq!(status.expect("it ended").code(), Some(0));
}

/// The counters, and the counts of the histograms.
const COUNTS: [&str; 9] = [
    "entries_handled_total",
    "entries_failed_total",
    "entries_claimed_total",
    "entries_dead_lettered_total",
    "entries_deleted_total",
    "reconnects_total",
    "handler_duration_seconds_count",
    "acknowledgement_duration_seconds_count",
    "end_to_end_latency_seconds_count",
];

#[tokio::test]
async fn its_metrics_are_there_as_0_and_say_what_it_did() {
    let server = Server::start(newest(), &[]).await;
    let mut running = program(&server)
        .args(["--metrics-listen", "127.0.0.1:0", "--max-deliveries", "1", "--exec"])
        .args([r#"sh -c 'read -r line; case "$line" in *\"n\":\"3\"*) exit 7;; esac'"#])
        .spawn();
    let address = running.listening().await;
    let labels = r#"{consumer="one",group="billing",stream="orders"}"#;
    let page = async || parse(&http::get(address, "/metrics").await.text());
    let counts = async || {
        let page = page().await;
        COUNTS.map(|name| page[&format!("streamgauge_consumer_{name}{labels}")])
    };
    assert_eq!(counts().await, [0.0; 9]);
    assert_eq!(http::get(address, "/-/healthy").await.status, 200);
    add(&server, 1, 5).await;
    let expected = [4.0, 1.0, 0.0, 1.0, 0.0, 0.0, 5.0, 4.0, 4.0];
    // Entries are counted as handled before they are acknowledged.
    wait_until(DEADLINE, "they are counted", async || counts().await == expected).await;
    let page = page().await;
    for name in &COUNTS[6..] {
        let sum = page[&format!("streamgauge_consumer_{}{labels}", name.replace("_count", "_sum"))];
        assert!((0.0..60.0).contains(&sum), "{name}: {sum}");
    }
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test]
async fn an_empty_name_is_refused() {
    for (flag, said) in
        [("--stream", "the key of the stream is empty"), ("--group", "the name of the group is empty")]
    {
        let names = [("--stream", "orders"), ("--group", "billing")];
        let args = names.map(|(name, value)| [name, if name == flag { "" } else { value }]);
        let command = Streamgauge::command("consume").args(["--redis-url", "redis://127.0.0.1:1"]);
        let end = command.args(args.as_flattened()).run().await;
        assert_eq!(end.code, Some(2), "{}", end.stderr);
        assert!(end.stderr.contains(said), "{}", end.stderr);
    }
}

#[tokio::test]
async fn nothing_is_created_where_it_is_not_wanted() {
    for_each_server(async |server| {
        for (stream, args) in [("orderz", &["--no-create"][..]), ("orders:*", &[]), ("orders?", &[])] {
            let command = Streamgauge::command("consume").args([
                "--redis-url",
                &server.url(),
                "--stream",
                stream,
                "--group",
                "billing",
            ]);
            let end = command.args(args).run().await;
            assert_eq!(end.code, Some(1), "{}", end.stderr);
            assert!(end.stderr.contains("NOGROUP No such key"), "{}", end.stderr);
            assert_eq!(end.stderr.contains("looks like a glob"), stream != "orderz", "{}", end.stderr);
            assert_eq!(server.command::<u64>(&["EXISTS", stream]).await, 0);
        }
        add(&server, 1, 3).await;
        let end = program(&server).args(["--no-create"]).run().await;
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        server.command::<()>(&["XGROUP", "CREATE", "orders", "billing", "0"]).await;
        let running = program(&server).args(["--no-create"]).spawn();
        has_written(&running, 3).await;
        server.command::<u64>(&["XGROUP", "DESTROY", "orders", "billing"]).await;
        let end = running.finished().await;
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        assert_eq!(pending(&mut server.connection().await).await, None);
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_for_wrongly_exits_2() {
    for (args, said) in [
        (&["--batch", "0"][..], "0 is not in 1..=10000"),
        (&["--concurrency", "0"], "0 is not in 1..=1000"),
        (&["--fail-rate", "1.5"], "expected a number from 0 to 1"),
        (&["--claim-min-idle", "soon"], "'soon' for '--claim-min-idle <DURATION>'"),
        (&["--claim-min-idle", "1ms"], "claim-min-idle is at least 100ms"),
        (&["--exec", "sh -c 'exit"], "--exec sh -c 'exit: a quote is not closed"),
        (&["--exec", ""], "--exec: expected a program and its arguments"),
        (&["--exec", "./no-such-handler --fast"], "--exec ./no-such-handler: no such file"),
        (&["--exec", "no-such-handler"], "--exec no-such-handler: not found in any folder of PATH"),
        (&["--exec", "/tmp"], "--exec /tmp: is a directory; expected a program"),
        (&["--exec", "./README.md"], "--exec ./README.md: is not executable; try chmod +x ./README.md"),
        (&["--worker", "./no-such-worker"], "--worker ./no-such-worker: no such file"),
        (
            &["--worker", "true", "--exec", "true"],
            "'--worker <COMMAND>' cannot be used with '--exec <COMMAND>'",
        ),
        (&["--consumer", ""], "the name of the consumer is empty"),
        (&["--dead-letter", "orders"], "the dead-letter stream cannot be the stream itself"),
        (&["--start-id", "now"], "a start ID is 0, $, or an ID such as 1700000000000-0"),
        (&["--metrics-listen", "here"], "'here' for '--metrics-listen <ADDR>'"),
    ] {
        let end = Streamgauge::command("consume")
            .args(["--redis-url", "redis://127.0.0.1:1", "--stream", "orders", "--group", "billing"])
            .args(args)
            .run()
            .await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(2), ""), "{args:?}: {}", end.stderr);
        assert!(end.stderr.contains(said), "{args:?}: {}", end.stderr);
    }
}
