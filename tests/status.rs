//! The status of groups on real servers: each is reached by doing what it names, and left again.

mod support;

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

    /// The status of the group `g` of a stream; `None` before it has one.
    async fn status(&self, key: &str) -> Option<String> {
        let all = self.exporter.metrics().await;
        let start = series::group("redis_stream_group_status", key, "g").replace('}', ",status=\"");
        let shown = named(&all, "redis_stream_group_status");
        let of_group = shown.iter().filter_map(|(series, value)| Some((series.strip_prefix(&start)?, value)));
        let of_group: Vec<_> = of_group.collect();
        assert!(of_group.is_empty() || of_group.len() == 8, "{of_group:?}");
        let mut present = of_group.iter().filter(|(_, value)| **value == 1.0);
        let status = present.next().map(|(rest, _)| rest.trim_end_matches("\"}").to_owned());
        assert!(
            present.next().is_none() && status.is_some() != of_group.is_empty(),
            "one of them: {of_group:?}"
        );
        status
    }

    /// Goes on with `act` until the group has this status.
    async fn becomes(&self, key: &str, status: &str, mut act: impl AsyncFnMut(&mut RedisClient)) {
        let mut client = RedisClient::to(self.server).await;
        wait_for(DEADLINE, &format!("{key} is {status}"), async || {
            act(&mut client).await;
            let found = self.status(key).await;
            if found.as_deref() == Some(status) { Ok(()) } else { Err(format!("it is {found:?}")) }
        })
        .await;
    }

    /// Waits until the group has this status by itself.
    async fn turns(&self, key: &str, status: &str) {
        self.becomes(key, status, async |_| {}).await;
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

async fn a_new_group_is_unknown_then_ok(watched: &Watched<'_>) {
    watched.run("XGROUP CREATE new g $ MKSTREAM").await;
    watched.turns("new", "unknown").await;
    watched.turns("new", "ok").await;
    watched.run("XADD new * f v").await;
    watched.run(&read_all("new")).await;
    watched.sees("redis_stream_group_consumers", "new", 1.0).await;
    // A new life of that name further back is no rewind.
    watched.run("XGROUP DESTROY new g\nXGROUP CREATE new g 0").await;
    let next = wait_for(DEADLINE, "the new group is seen", async || match watched.status("new").await {
        Some(status) if status != "ok" => Ok(status),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(next.await, "unknown");
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
    watched.becomes("stalled", "stalled", busy).await;
    watched.run(&read_all("stalled")).await;
    watched.becomes("stalled", "ok", busy).await;
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
    watched.becomes("lagging", "lagging", fall_behind).await;
    watched.run(&read_all("lagging")).await;
    watched.turns("lagging", "ok").await;
}

#[tokio::test]
async fn each_status_is_reached_by_doing_what_it_names_and_left_again() {
    for_each_server(async |server| {
        let watched = Watched::new(&server).await;
        tokio::join!(
            a_new_group_is_unknown_then_ok(&watched),
            rewound(&watched),
            losing(&watched),
            abandoned(&watched),
            stalled(&watched),
            stuck(&watched),
            lagging(&watched),
        );
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
        watched.status("away").await.ok_or_else(|| watched.exporter.stderr())
    })
    .await;
    assert_eq!(first, "unknown", "nobody could read while it was away");
    watched.turns("calm", "ok").await;
}

#[tokio::test]
async fn a_stream_has_the_window_of_its_own_rule() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server)
        .await
        .run("XGROUP CREATE soon g $ MKSTREAM\nXGROUP CREATE late g $ MKSTREAM")
        .await;
    let url = server.url();
    let exporter = serving(&format!(
        "poll: {{interval: 250ms, timeout: 240ms}}\nstatus: {{window: 1h}}
targets: [{{name: t, url: '{url}', streams: [{{key: soon, window: 1500ms}}, {{key: late}}]}}]"
    ))
    .await;
    let watched = Watched { server: &server, exporter };
    watched.turns("soon", "ok").await;
    assert_eq!(watched.status("late").await.as_deref(), Some("unknown"));
}
