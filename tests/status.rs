//! The status of groups on real servers: each is reached by doing what it names, and left again.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::client::RedisClient;
use support::config::serving;
use support::metrics::named;
use support::program::Exporter;
use support::series;
use support::server::Server;
use support::servers::{ServerKind, for_each_server, newest};
use support::wait::wait_for;

/// Several windows, on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(60);
/// A window of 3 s, in which some polls may fail. Values are shown until polls have failed for more than half of it.
const SETTINGS: &str = "poll: {interval: 250ms, timeout: 240ms, stale_after: 2s, discovery_interval: 100ms}\nstatus: {window: 3s}\n";

/// A server and the exporter that watches it.
struct Watched<'a> {
    server: &'a Server,
    exporter: Exporter,
}

impl<'a> Watched<'a> {
    async fn new(server: &'a Server) -> Self {
        let url = server.url();
        let exporter = serving(&format!("{SETTINGS}targets: [{{name: t, url: '{url}'}}]")).await;
        Self { server, exporter }
    }

    /// The statuses of the group `g` of a stream: its conditions, or `ok` or `unknown`. Empty before it is shown.
    async fn statuses(&self, key: &str) -> BTreeSet<String> {
        let all = self.exporter.metrics().await;
        let start = series::group("redis_stream_group_status", key, "g").replace('}', ",status=\"");
        let shown = named(&all, "redis_stream_group_status");
        assert!(shown.values().all(|value| *value == 1.0), "{shown:?}");
        let of_group = shown.keys().filter_map(|series| series.strip_prefix(&start));
        let of_group: BTreeSet<_> = of_group.map(|rest| rest.trim_end_matches("\"}").to_owned()).collect();
        let is_alone = ["ok", "unknown"].iter().any(|status| of_group.contains(*status));
        assert!(!is_alone || of_group.len() == 1, "{of_group:?}");
        of_group
    }

    /// Goes on with `act` until these statuses hold for the group, whatever others do.
    async fn becomes(&self, key: &str, statuses: &[&str], mut act: impl AsyncFnMut(&mut RedisClient)) {
        let mut client = RedisClient::to(self.server).await;
        wait_for(DEADLINE, &format!("{key} is {statuses:?}"), async || {
            act(&mut client).await;
            let found = self.statuses(key).await;
            let all = statuses.iter().all(|status| found.contains(*status));
            if all { Ok(()) } else { Err(format!("it is {found:?}")) }
        })
        .await;
    }

    /// Goes on with `act` until the oldest waiting entry is so old, and returns the statuses seen meanwhile.
    async fn until_behind(
        &self,
        key: &str,
        seconds: f64,
        mut act: impl AsyncFnMut(&mut RedisClient),
    ) -> BTreeSet<String> {
        let mut client = RedisClient::to(self.server).await;
        let series = series::group("redis_stream_group_lag_seconds", key, "g");
        let mut seen = BTreeSet::new();
        wait_for(DEADLINE, &format!("{key} is {seconds} s behind"), async || {
            act(&mut client).await;
            seen.extend(self.statuses(key).await);
            let found = self.exporter.metrics().await.get(&series).copied();
            if found.is_some_and(|found| found >= seconds) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
        seen
    }

    /// Waits until this status holds by itself.
    async fn turns(&self, key: &str, status: &str) {
        self.becomes(key, &[status], async |_| {}).await;
    }

    /// Waits until the exporter shows this of the group.
    async fn sees(&self, metric: &str, key: &str, value: f64) {
        let series = series::group(metric, key, "g");
        wait_for(DEADLINE, &format!("{series} is {value}"), async || {
            let found = self.exporter.metrics().await.get(&series).copied();
            if found == Some(value) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    async fn run(&self, lines: &str) {
        RedisClient::to(self.server).await.run(lines).await;
    }
}

fn read_all(key: &str) -> String {
    format!("XREADGROUP GROUP g c COUNT 100000 NOACK STREAMS {key} >")
}

async fn a_new_group_is_unknown_unless_it_has_nothing_to_do(watched: &Watched<'_>) {
    watched.run("XGROUP CREATE new g $ MKSTREAM").await;
    let first = wait_for(DEADLINE, "the group is seen", async || {
        let found = watched.statuses("new").await;
        if found.is_empty() { Err("it is not") } else { Ok(found) }
    });
    assert_eq!(first.await, BTreeSet::from(["ok".to_owned()]));
    watched.run("XADD new * f v").await;
    watched.run(&read_all("new")).await;
    watched.sees("redis_stream_group_consumers", "new", 1.0).await;
    // A new life of that name further back is no rewind.
    watched.run("XGROUP DESTROY new g\nXGROUP CREATE new g 0").await;
    let next = wait_for(DEADLINE, "the new group is seen", async || {
        let found = watched.statuses("new").await;
        if found.is_empty() || found.contains("ok") { Err(format!("{found:?}")) } else { Ok(found) }
    });
    assert_eq!(next.await, BTreeSet::from(["unknown".to_owned()]));
    watched.run(&read_all("new")).await;
    watched.turns("new", "ok").await;
}

async fn rewound(watched: &Watched<'_>) {
    watched.run("XADD rewound * f v\nXGROUP CREATE rewound g 0").await;
    watched.run(&read_all("rewound")).await;
    watched.turns("rewound", "ok").await;
    watched.run("XGROUP SETID rewound g 0").await;
    watched.turns("rewound", "rewound").await;
    watched.run(&read_all("rewound")).await;
    watched.turns("rewound", "ok").await;
}

async fn losing(watched: &Watched<'_>) {
    let program = watched.server.program();
    if program.kind == ServerKind::Redis && program.version < (7, 0, 0) {
        return;
    }
    watched.run("XADD losing * f v\nXGROUP CREATE losing g 0").await;
    watched.run(&read_all("losing")).await;
    watched.run("XADD losing * f v\nXADD losing * f v\nXADD losing * f v").await;
    watched.sees("redis_stream_group_lag", "losing", 3.0).await;
    watched.run("XTRIM losing MAXLEN 1").await;
    watched.turns("losing", "losing").await;
    watched.run(&read_all("losing")).await;
    watched.turns("losing", "ok").await;
}

async fn abandoned(watched: &Watched<'_>) {
    watched.run("XADD abandoned * f v\nXGROUP CREATE abandoned g 0").await;
    watched.turns("abandoned", "abandoned").await;
    watched.run(&read_all("abandoned")).await;
    watched.turns("abandoned", "ok").await;
    // Now with a consumer that falls silent.
    watched.run("XADD abandoned * f v").await;
    watched.turns("abandoned", "abandoned").await;
    watched.run(&read_all("abandoned")).await;
    watched.turns("abandoned", "ok").await;
}

async fn stalled(watched: &Watched<'_>) {
    watched.run("XADD stalled * f v\nXADD stalled * f v\nXGROUP CREATE stalled g 0").await;
    watched.run("XREADGROUP GROUP g c COUNT 1 STREAMS stalled >").await;
    // Its consumer is busy with what it has got, again and again.
    let busy = async |client: &mut RedisClient| client.run("XREADGROUP GROUP g c STREAMS stalled 0").await;
    watched.becomes("stalled", &["stalled"], busy).await;
    watched.run(&read_all("stalled")).await;
    watched.becomes("stalled", &["ok"], busy).await;
}

async fn stuck(watched: &Watched<'_>) {
    let mut client = RedisClient::to(watched.server).await;
    let id: String = client.ask(&["XADD", "stuck", "*", "f", "v"]).await;
    watched.run("XGROUP CREATE stuck g 0\nXREADGROUP GROUP g c STREAMS stuck >").await;
    watched.turns("stuck", "stuck").await;
    // Somebody takes it over, and is given the time to do it.
    watched.run(&format!("XCLAIM stuck g other 0 {id}")).await;
    watched.turns("stuck", "ok").await;
    watched.turns("stuck", "stuck").await;
    watched.run(&format!("XACK stuck g {id}")).await;
    watched.turns("stuck", "ok").await;
}

async fn lagging(watched: &Watched<'_>) {
    watched.run("XGROUP CREATE lagging g 0 MKSTREAM").await;
    let fall_behind = async |client: &mut RedisClient| {
        for _ in 0..3 {
            client.run("XADD lagging * f v\nXADD lagging * f v\nXADD lagging * f v").await;
        }
        client.run("XREADGROUP GROUP g c COUNT 3 NOACK STREAMS lagging >").await;
    };
    watched.becomes("lagging", &["lagging"], fall_behind).await;
    watched.run(&read_all("lagging")).await;
    watched.turns("lagging", "ok").await;
}

async fn stalled_and_stuck_at_once(watched: &Watched<'_>) {
    watched.run("XADD both * f v\nXADD both * f v\nXGROUP CREATE both g 0").await;
    watched.run("XREADGROUP GROUP g c COUNT 1 STREAMS both >").await;
    // Another consumer is active, but reads nothing new.
    let other = async |client: &mut RedisClient| client.run("XREADGROUP GROUP g other STREAMS both 0").await;
    watched.becomes("both", &["stalled", "stuck"], other).await;
    watched.run(&read_all("both")).await;
    watched.becomes("both", &["stuck"], other).await;
}

/// A group without consumers on a trimmed stream loses entries because of that.
async fn abandoned_and_losing_at_once(watched: &Watched<'_>) {
    let program = watched.server.program();
    if program.kind == ServerKind::Redis && program.version < (7, 0, 0) {
        return;
    }
    watched.run("XADD dead * f v\nXGROUP CREATE dead g $").await;
    let add = async |client: &mut RedisClient| client.run(&"XADD dead MAXLEN = 5 * f v\n".repeat(3)).await;
    watched.becomes("dead", &["abandoned", "losing"], add).await;
    let listing = watched.exporter.get("/api/v1/groups?stream=dead&status=losing").await.text();
    let listing: serde_json::Value = serde_json::from_str(&listing).expect("it is JSON");
    let group = &listing["groups"][0];
    assert_eq!(group["status"], "abandoned", "{group}");
    assert_eq!(
        group["conditions"].as_array().map(|all| all[..2].to_vec()),
        Some(vec!["abandoned".into(), "losing".into()])
    );
    let since = group["since"].as_str().map(humantime::parse_rfc3339);
    assert!(matches!(since, Some(Ok(_))), "{group}");
}

/// XACK resets no idle time, so a consumer that acknowledges a large batch seems to be gone.
async fn busy_with_pending_entries(watched: &Watched<'_>) {
    watched.run(&"XADD busy * f v\n".repeat(1_000)).await;
    watched.run("XGROUP CREATE busy g 0\nXREADGROUP GROUP g c COUNT 1000 STREAMS busy >").await;
    watched.sees("redis_stream_group_messages_pending", "busy", 1_000.0).await;
    watched.run("XADD busy * f v").await;
    let acknowledge = async |client: &mut RedisClient| {
        let oldest: Vec<(String, String, u64, u64)> =
            client.ask(&["XPENDING", "busy", "g", "-", "+", "1"]).await;
        for (id, ..) in oldest {
            client.ask::<u64>(&["XACK", "busy", "g", &id]).await;
        }
    };
    // Three windows.
    let seen = watched.until_behind("busy", 9.0, acknowledge).await;
    assert!(seen.iter().all(|status| ["ok", "unknown"].contains(&&**status)), "{seen:?}");
    watched.turns("busy", "abandoned").await;
}

/// A claim is a sign of life on every server. Before 7.2, one that finds nothing to claim leaves no trace.
async fn claiming(watched: &Watched<'_>) {
    for (key, claim) in
        [("claimed", "XCLAIM claimed g other 0 1-0"), ("swept", "XAUTOCLAIM swept g other 0 0")]
    {
        for id in ["1-0", "2-0", "3-0"] {
            watched.run(&format!("XADD {key} {id} f v")).await;
        }
        watched.run(&format!("XGROUP CREATE {key} g 0\nXREADGROUP GROUP g c COUNT 2 STREAMS {key} >")).await;
        watched.run("XDEL swept 1-0").await;
        let mut seen = BTreeSet::new();
        watched
            .becomes(key, &["stalled"], async |client| {
                client.run(claim).await;
                seen.extend(watched.statuses(key).await);
            })
            .await;
        assert!(!seen.contains("abandoned"), "{seen:?}");
        watched.turns(key, "abandoned").await;
    }
}

async fn created_and_never_reading(watched: &Watched<'_>) {
    watched.run("XADD created * f v\nXGROUP CREATE created g 0\nXGROUP CREATECONSUMER created g c").await;
    watched.turns("created", "abandoned").await;
}

#[tokio::test]
async fn a_batch_job_is_ok_from_its_second_round_on_and_abandoned_when_it_ends() {
    let server = Server::start(newest(), &[]).await;
    let watched = Watched::new(&server).await;
    watched.run("XGROUP CREATE batch g $ MKSTREAM").await;
    watched.turns("batch", "ok").await;
    let add = async |client: &mut RedisClient| client.run("XADD batch * f v").await;
    let mut rounds = Vec::new();
    for _ in 0..4 {
        // Longer than the window of 3 s.
        rounds.push(watched.until_behind("batch", 5.0, add).await);
        watched.run(&read_all("batch")).await;
        wait_for(DEADLINE, "it has read", async || {
            let series = series::group("redis_stream_group_lag", "batch", "g");
            let lag = watched.exporter.metrics().await.get(&series).copied();
            if lag == Some(0.0) { Ok(()) } else { Err(format!("{lag:?}")) }
        })
        .await;
    }
    assert!(rounds[0].contains("abandoned"), "{rounds:?}");
    for round in &rounds[1..] {
        assert_eq!(*round, BTreeSet::from(["ok".to_owned()]), "{rounds:?}");
    }
    watched.becomes("batch", &["abandoned"], add).await;
}

/// A window of an hour, so that only a first reading can prove anything.
#[tokio::test]
async fn a_first_reading_shows_what_it_proves() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        for key in ["dead", "new", "counter", "calm", "busy"] {
            let id = match key {
                "new" => "*",
                "counter" => "1-0",
                _ => "1700000000000-0",
            };
            let position = if key == "calm" { "$" } else { "0" };
            client.run(&format!("XADD {key} {id} f v\nXGROUP CREATE {key} g {position}")).await;
        }
        // It was read a moment ago.
        client.run("XADD busy 1700000000000-1 f v\nXREADGROUP GROUP g c COUNT 1 STREAMS busy >").await;
        let url = server.url();
        let exporter =
            serving(&format!("status: {{window: 1h}}\ntargets: [{{name: t, url: '{url}'}}]")).await;
        let watched = Watched { server: &server, exporter };
        watched.turns("calm", "ok").await;
        for (key, expected) in [
            ("dead", "abandoned"),
            ("new", "unknown"),
            ("counter", "unknown"),
            ("calm", "ok"),
            ("busy", "unknown"),
        ] {
            assert_eq!(watched.statuses(key).await, BTreeSet::from([expected.to_owned()]), "{key}");
        }
        let listing = watched.exporter.get("/api/v1/groups?stream=new").await.text();
        let listing: serde_json::Value = serde_json::from_str(&listing).expect("it is JSON");
        let time = |name: &str| {
            let text = listing["groups"][0][name].as_str().expect("it is unknown");
            humantime::parse_rfc3339(text).expect("it is a time")
        };
        let lasts = time("unknown_until").duration_since(time("since")).expect("it comes later");
        assert!((3_000..3_600).contains(&lasts.as_secs()), "{listing}");
        watched.exporter.stop().await;
    })
    .await;
}

#[tokio::test]
async fn each_status_is_reached_by_doing_what_it_names_and_left_again() {
    for_each_server(async |server| {
        let watched = Watched::new(&server).await;
        tokio::join!(
            a_new_group_is_unknown_unless_it_has_nothing_to_do(&watched),
            rewound(&watched),
            losing(&watched),
            abandoned(&watched),
            stalled(&watched),
            stuck(&watched),
            lagging(&watched),
            stalled_and_stuck_at_once(&watched),
            abandoned_and_losing_at_once(&watched),
            busy_with_pending_entries(&watched),
            claiming(&watched),
            created_and_never_reading(&watched),
        );
    })
    .await;
}

#[tokio::test]
async fn entries_that_were_released_are_counted_until_a_consumer_takes_them() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        if !client.knows("XNACK").await {
            return;
        }
        client
            .run(
                "XADD s 1-0 n 1\nXADD s 2-0 n 2\nXADD s 3-0 n 3\nXGROUP CREATE s g 0
                XREADGROUP GROUP g c COUNT 3 STREAMS s >\nXNACK s g FATAL IDS 1 1-0\nXNACK s g SILENT IDS 1 3-0",
            )
            .await;
        let watched = Watched::new(&server).await;
        watched.sees("redis_stream_group_messages_released", "s", 2.0).await;
        let deliveries = series::group("redis_stream_group_oldest_pending_deliveries", "s", "g");
        let all = watched.exporter.metrics().await;
        assert_eq!(all.get(&deliveries), None, "FATAL replaced the number");
        watched.run("XCLAIM s g c 0 1-0 RETRYCOUNT 7").await;
        watched.sees("redis_stream_group_messages_released", "s", 1.0).await;
        watched.sees("redis_stream_group_oldest_pending_deliveries", "s", 7.0).await;
        watched.run("XACK s g 1-0 3-0").await;
        watched.sees("redis_stream_group_messages_released", "s", 0.0).await;
        watched.exporter.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_away_leaves_no_false_status_behind() {
    let mut server = Server::start(newest(), &["--appendonly", "yes", "--appendfsync", "always"]).await;
    let watched = Watched::new(&server).await;
    watched.run("XADD away * f v\nXADD away * f v\nXGROUP CREATE away g 0\nXREADGROUP GROUP g c COUNT 1 STREAMS away >").await;
    watched.run("XGROUP CREATE calm g $ MKSTREAM").await;
    watched.turns("away", "abandoned").await;
    let Watched { exporter, .. } = watched;
    server.kill();
    wait_for(DEADLINE, "its last values are too old to be shown", async || {
        let shown = named(&exporter.metrics().await, "redis_stream_group_status");
        if shown.is_empty() { Ok(()) } else { Err("they are shown") }
    })
    .await;
    server.launch();
    server.ready().await;
    let watched = Watched { server: &server, exporter };
    let first = wait_for(DEADLINE, "it is polled again", async || {
        let found = watched.statuses("away").await;
        if found.is_empty() { Err(watched.exporter.stderr()) } else { Ok(found) }
    })
    .await;
    assert_eq!(first, BTreeSet::from(["unknown".to_owned()]), "no consumer could read while it was away");
    watched.turns("calm", "ok").await;
}

#[tokio::test]
async fn a_stream_has_the_window_of_its_own_rule() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server)
        .await
        .run("XADD soon * f v\nXGROUP CREATE soon g 0\nXADD late * f v\nXGROUP CREATE late g 0")
        .await;
    let url = server.url();
    let exporter = serving(&format!(
        "poll: {{interval: 250ms, timeout: 240ms}}\nstatus: {{window: 1h}}
targets: [{{name: t, url: '{url}', streams: [{{key: soon, window: 1500ms}}, {{key: late}}]}}]"
    ))
    .await;
    let watched = Watched { server: &server, exporter };
    watched.turns("soon", "abandoned").await;
    assert_eq!(watched.statuses("late").await, BTreeSet::from(["unknown".to_owned()]));
}
