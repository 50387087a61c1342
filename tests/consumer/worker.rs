//! `--worker`: a program that keeps running and answers each entry with a line.

use std::fs;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use crate::member::{DEADLINE, add, dead_letters, deliveries, drained, pending, program, send};
use crate::support::program::Streamgauge;
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// Reads the ID and the number of an entry, and answers by a script that has both.
fn script(answer: &str) -> String {
    let body = format!(
        r#"while read -r line; do id=${{line#*\"id\":\"}}; id=${{id%%\"*}}; n=${{line#*\"n\":\"}}; n=${{n%%\"*}}
        {answer}
        done"#
    );
    format!("sh -c '{body}'")
}

#[tokio::test]
async fn the_answers_decide() {
    for_each_server(async |server| {
        add(&server, 1, 8).await;
        let answer = r#"case $n in 3) echo "retry $id 10ms not yet";; 5) echo "dead $id not an order";;
            *) echo "ok $id";; esac"#;
        let running = program(&server)
            .args(["--worker", &script(answer), "--concurrency", "4", "--max-deliveries", "3"])
            .args(["--retry-delay", "10ms"])
            .spawn();
        drained(&server).await;
        let end = running.stop().await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), ""), "{}", end.stderr);
        assert!(end.stderr.contains("handled=6 failed=4"), "{}", end.stderr);
        let entries: Vec<(String, Value)> = send(&mut server.connection().await, "XRANGE orders - +").await;
        let letter = |n: usize, deliveries: &str, error: &str| {
            (entries[n - 1].0.clone(), deliveries.to_owned(), error.to_owned())
        };
        let mut letters = dead_letters(&server).await;
        letters.sort();
        assert_eq!(letters, [letter(3, "3", "not yet"), letter(5, "1", "not an order")]);
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_killed_again_and_again_costs_no_delivery_and_no_entry() {
    for_each_server(async |server| {
        add(&server, 1, 200).await;
        let folder = tempfile::tempdir().expect("a folder");
        let done = folder.path().join("done");
        // Each run answers seven entries, and is killed with the eighth and others in flight.
        let answer = format!(
            r#"count=$((count + 1)); test $count -gt 7 && kill -9 $$; echo $id >> {}; echo "ok $id""#,
            done.display()
        );
        let running = program(&server)
            .args(["--worker", &script(&answer), "--concurrency", "4", "--max-deliveries", "1"])
            .args(["--retry-delay", "10ms", "--max-retry-delay", "20ms"])
            .spawn();
        drained(&server).await;
        let end = running.stop().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        assert_eq!(dead_letters(&server).await, []);
        let mut ids: Vec<String> =
            fs::read_to_string(&done).expect("it is written").lines().map(str::to_owned).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 200);
        assert!(end.stderr.contains("starting the worker again"), "{}", end.stderr);
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_never_works_opens_the_breaker_and_counts_nothing() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 50).await;
    let running = program(&server)
        .args([
            "--worker",
            "sh -c 'read -r line; echo no module named orders >&2; exit 1'",
            "--concurrency",
            "5",
        ])
        .args(["--max-deliveries", "1", "--retry-delay", "10ms", "--max-retry-delay", "20ms"])
        .spawn();
    wait_until(DEADLINE, "the breaker opens", async || {
        let log = running.stderr();
        log.contains("ERROR") && log.contains("sh ended, exit status: 1: no module named orders")
    })
    .await;
    let end = running.stop().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    assert_eq!(dead_letters(&server).await, []);
    let counts = deliveries(&server).await;
    assert_eq!(counts.len(), 50);
    assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
}

#[tokio::test]
async fn a_worker_may_finish_after_its_input_is_closed() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 3).await;
    let folder = tempfile::tempdir().expect("a folder");
    let flushed = folder.path().join("flushed");
    let worker = script("echo ok $id");
    let worker =
        format!("{} ; sleep 0.3; echo flushed > {}'", worker.trim_end_matches('\''), flushed.display());
    let running = program(&server).args(["--worker", &worker]).spawn();
    drained(&server).await;
    assert_eq!(running.stop().await.code, Some(0));
    assert_eq!(fs::read_to_string(&flushed).expect("it is written"), "flushed\n");
}

/// Entries as the examples expect them: three good ones, one without an amount, and one with a wrong one.
async fn add_orders(server: &Server) {
    let mut pipeline = Pipeline::new();
    for (name, value) in [("amount", "1"), ("amount", "2"), ("price", "3"), ("amount", "x"), ("amount", "5")]
    {
        pipeline.cmd("XADD").arg("orders").arg("*").arg(name).arg(value).ignore();
    }
    let () = pipeline.query_async(&mut server.connection().await).await.expect("they are added");
}

fn is_installed(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok()
}

#[tokio::test]
async fn the_examples_work() {
    // Go brings no interpreter, and Node is not on each machine.
    let mut commands = vec![format!("python3 {EXAMPLES}/worker.py"), format!("bash {EXAMPLES}/worker.sh")];
    if is_installed("node") {
        commands.push(format!("node {EXAMPLES}/worker.js"));
    }
    for command in commands {
        let server = Server::start(newest(), &[]).await;
        add_orders(&server).await;
        let running = program(&server)
            .args([
                "--worker",
                &command,
                "--concurrency",
                "3",
                "--max-deliveries",
                "2",
                "--retry-delay",
                "10ms",
            ])
            .spawn();
        drained(&server).await;
        let end = running.stop().await;
        assert_eq!(end.code, Some(0), "{command}: {}", end.stderr);
        assert!(end.stderr.contains("handled=3 failed=3"), "{command}: {}", end.stderr);
        let errors: Vec<_> =
            dead_letters(&server).await.into_iter().map(|(_, count, error)| (count, error)).collect();
        assert_eq!(errors.len(), 2, "{command}: {errors:?}");
        assert_eq!(errors[0], ("1".to_owned(), "the entry has no amount".to_owned()), "{command}");
        assert_eq!(errors[1].0, "2", "{command}: {errors:?}");
    }
}

/// Entries per second of a consumer that runs until all are handled.
async fn rate(server: &Server, entries: u64, handler: [&str; 2]) -> f64 {
    let mut connection = server.connection().await;
    let () = send(&mut connection, "FLUSHALL").await;
    add(server, 1, entries).await;
    let running = program(server).args(handler).spawn();
    wait_until(DEADLINE, "it has begun", async || {
        pending(&mut connection).await.is_some_and(|count| count > 0)
    })
    .await;
    #[expect(clippy::disallowed_methods, reason = "measures a process from outside")]
    let started = Instant::now();
    drained(server).await;
    let took = started.elapsed();
    running.stop().await;
    entries as f64 / took.max(Duration::from_millis(1)).as_secs_f64()
}

#[tokio::test]
async fn a_worker_is_many_times_as_fast_as_a_process_for_each_entry() {
    let server = Server::start(newest(), &[]).await;
    let each = "python3 -c 'import sys, json; json.loads(sys.stdin.readline())'";
    let each = rate(&server, 40, ["--exec", each]).await;
    let worker = format!("python3 {EXAMPLES}/worker.py");
    let worker = rate(&server, 20_000, ["--worker", &worker]).await;
    eprintln!("entries per second: --exec {each:.0}, --worker {worker:.0}: {:.0} times", worker / each);
    assert!(worker > 10.0 * each, "--exec {each:.0}, --worker {worker:.0}");
}

#[tokio::test]
async fn a_worker_has_several_entries_in_flight() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 8).await;
    // Answers only once it has four.
    let worker = r#"sh -c 'while read -r a && read -r b && read -r c && read -r d; do
        for line in "$a" "$b" "$c" "$d"; do id=${line#*\"id\":\"}; echo "ok ${id%%\"*}"; done; done'"#;
    let running = Streamgauge::command("consume")
        .args(["--redis-url", &server.url(), "--stream", "orders", "--group", "billing"])
        .args(["--concurrency", "4", "--worker", worker])
        .spawn();
    drained(&server).await;
    assert_eq!(running.stop().await.code, Some(0));
}
