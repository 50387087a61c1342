//! `streamgauge tidy`: what it prints deletes what is unused, and nothing that came back to life.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

mod support;

use support::client::RedisClient;
use support::peers;
use support::program::{Finished, Streamgauge};
use support::server::Server;
use support::servers::{for_each_server, newest};
use support::wait::wait_until;

async fn tidy(server: &Server, idle: &str) -> Finished {
    Streamgauge::command("tidy").args(["--redis-url", &server.url(), "--idle", idle]).run().await
}

/// Runs what was printed as a shell script, and returns the replies.
fn run_script(redis_cli: &Path, printed: &str) -> Vec<String> {
    let path = std::env::join_paths(
        [redis_cli.parent().expect("a folder")].into_iter().chain(["/usr/bin".as_ref(), "/bin".as_ref()]),
    );
    let output = Command::new("sh")
        .args(["-euc", printed])
        .env("PATH", path.expect("a path"))
        .output()
        .expect("sh is there");
    assert!(output.status.success() && output.stderr.is_empty(), "{printed}: {output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

async fn consumers(client: &mut RedisClient, key: &str, group: &str) -> usize {
    client.ask::<Vec<redis::Value>>(&["XINFO", "CONSUMERS", key, group]).await.len()
}

#[tokio::test]
async fn what_it_prints_deletes_what_is_unused_and_no_more() {
    let Some(redis_cli) = peers::find("redis-cli") else { return };
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD s * f v\nXADD s * f v").await;
        let odd: &[u8] = b"odd \"$\xff\n";
        for key in [&b"odd key\"$"[..], odd] {
            let _: String = client.ask(&[&b"XADD"[..], key, b"*", b"f", b"v"]).await;
            let _: String = client.ask(&[&b"XGROUP"[..], b"CREATE", key, b"g", b"0"]).await;
            let _: u64 = client.ask(&[&b"XGROUP"[..], b"CREATECONSUMER", key, b"g", b"c"]).await;
        }
        for group in ["used", "unused", "caught-up"] {
            client.run(&format!("XGROUP CREATE s {group} 0")).await;
        }
        client.run("XREADGROUP GROUP used holds COUNT 1 STREAMS s >").await;
        for name in ["idle-1", "idle-2"] {
            client.run(&format!("XREADGROUP GROUP used {name} COUNT 1 NOACK STREAMS s >")).await;
            // Before 7.2 only a read that succeeds makes a consumer.
            client.run(&format!("XGROUP CREATECONSUMER s used {name}")).await;
        }
        client.run("XREADGROUP GROUP unused gone COUNT 1 STREAMS s >\nXREADGROUP GROUP caught-up blocks STREAMS s >").await;
        let nothing = tidy(&server, "1h").await;
        assert_eq!(nothing.code, Some(0), "{}", nothing.stderr);
        assert!(nothing.stdout.ends_with("\n# nothing to delete\n"), "{}", nothing.stdout);

        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let found = tidy(&server, "1s").await;
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        let said = &found.stdout;
        assert!(said.contains("s / used: 2 of its 3 consumers have not tried to read for 1.0 s or longer"), "{said}");
        assert!(said.contains("s / unused: its only consumer has not tried to read for 1.0 s or longer; the next entry is "), "{said}");
        assert!(said.contains("Destroying the group forgets its position and 1 pending entry"), "{said}");
        assert!(said.contains("odd key\"$ / g: "), "{said}");
        assert!(!said.contains("s / caught-up: its only consumer has not"), "it may block until there is more: {said}");

        // One comes back to life before the commands run.
        client.run("XREADGROUP GROUP used idle-1 COUNT 1 STREAMS s >\nXREADGROUP GROUP unused gone COUNT 1 STREAMS s >\nXADD s * f v").await;
        client.run("XREADGROUP GROUP used idle-1 COUNT 1 STREAMS s >").await;
        let mut replies = run_script(&redis_cli, said);
        replies.sort();
        assert_eq!(replies, ["0", "1", "1", "1"], "unused; idle-2 of used; the groups of odd keys: {said}");
        assert_eq!(consumers(&mut client, "s", "used").await, 2);
        assert_eq!(consumers(&mut client, "s", "unused").await, 1);
        for key in [&b"odd key\"$"[..], odd] {
            assert_eq!(client.ask::<Vec<redis::Value>>(&[&b"XINFO"[..], b"GROUPS", key]).await.len(), 0);
        }
        let pending: (u64, Option<String>, Option<String>, Option<redis::Value>) =
            client.ask(&["XPENDING", "s", "used"]).await;
        assert!(pending.0 >= 1, "what is pending stays");
    })
    .await;
}

#[tokio::test]
async fn a_group_without_consumers_has_no_command_however_old_its_entries_are() {
    let Some(redis_cli) = peers::find("redis-cli") else { return };
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        let two_days_ago = old_entries(&mut client, &["back", "aged", "gone"]).await;
        client.run("XGROUP CREATE back grp 0").await;
        for number in 0..6 {
            client.run("XREADGROUP GROUP grp pod COUNT 1 STREAMS back >").await;
            client.run(&format!("XACK back grp {two_days_ago}-{number}")).await;
        }
        client.run("XGROUP DELCONSUMER back grp pod\nXGROUP CREATE aged newgroup 0").await;
        client.run("XGROUP CREATE gone grp 0\nXGROUP CREATECONSUMER gone grp left").await;
        let found = tidy(&server, "1d").await;
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        let said = &found.stdout;
        for name in ["back / grp", "aged / newgroup"] {
            let line = format!("\n# {name}: it has no consumers, so nothing shows when it was last read, and there is no command for it");
            assert!(said.contains(&line), "{name}: {said}");
        }
        assert!(!said.contains("gone / grp"), "its consumer was created a moment ago: {said}");
        assert!(said.ends_with("\n# nothing to delete\n"), "{said}");

        client.age_consumer("gone", "left", Duration::from_secs(2 * 86_400)).await;
        let found = tidy(&server, "1d").await;
        let said = &found.stdout;
        assert!(said.contains("\n# gone / grp: its only consumer has not tried to read for 1 d or longer"), "{said}");
        assert_eq!(said.matches("EVAL").count(), 1, "{said}");
        client.run("XREADGROUP GROUP grp pod COUNT 1 NOACK STREAMS gone >").await;
        assert_eq!(run_script(&redis_cli, said), ["0"], "a consumer reads: {said}");
        client.run("XGROUP SETID gone grp 0\nXGROUP DELCONSUMER gone grp left").await;
        client.run("XGROUP DELCONSUMER gone grp pod").await;
        assert_eq!(run_script(&redis_cli, said), ["0"], "it has no consumers: {said}");
        client.run("XGROUP CREATECONSUMER gone grp left").await;
        client.age_consumer("gone", "left", Duration::from_secs(2 * 86_400)).await;
        assert_eq!(run_script(&redis_cli, said), ["1"], "{said}");
    })
    .await;
}

/// Adds 50 entries of two days ago to each stream, and returns the time in their IDs.
async fn old_entries(client: &mut RedisClient, keys: &[&str]) -> u64 {
    let (seconds, _): (u64, u64) = client.ask(&["TIME"]).await;
    let two_days_ago = (seconds - 2 * 86_400) * 1_000;
    for key in keys {
        for number in 0..50 {
            client.run(&format!("XADD {key} {two_days_ago}-{number} f 1")).await;
        }
    }
    two_days_ago
}

/// The idle consumers of the large group: more than are listed.
const MANY: usize = 20_010;

#[tokio::test]
async fn idle_consumers_of_a_group_with_too_many_are_deleted_in_batches() {
    let Some(redis_cli) = peers::find("redis-cli") else { return };
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD s * f v\nXADD s * f v\nXGROUP CREATE s g 0").await;
        let create = "for at = ARGV[1], ARGV[2] do \
             redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], 'g', \"it's \" .. at .. ' \"$x') end return 0";
        for start in (1..=MANY).step_by(MANY / 10) {
            let end = start + MANY / 10 - 1;
            let _: u64 = client.ask(&["EVAL", create, "1", "s", &start.to_string(), &end.to_string()]).await;
        }
        client.run("XREADGROUP GROUP g holds COUNT 1 STREAMS s >\nXGROUP CREATECONSUMER s g later").await;
        let nothing = tidy(&server, "1h").await;
        assert!(
            nothing.stdout.contains("s / g: 20,012 consumers, too many to find out"),
            "{}",
            nothing.stdout
        );
        let replies = run_script(&redis_cli, &nothing.stdout);
        assert_eq!(replies, ["0"], "none is idle for an hour");

        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let found = tidy(&server, "1s").await;
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        // One comes back to life before the commands run.
        client.run("XREADGROUP GROUP g later COUNT 1 STREAMS s >").await;
        let replies = run_script(&redis_cli, &found.stdout);
        let deleted: usize = replies.iter().map(|reply| reply.parse::<usize>().expect("a number")).sum();
        assert_eq!(deleted, MANY, "{replies:?}");
        assert_eq!(replies.len(), deleted.div_ceil(500));
        assert_eq!(consumers(&mut client, "s", "g").await, 2, "holds and later");
    })
    .await;
}

#[tokio::test]
async fn the_pipeline_for_a_large_group_takes_the_password_from_the_environment() {
    let Some(redis_cli) = peers::find("redis-cli") else { return };
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s * f v\nXGROUP CREATE s g 0").await;
    let create =
        "for at = 1, ARGV[1] do redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], 'g', 'c' .. at) end return 0";
    let _: u64 = client.ask(&["EVAL", create, "1", "s", &MANY.to_string()]).await;
    for name in ["two\nlines", "name", "idle"] {
        let _: u64 = client.ask(&["XGROUP", "CREATECONSUMER", "s", "g", name]).await;
    }
    client.run("CONFIG SET requirepass right").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let url = server.url().replace("redis://", "redis://:right@");
    let found = Streamgauge::command("tidy").args(["--redis-url", &url, "--idle", "1s"]).run().await;
    assert!(found.stdout.contains(". Set REDISCLI_AUTH to the password first\n"), "{}", found.stdout);
    let replies = run_script(&redis_cli, &format!("export REDISCLI_AUTH=right\n{}", found.stdout));
    let deleted: usize = replies.iter().map(|reply| reply.parse::<usize>().expect("a number")).sum();
    assert_eq!(deleted, MANY + 2, "{replies:?}");
    assert_eq!(consumers(&mut client, "s", "g").await, 1, "the name with a line break");
}

#[tokio::test]
async fn a_server_that_cannot_be_polled_is_told() {
    let server = Server::start(newest(), &["--requirepass", "right"]).await;
    let finished = tidy(&server, "1h").await;
    assert_eq!(finished.code, Some(1));
    assert!(finished.stdout.contains("\n# error: "), "{}", finished.stdout);
    wait_until(Duration::from_secs(1), "its name", async || finished.stderr.contains("cannot poll ")).await;
}
