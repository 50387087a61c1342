//! `streamgauge pending`.

use serde_json::Value;

use crate::support::client::RedisClient;
use crate::support::program::{Finished, Streamgauge};
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};

async fn pending(server: &Server, args: &[&str]) -> Finished {
    Streamgauge::command("pending").args(["--redis-url", &server.url()]).args(args).run().await
}

const OF_MAIL: [&str; 4] = ["--stream", "orders", "--group", "mail"];

/// Adds entries: the first two are delivered to `worker-2`, the others to `worker-1`.
async fn fill(server: &Server, entries: usize) -> RedisClient {
    let mut client = RedisClient::to(server).await;
    let script =
        "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '1700000000000-' .. n, 'n', n) end return 1";
    let _: i64 = client.ask(&["EVAL", script, "1", "orders", &entries.to_string()]).await;
    client
        .run(
            "XGROUP CREATE orders mail 0
         XREADGROUP GROUP mail worker-2 COUNT 2 STREAMS orders >
         XREADGROUP GROUP mail worker-1 STREAMS orders >",
        )
        .await;
    client
}

fn rows(end: &Finished) -> Vec<Vec<String>> {
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let lines = end.stdout.lines().skip(1).take_while(|line| !line.is_empty());
    let cells = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    lines.map(cells).collect()
}

#[tokio::test]
async fn entries_are_listed_from_the_oldest_with_consumer_idle_time_and_deliveries() {
    for_each_server(async |server| {
        let mut client = fill(&server, 5).await;
        client.run("XCLAIM orders mail worker-2 0 1700000000000-1").await;
        let end = pending(&server, &OF_MAIL).await;
        let rows = rows(&end);
        let seen: Vec<_> =
            rows.iter().map(|row| (row[0].as_str(), row[1].as_str(), row[4].as_str())).collect();
        let expected = [
            (1, "worker-2", "2"),
            (2, "worker-2", "1"),
            (3, "worker-1", "1"),
            (4, "worker-1", "1"),
            (5, "worker-1", "1"),
        ]
        .map(|(n, consumer, deliveries)| (format!("1700000000000-{n}"), consumer, deliveries));
        assert_eq!(seen, expected.each_ref().map(|(id, consumer, times)| (id.as_str(), *consumer, *times)));
        assert!(rows.iter().all(|row| row[2].contains("d ") && row[3].ends_with('s')), "{rows:?}");
        assert!(end.stdout.ends_with("\n5 of 5 pending entries are shown\n"), "{}", end.stdout);
        assert_eq!(end.stderr, "");
    })
    .await;
}

#[tokio::test]
async fn it_is_read_in_pages_of_a_thousand() {
    let server = Server::start(newest(), &[]).await;
    let mut client = fill(&server, 2_500).await;
    let before = client.calls("xpending").await;
    let end = pending(&server, &[&OF_MAIL[..], &["--count", "2200"]].concat()).await;
    let ids: Vec<_> = rows(&end).into_iter().map(|row| row[0].clone()).collect();
    let expected: Vec<_> = (1..=2_200).map(|n| format!("1700000000000-{n}")).collect();
    assert_eq!(ids, expected);
    assert!(
        end.stdout.ends_with("\n2,200 of 2,500 pending entries are shown; there may be more: see --count\n")
    );
    assert_eq!(client.calls("xpending").await - before, 3);
    let end = pending(&server, &[&OF_MAIL[..], &["--count", "5000"]].concat()).await;
    assert_eq!(rows(&end).len(), 2_500);
}

#[tokio::test]
async fn a_consumer_an_idle_time_and_json() {
    let server = Server::start(newest(), &[]).await;
    let mut client = fill(&server, 5).await;
    let end = pending(&server, &[&OF_MAIL[..], &["--consumer", "worker-2", "--count", "1"]].concat()).await;
    assert_eq!(rows(&end).len(), 1);
    assert!(
        end.stdout.ends_with("\n1 of 5 pending entries are shown; there may be more: see --count\n"),
        "{}",
        end.stdout
    );
    let end = pending(&server, &[&OF_MAIL[..], &["--min-idle", "1h"]].concat()).await;
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "no pending entries idle for 1h\n"));
    assert_eq!(end.stderr, "");
    // Names are bytes.
    client.ask::<String>(&[&b"XADD"[..], b"a\xff", b"5-1", b"f", b"v"]).await;
    client.ask::<()>(&[&b"XGROUP"[..], b"CREATE", b"a\xff", b"g\n", b"0"]).await;
    client
        .ask::<redis::Value>(&[&b"XREADGROUP"[..], b"GROUP", b"g\n", b"c\x1b", b"STREAMS", b"a\xff", b">"])
        .await;
    let end = pending(&server, &["--stream", "a\\xff", "--group", "g\\x0a", "--json"]).await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let listed: Value = serde_json::from_str(&end.stdout).unwrap();
    assert_eq!(
        (&listed["stream"], &listed["group"], &listed["may_be_more"]),
        (&"a\\xff".into(), &"g\n".into(), &false.into())
    );
    let entry = &listed["entries"][0];
    assert_eq!(
        (&entry["id"], &entry["consumer"], &entry["deliveries"]),
        (&"5-1".into(), &"c\x1b".into(), &1.into())
    );
    assert!(entry["age_seconds"].is_null() && entry["idle_seconds"].is_number(), "{entry}");
    let end = pending(&server, &["--stream", "a\\xff", "--group", "g\\x0a"]).await;
    assert!(end.stdout.contains("c\\x1b") && !end.stdout.contains('\x1b'), "{:?}", end.stdout);
}

#[tokio::test]
async fn fields_are_shown_of_entries_that_are_still_there() {
    for_each_server(async |server| {
        let mut client = fill(&server, 3).await;
        let long = "x".repeat(2_000);
        let parts = ["XADD", "orders", "1700000000000-4", "k", "a b", "k", &long, "", "c\x1b"];
        let _: String = client.ask(&parts).await;
        client.run("XREADGROUP GROUP mail worker-1 STREAMS orders >\nXDEL orders 1700000000000-2").await;
        let end = pending(&server, &[&OF_MAIL[..], &["--fields"]].concat()).await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        let fields: Vec<_> = end.stdout.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        let last = r#"k="a b" k="(2,000 bytes)" ""=c\x1b"#;
        assert_eq!(fields, ["n=1", "(not in the stream any more)", "n=3", last], "{}", end.stdout);
        let end = pending(&server, &[&OF_MAIL[..], &["--fields", "--json"]].concat()).await;
        let listed: Value = serde_json::from_str(&end.stdout).unwrap();
        assert_eq!(listed["messages_pending"], 4);
        let fields: Vec<_> = (0..4).map(|at| listed["entries"][at]["fields"].to_string()).collect();
        let last = r#"[["k","a b"],["k",{"omitted_bytes":2000}],["","c\u001b"]]"#;
        assert_eq!(fields, [r#"[["n","1"]]"#, "null", r#"[["n","3"]]"#, last]);
    })
    .await;
    let server = Server::start(newest(), &[]).await;
    let end = pending(&server, &[&OF_MAIL[..], &["--fields", "--count", "1001"]].concat()).await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(2), "--fields goes with --count 1000 at most\n"));
}

#[tokio::test]
async fn a_consumer_without_pending_entries_is_told_from_one_that_does_not_exist() {
    for_each_server(async |server| {
        let mut client = fill(&server, 2).await;
        client.run("XGROUP CREATECONSUMER orders mail rests").await;
        let of = |consumer| [&OF_MAIL[..], &["--consumer", consumer]].concat();
        let end = pending(&server, &of("rests")).await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), "no pending entries\n"));
        let end = pending(&server, &of("worker-3")).await;
        let said = "group \"mail\" of stream \"orders\" has no consumer \"worker-3\"\n";
        assert_eq!((end.code, end.stdout.as_str(), end.stderr.as_str()), (Some(1), "", said));
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_is_said_in_a_sentence() {
    for_each_server(async |server| {
        let mut client = fill(&server, 1).await;
        client
            .run(
                "SET text value
             ACL SETUSER blind on >hunter2 ~* +ping +hello +time",
            )
            .await;
        for (args, said) in [
            (&["--stream", "none", "--group", "mail"][..], "there is no stream \"none\"\n"),
            (
                &["--stream", "orders", "--group", "none\x1b"],
                "stream \"orders\" has no group \"none\\u{1b}\"\n",
            ),
            (&["--stream", "text", "--group", "mail"], "key \"text\" holds no stream, but another type\n"),
        ] {
            let end = pending(&server, args).await;
            assert_eq!((end.code, end.stdout.as_str(), end.stderr.as_str()), (Some(1), "", said));
        }
        let url = format!("redis://blind:hunter2@{}", server.address());
        let end = Streamgauge::command("pending").args(["--redis-url", &url]).args(OF_MAIL).run().await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""));
        assert!(
            end.stderr.starts_with(
                "the server does not let this user read the pending entries of stream \"orders\": "
            ) && !end.stderr.contains("hunter2"),
            "{}",
            end.stderr
        );
    })
    .await;
    let end = Streamgauge::command("pending")
        .args(["--redis-url", "redis://127.0.0.1:1"])
        .args(OF_MAIL)
        .run()
        .await;
    assert_eq!(end.code, Some(1));
    assert!(end.stderr.starts_with("cannot connect to 127.0.0.1:1: "), "{}", end.stderr);
}
