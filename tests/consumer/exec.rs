//! `--exec`: a program for each entry, whose exit code decides.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use redis::Value;

use crate::member::{DEADLINE, add, dead_letters, drained, program, send};
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

#[tokio::test]
async fn the_exit_code_decides_and_the_last_line_of_stderr_is_the_reason() {
    for_each_server(async |server| {
        add(&server, 1, 6).await;
        let exec = r#"sh -c 'read -r line; case "$line" in
            *\"n\":\"3\"*) exit 7;;
            *\"n\":\"4\"*) echo starting >&2; echo "no amount" >&2; exit 1;;
            *\"n\":\"5\"*) echo "not an order" >&2; exit 65;;
            *) echo "$ID $DELIVERIES $line" >&2;; esac'"#;
        let running = program(&server)
            .args(["--exec", exec, "--max-deliveries", "2", "--retry-delay", "10ms", "--concurrency", "3"])
            .spawn();
        drained(&server).await;
        let end = running.stop().await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), ""), "{}", end.stderr);
        let entries: Vec<(String, Value)> = send(&mut server.connection().await, "XRANGE orders - +").await;
        for n in [1, 2, 6] {
            let id = &entries[n - 1].0;
            let logged = format!(r#"entry={id} line="{id} 1 {{\"id\":\"{id}\""#);
            assert!(end.stderr.contains(&logged), "{logged}: {}", end.stderr);
        }
        let mut letters = dead_letters(&server).await;
        letters.sort();
        let id = |n: usize| entries[n - 1].0.clone();
        let letter = |n, deliveries: &str, error: &str| (id(n), deliveries.to_owned(), error.to_owned());
        assert_eq!(
            letters,
            [
                letter(3, "2", "sh: exit status: 7"),
                letter(4, "2", "no amount"),
                letter(5, "1", "not an order")
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_asks_for_later_costs_no_delivery() {
    for_each_server(async |server| {
        add(&server, 1, 3).await;
        let folder = tempfile::tempdir().expect("a folder");
        let tries = folder.path().join("tries");
        // The second entry is refused ten times, although it may be delivered twice only.
        let exec = format!(
            r#"sh -c 'read -r line; case "$line" in *\"n\":\"2\"*) echo "$DELIVERIES" >> {0};
            test "$(wc -l < {0})" -gt 10 || exit 75;; esac'"#,
            tries.display()
        );
        let running = program(&server)
            .args([
                "--exec",
                &exec,
                "--max-deliveries",
                "2",
                "--retry-delay",
                "10ms",
                "--max-retry-delay",
                "20ms",
            ])
            .spawn();
        drained(&server).await;
        let end = running.stop().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        assert_eq!(fs::read_to_string(&tries).expect("it was tried"), "1\n".repeat(11));
        assert_eq!(dead_letters(&server).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_program_that_vanishes_while_it_is_used_costs_no_entry() {
    for_each_server(async |server| {
        add(&server, 1, 40).await;
        let folder = tempfile::tempdir().expect("a folder");
        let (handler, done) = (folder.path().join("handler"), folder.path().join("done"));
        let script = format!("#!/bin/sh\necho $ID >> {}\n", done.display());
        let install = || {
            fs::write(&handler, &script).expect("it is written");
            fs::set_permissions(&handler, fs::Permissions::from_mode(0o755)).expect("it is executable");
        };
        install();
        // A shell that runs just then fails by itself, and that counts: so two deliveries.
        let mut count = 0;
        let running = program(&server)
            .args(["--exec", &handler.display().to_string(), "--max-deliveries", "2", "--batch", "5"])
            .args(["--retry-delay", "10ms", "--max-retry-delay", "50ms"])
            .spawn();
        wait_until(DEADLINE, "it is used", async || {
            count = fs::read_to_string(&done).unwrap_or_default().lines().count();
            count > 3
        })
        .await;
        fs::remove_file(&handler).expect("it is there");
        wait_until(DEADLINE, "the breaker opens", async || {
            running.stderr().contains("different entries failed one after the other")
        })
        .await;
        install();
        drained(&server).await;
        let end = running.stop().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        assert_eq!(fs::read_to_string(&done).expect("it is written").lines().count(), 40, "{}", end.stderr);
        assert_eq!(dead_letters(&server).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_child_that_hangs_is_killed_and_the_entry_tried_again() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 1).await;
    let running = program(&server)
        .args(["--exec", "sleep 600", "--exec-timeout", "200ms"])
        .args(["--max-deliveries", "2", "--retry-delay", "10ms"])
        .spawn();
    wait_until(DEADLINE, "it is buried", async || {
        send::<u64>(&mut server.connection().await, "XLEN orders:dead").await == 1
    })
    .await;
    let end = running.stop().await;
    assert_eq!(end.code, Some(0));
    assert!(end.stderr.contains("sleep killed after 200ms"), "{}", end.stderr);
}
