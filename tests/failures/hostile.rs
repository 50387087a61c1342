//! Servers that send more than anything can hold, and redirects that would spread a password.

use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::config::serving;
use crate::support::fake_server::{Behavior, FakeServer, Lie};
use crate::support::footprint::peak_bytes;
use crate::support::program::Streamgauge;
use crate::support::series::{errors, polls, up};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_until;
use crate::support::watch::{until_within, with_streams};

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: &str = "poll: {interval: 5s, timeout: 4s, discovery_interval: 1s}\n";
const MOST_BYTES: u64 = 64 << 20;
/// Bytes of the replies to one pipeline that are kept: see `docs/limits.md`.
const KEPT_BYTES: u64 = 8 << 20;
/// Memory of the program apart from replies, at most.
const OWN_BYTES: u64 = 24 << 20;

const GROUP: &str = "*4\r\n$4\r\nname\r\n$1\r\ng\r\n$17\r\nlast-delivered-id\r\n$3\r\n1-0\r\n";

/// Lies that never end, or are garbage: they cost the connection.
const ENDLESS: [Lie; 6] = [
    endless("*4000000000\r\n", ":1\r\n"),
    endless("*4000000000\r\n", GROUP),
    endless("$4000000000\r\n", "xxxxxxxxxxxxxxxx"),
    endless("*4000000000\r\n", "$16\r\nxxxxxxxxxxxxxxxx\r\n"),
    endless("", "*1\r\n"),
    endless("+", "xxxxxxxxxxxxxxxx"),
];

const fn endless(head: &'static str, part: &'static str) -> Lie {
    Lie { to: "XINFO GROUPS bad", head, part, count: u64::MAX }
}

#[tokio::test]
async fn many_lying_servers_take_little_memory_and_other_targets_are_polled() {
    let server = Server::start(newest(), &[]).await;
    with_streams(&server).await;
    let mut fakes = Vec::new();
    for lie in ENDLESS.into_iter().cycle().take(8) {
        fakes.push(FakeServer::new(Behavior::Lie(lie)).await);
    }
    let lying = fakes.iter().enumerate().map(|(number, fake)| {
        format!(", {{name: liar{number}, url: '{}', streams: [{{key: good}}, {{key: bad}}]}}", fake.url())
    });
    let targets = format!("{{name: t, url: '{}'}}{}", server.url(), lying.collect::<String>());
    let exporter = serving(&format!("{POLL}targets: [{targets}]")).await;
    until_within(DEADLINE, &exporter, "polls of all targets", |metrics| {
        let failed = |number: usize| {
            let polls = format!("streamgauge_polls_total{{result=\"ok\",target=\"liar{number}\"}}");
            metrics.get(&polls).is_none_or(|count| *count == 0.0) && fakes[number].connections() >= 1
        };
        metrics.get(&up("a")) == Some(&1.0) && (0..fakes.len()).all(failed)
    })
    .await;
    let before = exporter.metrics().await[&polls("ok")];
    until_within(DEADLINE, &exporter, "more polls of the good target", |metrics| {
        metrics[&polls("ok")] >= before + 3.0
    })
    .await;
    let peak = peak_bytes(exporter.pid());
    // All of them may be read at the same time.
    let most = OWN_BYTES + fakes.len() as u64 * KEPT_BYTES;
    assert!(peak < most, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn a_reply_that_is_too_large_costs_its_stream_alone() {
    let number = "*2\r\n$6\r\nlength\r\n:99999999999999999999\r\n";
    let lies = [
        Lie { to: "XINFO GROUPS bad", head: "*300000\r\n", part: GROUP, count: 300_000 },
        Lie { to: "XINFO STREAM bad", head: number, part: "x", count: 0 },
    ];
    for lie in lies {
        let fake = FakeServer::new(Behavior::Lie(lie)).await;
        let streams = "streams: [{key: good}, {key: bad}]";
        let exporter =
            serving(&format!("{POLL}targets: [{{name: t, url: '{}', {streams}}}]", fake.url())).await;
        let what = format!("one of two streams, {lie:?}");
        until_within(DEADLINE, &exporter, &what, |metrics| {
            metrics[&errors("protocol")] > 1.0 && metrics.get(&up("good")) == Some(&1.0)
        })
        .await;
        assert_eq!(exporter.metrics().await.get(&up("bad")), Some(&0.0));
        assert_eq!(fake.connections(), 1, "the connection survives");
        let peak = peak_bytes(exporter.pid());
        assert!(peak < MOST_BYTES, "{} MiB", peak >> 20);
    }
}

#[tokio::test]
async fn large_names_of_a_real_server_cost_their_stream_alone() {
    let server = Server::start(newest(), &[]).await;
    let mut client = with_streams(&server).await;
    for number in 0..200 {
        let name = format!("{}{number}", "x".repeat(1_000_000));
        client.ask::<()>(&["XGROUP", "CREATE", "bad", &name, "0", "MKSTREAM"]).await;
    }
    let exporter = serving(&format!("{POLL}targets: [{{name: t, url: '{}'}}]", server.url())).await;
    until_within(DEADLINE, &exporter, "the other streams", |metrics| {
        metrics[&errors("protocol")] > 1.0 && metrics.get(&up("b")) == Some(&1.0)
    })
    .await;
    assert_eq!(exporter.metrics().await.get(&up("bad")), Some(&0.0));
    let peak = peak_bytes(exporter.pid());
    assert!(peak < MOST_BYTES, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn a_stream_with_a_name_that_is_too_long_costs_itself_alone() {
    const WARNING: &str = "some streams have names longer than 64 KiB: they are left out";
    let server = Server::start(newest(), &[]).await;
    let mut client = with_streams(&server).await;
    let name = "n".repeat(70_000);
    client.ask::<String>(&["XADD", &name, "1-0", "f", "v"]).await;
    let checked = Streamgauge::command("check").args(["--redis-url", &server.url()]).run().await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains(WARNING), "{}", checked.stdout);
    let exporter = serving(&format!("{POLL}targets: [{{name: t, url: '{}'}}]", server.url())).await;
    until_within(DEADLINE, &exporter, "the other streams", |metrics| metrics.get(&up("b")) == Some(&1.0))
        .await;
    assert!(exporter.get("/api/v1/groups").await.text().contains(WARNING));
    client.ask::<i64>(&["DEL", &name]).await;
    wait_until(DEADLINE, "the warning ends with the stream", async || {
        !exporter.get("/api/v1/groups").await.text().contains(WARNING)
    })
    .await;
}

#[tokio::test]
async fn large_entries_are_read_within_the_budget_from_the_first_poll_on() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for number in 0..20 {
        let (key, payload) = (format!("s{number}"), "x".repeat(8_000_000));
        client.ask::<()>(&["XADD", &key, "*", "f", &payload]).await;
        client.ask::<()>(&["XGROUP", "CREATE", &key, "g", "0"]).await;
    }
    let checked = Streamgauge::command("check").args(["--redis-url", &server.url()]).run().await;
    // Each stream costs 16 MB, and the budget is 16 MiB.
    let left = "streams that are not read yet: 18: poll.payload_budget is spent";
    assert!(checked.stdout.contains(left), "{}{}", checked.stdout, checked.stderr);
    let sent: String = client.ask(&["INFO", "stats"]).await;
    let sent = sent.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).unwrap();
    assert!(sent.parse::<u64>().unwrap() < 2 * 40_000_000, "two polls, the second for its cost: {sent}");
    let poll = POLL.replace("interval: 5s", "payload_budget: 4MiB, interval: 5s");
    let target = format!("{{name: t, url: '{}', streams: [{{key: s1}}]}}", server.url());
    let exporter = serving(&format!("{poll}targets: [{target}]")).await;
    until_within(DEADLINE, &exporter, "a poll", |metrics| metrics[&polls("ok")] > 0.0).await;
    let logged = exporter.stderr().matches("an entry is larger than poll.payload_budget").count();
    assert_eq!(logged, 1, "{}", exporter.stderr());
}

#[tokio::test]
async fn a_password_is_not_sent_to_another_host() {
    let lie = |to| Lie { to, head: "-MOVED 1 192.0.2.1:6379\r\n", part: "x", count: 0 };
    let fake = FakeServer::new(Behavior::Lie(lie("XINFO GROUPS s"))).await;
    let url = format!("redis://:pw@{}", fake.address);
    let exporter =
        serving(&format!("{POLL}targets: [{{name: t, url: '{url}', streams: [{{key: s}}]}}]")).await;
    until_within(DEADLINE, &exporter, "a redirect", |metrics| metrics[&errors("moved")] > 0.0).await;
    let told = format!("{} redirects to 192.0.2.1:6379, which is not sent the password", fake.address);
    let page = exporter.get("/api/v1/groups").await.text();
    assert!(page.contains(&told), "{page}");
    let fake = FakeServer::new(Behavior::Lie(lie("XPENDING"))).await;
    let url = format!("redis://:pw@{}", fake.address);
    let finished = Streamgauge::command("pending")
        .args(["--redis-url", &url, "--stream", "s", "--group", "g"])
        .run()
        .await;
    assert!(finished.stderr.contains("which is not sent the password"), "{}", finished.stderr);
    let fake = FakeServer::new(Behavior::Lie(lie("X"))).await;
    let url = format!("redis://:pw@{}", fake.address);
    let finished = Streamgauge::command("consume")
        .args(["--redis-url", &url, "--stream", "s", "--group", "g"])
        .run()
        .await;
    assert!(finished.stderr.contains("which is not sent the password"), "{}", finished.stderr);
}

#[tokio::test]
async fn a_redirect_to_a_host_that_is_the_password_does_not_make_it_appear() {
    let group = ["--stream", "s", "--group", "g"];
    for (to, command, arguments) in [
        ("XINFO STREAM", "check", &[][..]),
        ("XINFO STREAM", "status", &["--observe", "1s"]),
        ("XPENDING", "pending", &group),
        ("XADD", "produce", &["--stream", "s", "--count", "1"]),
        ("X", "consume", &group),
    ] {
        let head = "-MOVED 1 hunter2-secret.example:6379\r\n";
        let fake = FakeServer::new(Behavior::Lie(Lie { to, head, part: "x", count: 0 })).await;
        let url = format!("redis://:hunter2-secret@{}", fake.address);
        let streams: &[&str] = if to.starts_with("XINFO") { &["--stream", "s"] } else { &[] };
        let run = Streamgauge::command(command).args(["--redis-url", &url]);
        let finished = run.args(arguments).args(streams).run().await;
        let shown = finished.stdout + &finished.stderr;
        assert!(shown.contains("which is not sent the password"), "{command}: {shown}");
        assert!(!shown.contains("hunter2"), "{command}: {shown}");
    }
}

#[tokio::test]
async fn a_cluster_of_more_masters_than_there_can_be_is_not_dialled() {
    let range = |n| format!("*3\r\n:{n}\r\n:{n}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n", 20_000 + n);
    let head = format!("*1001\r\n{}", (0..1_001).map(range).collect::<String>()).leak();
    let lie = Lie { to: "CLUSTER SLOTS", head, part: "x", count: 0 };
    let fake = FakeServer::new(Behavior::Lie(lie)).await;
    let exporter =
        serving(&format!("{POLL}targets: [{{name: t, url: '{}', topology: cluster}}]", fake.url())).await;
    until_within(DEADLINE, &exporter, "a refusal", |metrics| metrics[&errors("protocol")] > 0.0).await;
    let shown = exporter.get("/api/v1/groups").await.text();
    assert!(shown.contains("it names 1001 masters, and a cluster has at most 1000"), "{shown}");
    assert!(!exporter.stderr().contains("127.0.0.1:20"), "{}", exporter.stderr());
}
