//! Dead letters are listed, replayed and dropped on real servers; each is replayed once, whatever becomes of the process.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::env;
use std::time::Duration;

use redis::{Pipeline, Value};

mod support;

use support::client::RedisClient;
use support::cluster::Cluster;
use support::program::{Finished, Streamgauge};
use support::proxy::{FaultyProxy, ProxyMode};
use support::server::Server;
use support::servers::{all, for_each_program, for_each_server, newest};
use support::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

type Fields = Vec<(String, String)>;

fn command(server: &Server, words: &str) -> Streamgauge {
    let mut words = words.split(' ').map(str::to_owned);
    let action = words.next().unwrap();
    Streamgauge::command("dead-letters").args([action, "--redis-url".to_owned(), server.url()]).args(words)
}

async fn run(server: &Server, words: &str) -> Finished {
    command(server, words).run().await
}

/// Runs a command that must succeed, and returns its standard output.
async fn output(server: &Server, words: &str) -> String {
    let end = run(server, words).await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{words}: {}", end.stdout);
    end.stdout
}

async fn entries(server: &Server, key: &str) -> Vec<(String, Fields)> {
    server.command(&["XRANGE", key, "-", "+"]).await
}

/// The fields of each entry, without the ID and the time of the replay.
async fn fields(server: &Server, key: &str) -> Vec<String> {
    let shown = |(name, value): (String, String)| match name.as_str() {
        "streamgauge-replay-time" => "time".to_owned(),
        _ => format!("{}={value}", name.replace("streamgauge-replay-", "@")),
    };
    let entries = entries(server, key).await;
    entries
        .into_iter()
        .map(|(_, fields)| fields.into_iter().map(shown).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Adds a letter as `consume` writes it.
async fn add_letter(server: &Server, id: &str, stream: &str, group: &str, rest: &[&str]) -> String {
    let own = [
        ["streamgauge-stream", stream],
        ["streamgauge-group", group],
        ["streamgauge-consumer", "c"],
        ["streamgauge-id", "5-0"],
        ["streamgauge-deliveries", "21"],
        ["streamgauge-error", "no\nsuch user"],
    ];
    let letter = [&["XADD", "orders:dead", id][..], own.as_flattened(), rest].concat();
    server.command(&letter).await
}

#[tokio::test]
async fn letters_are_listed_shown_replayed_and_dropped() {
    for_each_server(async |server| {
        server.command::<()>(&["XADD", "orders", "5-0", "n", "1"]).await;
        add_letter(&server, "1700000000000-1", "orders", "mail", &["n", "1", "n", "2"]).await;
        add_letter(&server, "1700000000000-2", "orders", "stock", &["n", "3"]).await;
        add_letter(&server, "1700000000000-3", "bills", "mail", &["n", "4"]).await;
        let young = add_letter(&server, "*", "orders", "mail", &["n", "5\x1b[2J"]).await;

        let listed = output(&server, "list --stream orders").await;
        assert!(listed.contains("orders") && listed.contains("stock") && listed.contains("no\\x0asuch user"), "{listed}");
        assert!(!listed.contains("bills"), "{listed}");
        assert!(listed.ends_with("3 dead letters of orders:dead shown\n"), "{listed}");
        let listed = output(&server, "list --dead-letter orders:dead --limit 1").await;
        assert!(listed.ends_with("1 dead letter of orders:dead shown; there may be more: see --limit\n"), "{listed}");
        let shown = output(&server, &format!("show --stream orders --newer-than 1h --id {young}")).await;
        assert!(shown.contains("entry       5-0\n") && shown.ends_with("  n = 5\\x1b[2J\n\n"), "{shown}");
        let json = output(&server, "show --stream orders --json --group mail --older-than 1h").await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["letters"].as_array().unwrap().len(), 1, "{json}");
        assert_eq!(json["letters"][0]["fields"], serde_json::json!([["n", "1"], ["n", "2"]]));

        let would = output(&server, "replay --stream orders --group mail").await;
        let said = "would replay 2 dead letters of orders:dead\n  to orders, which exists: 2\nnothing was changed; add --execute to do it\n";
        assert_eq!(would, said);
        assert_eq!((entries(&server, "orders").await.len(), entries(&server, "orders:dead").await.len()), (1, 4));

        let done = output(&server, "replay --stream orders --group mail --execute --rate 100").await;
        assert_eq!(done, "replayed 2 dead letters of orders:dead\n  to orders: 2\n");
        assert_eq!(
            fields(&server, "orders").await,
            [
                "n=1".to_owned(),
                "@stream=orders:dead @id=1700000000000-1 @attempt=1 time @first-id=5-0 n=1 n=2".to_owned(),
                format!("@stream=orders:dead @id={young} @attempt=1 time @first-id=5-0 n=5\x1b[2J"),
            ]
        );

        // The same letter again, and one that never was there.
        let gone = output(&server, "replay --stream orders --id 1700000000000-1 --id 7-7 --execute").await;
        assert_eq!(gone, "replayed 0 dead letters of orders:dead\n2 dead letters gone already\n");
        let would = output(&server, "drop --stream orders --older-than 1h").await;
        assert_eq!(would, "would drop 1 dead letter of orders:dead\nnothing was changed; add --execute to do it\n");
        assert_eq!(output(&server, "drop --stream orders --execute").await, "dropped 1 dead letter of orders:dead\n");
        let left: Vec<_> = entries(&server, "orders:dead").await.into_iter().map(|(id, _)| id).collect();
        assert_eq!(left, ["1700000000000-3"]);

        // A stream that does not exist is not created, which a dry run says.
        let would = output(&server, "replay --dead-letter orders:dead").await;
        let nothing = "nothing was changed; add --execute to do it\n";
        let said = format!("would replay 0 dead letters of orders:dead\n1 dead letter kept: there is no stream bills\n{nothing}");
        assert_eq!(would, said);
        server.command::<()>(&["SET", "text", "1"]).await;
        let would = output(&server, "replay --dead-letter orders:dead --to text").await;
        let said = format!("would replay 0 dead letters of orders:dead\n1 dead letter kept: text is a string, not a stream\n{nothing}");
        assert_eq!(would, said);
        let kept = run(&server, "replay --dead-letter orders:dead --execute").await;
        assert_eq!((kept.code, kept.stderr.as_str()), (Some(1), "1 dead letter not replayed\n"));
        let said = "replayed 0 dead letters of orders:dead\n1 dead letter kept: there is no stream bills\n";
        assert_eq!(kept.stdout, said);
        assert_eq!(entries(&server, "orders:dead").await.len(), 1);
        assert_eq!(output(&server, "list --stream nothing").await, "no dead letters in nothing:dead\n");
    })
    .await;
}

/// An entry that fails again after its replay is a letter again, and its next replay says so.
#[tokio::test]
async fn a_replayed_entry_that_fails_again_counts_its_attempts_and_keeps_its_first_id() {
    for_each_server(async |server| {
        let first: String = server.command(&["XADD", "orders", "*", "n", "1", "n", "2"]).await;
        for attempt in 1..=2 {
            let consumer = Streamgauge::command("consume")
                .args([
                    "--redis-url",
                    &server.url(),
                    "--stream",
                    "orders",
                    "--group",
                    "mail",
                    "--consumer",
                    "c",
                ])
                .args(["--exec", "sh -c 'exit 65'"])
                .spawn();
            wait_until(DEADLINE, "the entry is a letter", async || {
                server.command::<u64>(&["XLEN", "orders:dead"]).await == 1
            })
            .await;
            assert_eq!(consumer.stop().await.code, Some(0));
            let letter = entries(&server, "orders:dead").await.remove(0).0;
            output(&server, "replay --stream orders --execute").await;
            assert_eq!(server.command::<u64>(&["XLEN", "orders:dead"]).await, 0);
            let last = fields(&server, "orders").await.pop().unwrap();
            let expected =
                format!("@stream=orders:dead @id={letter} @attempt={attempt} time @first-id={first} n=1 n=2");
            assert_eq!(last, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn letters_of_another_program_go_where_their_fields_or_the_flags_say() {
    for_each_server(async |server| {
        server.command::<()>(&["XADD", "orders", "1-0", "n", "0"]).await;
        server.command::<()>(&["XADD", "other", "1-0", "n", "0"]).await;
        for (id, stream) in [("1-1", "orders"), ("1-2", "other")] {
            server
                .command::<()>(&["XADD", "failed", id, "why", "x", "n", "1", "from", stream, "n", "2"])
                .await;
        }
        server.command::<()>(&["XADD", "failed", "1-3", "n", "3"]).await;
        let kept = run(&server, "replay --dead-letter failed --letter-field stream=from --execute").await;
        assert_eq!(kept.code, Some(1), "{}", kept.stderr);
        assert!(kept.stdout.ends_with("1 dead letter kept: the letter names no stream\n"), "{}", kept.stdout);
        assert_eq!(
            fields(&server, "orders").await[1],
            "@stream=failed @id=1-1 @attempt=1 time why=x n=1 n=2"
        );
        assert_eq!(fields(&server, "other").await.len(), 2);
        // An ID that is no time has no age.
        let none = output(&server, "drop --dead-letter failed --older-than 1s --execute").await;
        assert_eq!(none, "dropped 0 dead letters of failed\n");
        output(&server, "replay --dead-letter failed --to other --execute").await;
        assert_eq!(fields(&server, "other").await[2], "@stream=failed @id=1-3 @attempt=1 time n=3");
        assert_eq!(entries(&server, "failed").await, []);
        let end = run(&server, "replay --dead-letter orders --to orders --execute").await;
        let said = "orders: the stream is the dead-letter stream itself\n";
        assert_eq!((end.code, end.stderr.as_str()), (Some(2), said));
    })
    .await;
}

#[tokio::test]
async fn a_letter_stays_where_its_entry_is_refused() {
    for_each_server(async |server| {
        add_letter(&server, "1-1", "orders", "mail", &["n", "1"]).await;
        server.command::<()>(&["SET", "orders", "text"]).await;
        let end = run(&server, "replay --stream orders --execute").await;
        assert_eq!(end.code, Some(1));
        assert!(end.stderr.contains("WRONGTYPE"), "{}", end.stderr);
        // More fields than a script can take.
        server.command::<()>(&["DEL", "orders"]).await;
        server.command::<()>(&["XADD", "orders", "1-0", "n", "0"]).await;
        let many: Vec<_> = (0..8_000).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        add_letter(&server, "1-2", "orders", "mail", &many).await;
        add_letter(&server, "1-3", "orders", "mail", &many[..7_800]).await;
        let end = run(&server, "replay --stream orders --execute").await;
        assert_eq!((end.code, end.stderr.as_str()), (Some(1), "1 dead letter not replayed\n"));
        assert!(end.stdout.contains("1 dead letter kept: more than 3900 fields"), "{}", end.stdout);
        assert_eq!(
            (entries(&server, "orders").await.len(), entries(&server, "orders:dead").await.len()),
            (3, 1)
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_the_command() {
    let end = Streamgauge::command("dead-letters")
        .args(["list", "--redis-url", "redis://:hunter2@127.0.0.1:1", "--stream", "s"])
        .run()
        .await;
    assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""));
    assert!(
        end.stderr.starts_with("redis://127.0.0.1:1: ") && !end.stderr.contains("hunter2"),
        "{}",
        end.stderr
    );
}

/// Returns the permissions of an action in docs/consumer.md.
fn grants(action: &str) -> Vec<&'static str> {
    let document = include_str!("../docs/consumer.md");
    let start = format!("| `{action}` | `");
    let list = document.split(start.as_str()).nth(1).unwrap().split('`').next().unwrap();
    list.split(' ').collect()
}

#[tokio::test]
async fn the_documented_permissions_are_enough_and_what_reads_cannot_write() {
    for_each_server(async |server| {
        server.command::<()>(&["XADD", "orders", "1-0", "n", "0"]).await;
        for n in ["1", "2"] {
            add_letter(&server, "*", "orders", "mail", &["n", n]).await;
        }
        let act = async |action: &str, keys: &[&str], rest: &str| {
            let user = [&["ACL", "SETUSER", "ops", "reset", "on", ">secret"], keys, &grants(action)].concat();
            server.command::<()>(&user).await;
            let url = format!("redis://ops:secret@{}", server.address());
            let words = rest.split(' ').filter(|word| !word.is_empty());
            Streamgauge::command("dead-letters")
                .args([action, "--redis-url", &url, "--stream", "orders"])
                .args(words)
                .run()
                .await
        };
        let both = ["~orders", "~orders:dead"];
        for (action, keys, rest) in [
            ("list", &both[1..], ""),
            ("show", &both[1..], "--newer-than 1h"),
            ("replay", &both[..], "--execute --limit 1"),
            ("drop", &both[1..], "--execute --limit 1"),
        ] {
            let end = act(action, keys, rest).await;
            assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{action}: {}", end.stdout);
        }
        let denied: Vec<Value> = server.command(&["ACL", "LOG"]).await;
        assert_eq!(denied, []);
        assert_eq!(
            (entries(&server, "orders").await.len(), entries(&server, "orders:dead").await.len()),
            (2, 0)
        );

        // Without XDEL, or without the stream, nothing is added.
        let letter = add_letter(&server, "*", "orders", "mail", &["n", "3"]).await;
        for denied in ["-xdel", "resetkeys"] {
            let user = [
                &["ACL", "SETUSER", "ops", "reset", "on", ">secret", "~orders", "~orders:dead"][..],
                &grants("replay"),
                &[denied, "~orders:dead"],
            ]
            .concat();
            server.command::<()>(&user).await;
            let url = format!("redis://ops:secret@{}", server.address());
            let end = Streamgauge::command("dead-letters")
                .args(["replay", "--redis-url", &url, "--stream", "orders", "--execute"])
                .run()
                .await;
            assert_eq!(end.code, Some(1), "{denied}: {}", end.stdout);
            assert_eq!(entries(&server, "orders").await.len(), 2, "{denied}");
            assert_eq!(entries(&server, "orders:dead").await[0].0, letter, "{denied}");
        }
    })
    .await;
}

#[tokio::test]
async fn in_a_cluster_a_letter_goes_to_its_slot_and_to_no_other() {
    for_each_program(async |program| {
        let cluster = Cluster::start(program, 0, &[]).await;
        let owner = &cluster.nodes[Cluster::first_owner(cluster.slot("{shop}orders").await)];
        let mut client = RedisClient::to(owner).await;
        client.run("XADD {shop}orders 1-0 n 0").await;
        // Each node leads to the one that holds the keys.
        for (at, node) in cluster.nodes.iter().enumerate() {
            client.run(&format!("XADD {{shop}}orders:dead 1-{at} n {at}")).await;
            let end = run(node, "replay --stream {shop}orders --execute").await;
            assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{}", end.stdout);
            assert_eq!(client.ask::<usize>(&["XLEN", "{shop}orders"]).await, at + 2);
        }
        client.run("XADD {shop}orders:dead 1-3 n 3").await;
        for execute in ["", " --execute"] {
            let words = format!("replay --stream {{shop}}orders --to bills{execute}");
            let end = run(&cluster.nodes[0], &words).await;
            assert_eq!(end.code, Some(2), "{}", end.stdout);
            let said = "{shop}orders:dead and bills are in different slots of the cluster, where no step can change \
                        both: replay to a stream with the same hash tag\n";
            assert_eq!(end.stderr, said);
        }
        assert_eq!(client.ask::<u64>(&["XLEN", "{shop}orders:dead"]).await, 1);
    })
    .await;
}

/// Letters of one pipeline, of which the slot is moved to another node while the server executes it.
#[tokio::test]
async fn a_letter_that_was_replayed_before_its_slot_moved_is_counted_once() {
    const HELD: &str = "hold-the-fourth";
    for_each_program(async |program| {
        let cluster = Cluster::start(program, 0, &[]).await;
        let slot = cluster.slot("{shop}orders").await;
        let from = Cluster::first_owner(slot);
        let to = (from + 1) % 3;
        let mut client = RedisClient::to(&cluster.nodes[from]).await;
        client.run("XADD {shop}orders 1-0 n 0").await;
        for n in 1..=6 {
            // Larger than what the proxy passes on at a time, so that a letter is held after those before it.
            let (id, padding) = (format!("{n}-0"), "x".repeat(100_000));
            let end = if n == 4 { HELD } else { "-" };
            client.ask::<String>(&["XADD", "{shop}orders:dead", &id, "padding", &padding, "end", end]).await;
        }
        let proxy =
            FaultyProxy::before(cluster.address(from).parse().unwrap(), ProxyMode::HoldAt(HELD)).await;
        let url = format!("redis://{}", proxy.address);
        let words = ["replay", "--redis-url", &url, "--stream", "{shop}orders", "--execute"];
        let replay = Streamgauge::command("dead-letters").args(words);
        let moving = async {
            wait_until(DEADLINE, "three letters are replayed", async || {
                cluster.nodes[from].command::<u64>(&["XLEN", "{shop}orders"]).await == 4
            })
            .await;
            cluster.begin_to_move(slot, from, to).await;
            for key in ["{shop}orders", "{shop}orders:dead"] {
                cluster.migrate(key, from, to).await;
            }
            cluster.end_move(slot, to).await;
            proxy.set_mode(ProxyMode::Forward);
        };
        let (end, ()) = tokio::join!(replay.run(), moving);
        let said = "replayed 6 dead letters of {shop}orders:dead\n  to {shop}orders: 6\n";
        assert_eq!((end.code, end.stdout.as_str(), end.stderr.as_str()), (Some(0), said, ""));
        let mut owner = RedisClient::to(&cluster.nodes[to]).await;
        assert_eq!(owner.ask::<u64>(&["XLEN", "{shop}orders"]).await, 7);
        assert_eq!(owner.ask::<u64>(&["XLEN", "{shop}orders:dead"]).await, 0);
    })
    .await;
}

/// Letters and kills of the test below: few by default, those of `make consumer-crash` where it asks for them.
fn scale() -> (u64, u64) {
    if env::var_os("STREAMGAUGE_CONSUMER_CRASH").is_some() { (10_000, 100) } else { (1_000, 10) }
}

async fn add_letters(server: &Server, letters: u64) {
    let mut connection = server.connection().await;
    for start in (1..=letters).step_by(1_000) {
        let mut pipeline = Pipeline::new();
        for n in start..(start + 1_000).min(letters + 1) {
            pipeline
                .cmd("XADD")
                .arg("orders:dead")
                .arg("*")
                .arg("from")
                .arg("orders")
                .arg("n")
                .arg(n)
                .ignore();
        }
        let () = pipeline.query_async(&mut connection).await.unwrap();
    }
}

/// The field `n` of each entry, sorted.
async fn numbers(server: &Server, key: &str) -> Vec<u64> {
    let number = |(_, fields): (String, Fields)| {
        let field = fields.into_iter().find(|(name, _)| name == "n");
        field.map(|(_, n)| n.parse().unwrap())
    };
    let mut numbers: Vec<_> = entries(server, key).await.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

async fn a_replay_that_is_killed_and_run_again(server: &Server) {
    let (letters, kills) = scale();
    server.command::<()>(&["XADD", "orders", "1-0", "first", "entry"]).await;
    add_letters(server, letters).await;
    let words = "replay --dead-letter orders:dead --letter-field stream=from --execute --rate";
    let mut client = RedisClient::to(server).await;
    let mut left = letters;
    for kill in 1..=kills {
        // One letter at a time, and several in a pipeline.
        let rate = if kill % 2 == 0 { 2_000 } else { 10_000 };
        let running = command(server, &format!("{words} {rate}")).spawn();
        let goal = left - fastrand::u64(1..=letters / kills / 2);
        let at_work = async {
            while left > goal {
                left = client.ask(&["XLEN", "orders:dead"]).await;
            }
        };
        tokio::time::timeout(DEADLINE, at_work).await.expect("letters are replayed");
        running.kill();
        // One script reads both, since the server may still run what the killed process had sent.
        let lengths = "return {redis.call('XLEN', KEYS[1]), redis.call('XLEN', KEYS[2])}";
        let added: u64;
        (left, added) = client.ask(&["EVAL", lengths, "2", "orders:dead", "orders"]).await;
        assert!(left > 0, "{}: it was at work until kill {kill}", server.program());
        assert_eq!(left + added, letters + 1, "{}: after kill {kill}", server.program());
    }
    let words = format!("{words} 0");
    // Two at once do not repeat each other's letters.
    let (one, other) = tokio::join!(run(server, &words), run(server, &words));
    assert_eq!((one.code, other.code), (Some(0), Some(0)), "{} {}", one.stderr, other.stderr);
    assert_eq!(numbers(server, "orders").await, (1..=letters).collect::<Vec<_>>(), "{}", server.program());
    assert_eq!(client.ask::<u64>(&["XLEN", "orders:dead"]).await, 0);
}

#[tokio::test]
async fn a_replay_that_is_killed_and_run_again_loses_no_letter_and_repeats_none() {
    // One after the other, so that kills come at any time rather than when the processors allow it.
    for program in all() {
        a_replay_that_is_killed_and_run_again(&Server::start(program, &[]).await).await;
    }
}

#[tokio::test]
async fn a_signal_ends_a_replay_with_its_summary() {
    let server = Server::start(newest(), &[]).await;
    server.command::<()>(&["XADD", "orders", "1-0", "first", "entry"]).await;
    add_letters(&server, 100).await;
    let running = command(&server, "replay --stream orders --execute --rate 20").spawn();
    wait_until(DEADLINE, "letters are replayed", async || entries(&server, "orders").await.len() > 3).await;
    let end = running.stop().await;
    let replayed = entries(&server, "orders").await.len() - 1;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        end.stdout,
        format!("replayed {replayed} dead letters of orders:dead\n  to orders: {replayed}\n")
    );
    assert!(replayed < 100);
}
