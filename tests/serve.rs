//! The happy path from outside: what `/metrics` says of real servers, against a reading of our own.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use redis::Value;
use redis_stream_lag::report::Status;
use streamgauge::values::family::MetricOrigin;
use streamgauge::values::table::FAMILIES;

mod support;

use support::client::RedisClient;
use support::config::{ConfigFile, ONCE, QUICK, serving};
use support::expected::{Expected, ExpectedGroup, ExpectedState, differences, of_streams};
use support::http;
use support::metrics::{self, Metrics, named};
use support::peers;
use support::program::Exporter;
use support::series::{self, errors, group, polls, stream};
use support::server::Server;
use support::servers::{Program, ServerKind, for_each_program, for_each_server, newest};
use support::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(15);

/// Streams and groups in every condition that a first reading can meet.
async fn fill(client: &mut RedisClient) {
    for n in 0..20 {
        client.run(&format!("XADD orders * n {n}")).await;
    }
    client
        .run(
            "XGROUP CREATE orders done 0
         XREADGROUP GROUP done d1 COUNT 100 STREAMS orders >
         XGROUP CREATE orders behind 0
         XREADGROUP GROUP behind b1 COUNT 3 STREAMS orders >
         XREADGROUP GROUP behind b2 COUNT 2 STREAMS orders >
         XGROUP CREATE orders noack 0
         XREADGROUP GROUP noack n1 COUNT 7 NOACK STREAMS orders >
         XGROUP CREATE orders untouched 0
         XGROUP CREATE orders new $
         XGROUP CREATECONSUMER orders new idler",
        )
        .await;
    let all: Vec<(String, Value)> = client.ask(&["XRANGE", "orders", "-", "+"]).await;
    for (id, _) in &all {
        client.run(&format!("XACK orders done {id}")).await;
    }
    // The oldest pending entry changes hands: its deliveries go up, its idle time starts over.
    client.run(&format!("XCLAIM orders behind b2 0 {}", all[0].0)).await;
    client.run(&format!("XACK orders behind {}", all[1].0)).await;
    // Not an end of the stream, and no counter known.
    client.run(&format!("XGROUP CREATE orders middle {}", all[9].0)).await;

    for n in 1..=10 {
        client.run(&format!("XADD deleted-ahead * n {n}\nXADD trimmed * n {n}\nXADD emptied * n {n}")).await;
        client.run(&format!("XADD deleted-behind {n}-1 n {n}\nXADD explicit {n}-1 n {n}")).await;
    }
    for key in ["deleted-ahead", "trimmed", "emptied", "deleted-behind", "explicit"] {
        client.run(&format!("XGROUP CREATE {key} g 0\nXREADGROUP GROUP g c COUNT 4 STREAMS {key} >")).await;
    }
    let ahead: Vec<(String, Value)> = client.ask(&["XRANGE", "deleted-ahead", "-", "+"]).await;
    client.run(&format!("XDEL deleted-ahead {}", ahead[6].0)).await;
    client
        .run(
            "XDEL deleted-behind 2-1
         XTRIM trimmed MAXLEN 3
         XTRIM emptied MAXLEN 0
         XADD bare * f v
         XGROUP CREATE nothing g $ MKSTREAM
         SET text value
         HSET hash f v",
        )
        .await;
    if client.knows("XCFGSET").await {
        client.run("XADD retried IDMP app 1 * f v\nXADD retried IDMP app 1 * f v").await;
    }
    // Two groups whose names need care, and a consumer.
    client.ask::<String>(&[&b"XADD"[..], b"a\xffb", b"*", b"f", b"v"]).await;
    client.ask::<()>(&[&b"XGROUP"[..], b"CREATE", b"a\xffb", b"q\"uo\\te", b"0"]).await;
    client.ask::<()>(&[&b"XGROUP"[..], b"CREATE", b"a\xffb", b"li\nne", b"0"]).await;
    client.ask::<()>(&[&b"XGROUP"[..], b"CREATECONSUMER", b"a\xffb", b"li\nne", b"c\\x41\xc3\xa9"]).await;
}

/// Returns the values of a first reading, before there is any history.
fn as_first_seen(groups: &[ExpectedGroup]) -> Expected {
    let mut expected = Expected::new();
    let mut put = |series: String, value: f64| expected.insert(series, (value, value));
    for place in groups {
        // Nothing was lost yet, as far as anybody saw; before 7.0 nobody can tell.
        if place.counts_added {
            for counter in ["entries_lost_total", "entries_delivered_total", "entries_acknowledged_total"] {
                put(place.series(&format!("redis_stream_group_{counter}")), 0.0);
            }
        }
        if place.undelivered == 0 {
            put(place.series("redis_stream_group_drain_seconds"), 0.0);
        }
        // One poll is no history, but nothing is wrong with a group that has nothing to do.
        let status = if place.undelivered == 0 && place.pending == 0 { Status::Ok } else { Status::Unknown };
        put(series::status(&place.stream, &place.group, status.as_str()), 1.0);
    }
    expected
}

async fn polled(exporter: &Exporter) -> Metrics {
    wait_for(SOON, "the target is polled", async || {
        let metrics = exporter.metrics().await;
        let is_up = named(&metrics, "streamgauge_target_up").values().eq([&1.0]);
        if is_up { Ok(metrics) } else { Err(exporter.stderr()) }
    })
    .await
}

#[tokio::test]
async fn every_value_of_every_metric_is_what_a_reading_one_by_one_gives() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        fill(&mut client).await;
        let before = ExpectedState::read(&mut client).await;
        let url = server.url();
        let exporter = serving(&format!(
            "{ONCE}targets: [{{name: t, url: '{url}', streams: [
                {{key: orders, groups: {{include: [behind, done, '*']}}}}, {{key: '*'}}]}}]"
        ))
        .await;
        let found = of_streams(&polled(&exporter).await);
        let after = ExpectedState::read(&mut client).await;
        let mut expected = before.until(&after);
        expected.extend(as_first_seen(&after.groups));
        for series in named(&found, "redis_stream_length").into_keys() {
            let labels = series.trim_start_matches("redis_stream_length").trim_end_matches('}');
            for change in ["created", "destroyed", "recreated"] {
                let series = format!("redis_stream_group_changes_total{labels},change=\"{change}\"}}");
                expected.insert(series, (0.0, 0.0));
            }
        }
        // It is not known of a group at 0-0, and there is none that was there a day ago.
        let abandoned = named(&found, "redis_stream_groups_abandoned").into_keys();
        expected.extend(abandoned.map(|series| (series, (0.0, 0.0))));
        for name in ["behind", "done"] {
            expected.insert(group("redis_stream_group_up", "orders", name), (1.0, 1.0));
        }
        let wrong = differences(&found, &expected, 0.0);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_no_family_is_left_out(&found, server.program());
    })
    .await;
}

/// Checks that values that a server does not report are absent, not 0; all others were compared above.
fn assert_no_family_is_left_out(found: &Metrics, program: &Program) {
    let is_old = program.kind == ServerKind::Redis && program.version < (7, 0, 0);
    let lacks_inactive = program.kind == ServerKind::Redis && program.version < (7, 2, 0);
    for family in FAMILIES.iter().filter(|family| family.origin != MetricOrigin::RedisExporter) {
        let is_absent = match family.name {
            "redis_stream_entries_added_total"
            | "redis_stream_group_entries_read"
            | "redis_stream_group_entries_delivered_total"
            | "redis_stream_group_entries_acknowledged_total"
            | "redis_stream_group_entries_lost_total" => is_old,
            // Nothing was observed for long enough, or counted before.
            "redis_stream_group_consumers_growth" => true,
            "redis_stream_group_added_per_second" | "redis_stream_group_delivered_per_second" => true,
            "redis_stream_group_messages_released" => {
                program.kind != ServerKind::Redis || program.version < (8, 8, 0)
            }
            name if name.starts_with("redis_stream_idmp_") => {
                program.kind != ServerKind::Redis || program.version < (8, 6, 0)
            }
            // It is not asked for.
            "redis_stream_memory_bytes" => true,
            // No trim was seen yet.
            "redis_stream_group_retention_used_ratio" | "redis_stream_group_seconds_to_loss" => true,
            // No consumer was deleted, and XNACK FATAL marked no entry.
            "redis_stream_group_pending_dropped_total" | "redis_stream_group_pending_failed" => true,
            // No stream belongs to a family.
            "redis_stream_family_streams" | "redis_stream_family_groups" => true,
            "redis_stream_group_consumer_inactive_seconds" => lacks_inactive,
            // No group is losing, and none was seen to move.
            "redis_stream_group_loss_ratio" | "redis_stream_group_last_delivery_age_seconds" => true,
            _ => false,
        };
        assert_eq!(named(found, family.name).is_empty(), is_absent, "{}", family.name);
    }
}

#[tokio::test]
async fn lag_stays_exact_while_groups_read_and_entries_come_and_go() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        fill(&mut client).await;
        let url = server.url();
        let exporter = serving(&format!("{QUICK}targets: [{{name: t, url: '{url}'}}]")).await;
        polled(&exporter).await;
        for step in [
            "XREADGROUP GROUP behind b1 COUNT 3 STREAMS orders >\nXADD orders * n 21\nXADD trimmed * n 11",
            "XREADGROUP GROUP g c COUNT 1 STREAMS deleted-ahead >\nXREADGROUP GROUP g c STREAMS trimmed >",
            "XTRIM orders MAXLEN 8\nXADD emptied * n 11\nXADD emptied * n 12\nXDEL explicit 7-1",
            "XREADGROUP GROUP middle m COUNT 2 STREAMS orders >\nXREADGROUP GROUP g c COUNT 1 STREAMS emptied >",
        ] {
            client.run(step).await;
            let state = ExpectedState::read(&mut client).await;
            let lags = |all: &BTreeMap<String, f64>| named(all, "redis_stream_group_lag");
            wait_for(SOON, "each lag is the true one", async || {
                let metrics = exporter.metrics().await;
                let (found, expected) = (lags(&metrics), lags(&state.values));
                if found == expected { Ok(()) } else { Err(format!("{step}: {found:#?} for {expected:#?}")) }
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_gzipped_page_is_the_plain_one() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    fill(&mut client).await;
    let url = server.url();
    let exporter = serving(&format!("{ONCE}targets: [{{name: t, url: '{url}'}}]")).await;
    polled(&exporter).await;

    let plain = exporter.get("/metrics").await;
    let gzipped = http::get_with(exporter.address, "/metrics", &[("accept-encoding", "gzip")]).await;
    assert_eq!((plain.header("content-encoding"), gzipped.header("content-encoding")), (None, Some("gzip")));
    for response in [&plain, &gzipped] {
        assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    }
    assert!(gzipped.body.len() * 2 < plain.body.len(), "{} of {}", gzipped.body.len(), plain.body.len());
    // The exporter's own counters go on from scrape to scrape.
    let streams = |text: &str| text.split_once("# HELP process_").expect("it has own metrics").0.to_owned();
    assert_eq!(streams(&gzipped.text()), streams(&plain.text()));
    let names = |text: &str| metrics::parse(text).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&gzipped.text()), names(&plain.text()));
}

#[tokio::test]
async fn whatever_may_be_large_is_gzipped_for_who_takes_it() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    fill(&mut client).await;
    let exporter = serving(&format!("{ONCE}targets: [{{name: t, url: '{}'}}]", server.url())).await;
    polled(&exporter).await;
    for path in ["/", "/groups/t/db0/orders/behind", "/metrics", "/api/v1/groups", "/api/v1/alerts"] {
        for (accepted, coded) in [
            ("gzip;q=0.4, identity;q=0.2", Some("gzip")),
            ("gzip;q=0, *", None),
            ("gzip;q=0.4, identity", None),
        ] {
            let answer = http::get_with(exporter.address, path, &[("accept-encoding", accepted)]).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.header("content-encoding"), coded, "{path}, {accepted}");
            assert_eq!(answer.header("vary"), Some("accept-encoding"), "{path}, {accepted}");
            let text = answer.text();
            let begin = ["<!DOCTYPE html>", "# HELP ", "{\""];
            assert!(begin.iter().any(|begin| text.starts_with(begin)), "{path}, {accepted}: {text}");
        }
    }
    let packed = http::get_with(exporter.address, "/api/v1/groups", &[("accept-encoding", "gzip")]).await;
    let plain = exporter.get("/api/v1/groups").await;
    assert!(packed.body.len() * 2 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
    assert_eq!(packed.text(), plain.text());
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_of() {
    let Some(promtool) = peers::find("promtool") else { return };
    let server = Server::start(newest(), &[]).await;
    fill(&mut RedisClient::to(&server).await).await;
    let url = server.url();
    let exporter = serving(&format!(
        "{ONCE}targets: [{{name: t, url: '{url}', labels: {{team: 'a \"b\" \\c'}}, streams: [
            {{key: orders, groups: {{include: [behind, missing]}}}}, {{key: absent}}, {{key: '*'}}]}}]"
    ))
    .await;
    polled(&exporter).await;
    let text = exporter.get("/metrics").await.text();
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&said)), (Some(0), "".into()));
}

#[tokio::test]
async fn the_minimal_acl_is_enough_for_everything() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        fill(&mut client).await;
        // Before 7.0 there are no key permissions for reading alone.
        let is_old = server.program().kind == ServerKind::Redis && server.program().version < (7, 0, 0);
        let keys = if is_old { "~*" } else { "%R~*" };
        client.run(&format!(
            "ACL SETUSER mon reset on >pw {keys} +xinfo|stream +xinfo|groups +xinfo|consumers +xpending +xrange \
             +scan +time"
        ))
        .await;
        let config = ConfigFile::new(&format!(
            "{QUICK}targets: [{{name: t, url: '{}', username: mon, password_file: password}}]",
            server.url()
        ));
        config.put("password", "pw\n");
        let exporter = config.serve().serving().await;
        wait_until(SOON, "there were some polls, and SCANs", async || {
            let metrics = exporter.metrics().await;
            metrics[&polls("ok")] >= 4.0
                && metrics[r#"streamgauge_redis_commands_total{command="scan",target="t"}"#] >= 3.0
        })
        .await;
        let found = exporter.metrics().await;
        let wrong: Metrics = named(&found, "streamgauge_poll_errors_total")
            .into_iter()
            .chain([(polls("partial"), found[&polls("partial")]), (polls("failed"), found[&polls("failed")])])
            .filter(|(_, count)| *count > 0.0)
            .collect();
        assert_eq!(wrong, Metrics::new(), "{}", exporter.stderr());
        // The same series as with every permission there is.
        let as_default = serving(&format!("{ONCE}targets: [{{name: t, url: '{}'}}]", server.url())).await;
        let names = |metrics: &Metrics| of_streams(metrics).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&polled(&as_default).await));
        assert!(!exporter.stderr().contains("WARN"), "{}", exporter.stderr());
    })
    .await;
}

#[tokio::test]
async fn the_database_of_the_url_is_polled_and_no_other() {
    for_each_server(async |server| {
        let (url, mut third) = (server.url(), RedisClient::at(&format!("{}/3", server.url())).await);
        RedisClient::to(&server).await.run("XADD in-db-0 * f v").await;
        third.run("XADD in-db-3 * f v\nXGROUP CREATE in-db-3 g 0").await;
        let exporter = serving(&format!("{ONCE}targets: [{{name: t, url: '{url}/3'}}]")).await;
        let found = polled(&exporter).await;
        let ups = named(&found, "redis_stream_up");
        assert_eq!(
            ups.keys().collect::<Vec<_>>(),
            [r#"redis_stream_up{target="t",db="db3",stream="in-db-3"}"#]
        );
        let lag = r#"redis_stream_group_lag{target="t",db="db3",stream="in-db-3",group="g"}"#;
        assert_eq!(found[lag], 1.0);
    })
    .await;
}

#[tokio::test]
async fn without_a_file_the_target_is_named_after_its_server() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--requirepass", "pass word"]).await;
        let address = server.address();
        RedisClient::at(&format!("redis://:pass%20word@{address}/1"))
            .await
            .run("XADD orders * f v\nXADD b * f v")
            .await;
        let url = format!("redis://:pass%20word@{address}/1");
        let flags = ["--redis-url", &url, "--stream", "orders", "--stream", "a*", "--interval", "300ms"];
        let exporter = support::program::Streamgauge::serve().args(flags).serving().await;
        let up = format!(r#"redis_stream_up{{target="{address}/1",db="db1",stream="orders"}}"#);
        let found = wait_for(SOON, "the stream is there", async || {
            let found = exporter.metrics().await;
            if found.contains_key(&up) { Ok(found) } else { Err(exporter.stderr()) }
        })
        .await;
        assert_eq!(named(&found, "redis_stream_up"), Metrics::from([(up.clone(), 1.0)]));
    })
    .await;
}

#[tokio::test]
async fn targets_have_their_own_labels_and_can_be_scraped_one_by_one() {
    let (one, two) = (Server::start(newest(), &[]).await, Server::start(newest(), &[]).await);
    RedisClient::to(&one).await.run("XADD orders * f v\nXGROUP CREATE orders g 0").await;
    RedisClient::to(&two).await.run("XADD orders * f v\nXADD orders * f v").await;
    let exporter = serving(&format!(
        "{ONCE}targets:
           - {{name: one, url: '{}', labels: {{team: billing, zone: 'a\"b'}}}}
           - {{name: two, url: '{}', labels: {{zone: '', team: shop}}}}",
        one.url(),
        two.url()
    ))
    .await;
    wait_until(SOON, "both are polled", async || {
        let metrics = exporter.metrics().await;
        named(&metrics, "streamgauge_target_up").values().eq([&1.0, &1.0])
    })
    .await;
    let all = exporter.metrics().await;
    let of_one = r#"target="one",db="db0",stream="orders",team="billing",zone="a\"b"}"#;
    let of_two = r#"target="two",db="db0",stream="orders",team="shop",zone=""}"#;
    assert_eq!(all[&format!("redis_stream_length{{{of_one}")], 1.0);
    assert_eq!(all[&format!("redis_stream_length{{{of_two}")], 2.0);
    let lag = r#"redis_stream_group_lag{target="one",db="db0",stream="orders",group="g",team="billing",zone="a\"b"}"#;
    assert_eq!(all[lag], 1.0);

    let only_two = exporter.get("/metrics?target=two").await;
    assert_eq!(only_two.status, 200);
    let only_two = metrics::parse(&only_two.text());
    let with_target = |metrics: &Metrics, name: &str| {
        let label = format!(r#"target="{name}""#);
        metrics.keys().filter(|series| series.contains(&label)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(with_target(&only_two, "two"), with_target(&all, "two"));
    assert_eq!(with_target(&only_two, "two").len(), only_two.len(), "nothing else is there");

    let nobody = exporter.get("/metrics?target=three").await;
    assert_eq!((nobody.status.as_u16(), nobody.text().as_str()), (404, "there is no target \"three\"\n"));
}

#[tokio::test]
async fn what_is_excluded_is_not_exported() {
    let server = Server::start(newest(), &[]).await;
    fill(&mut RedisClient::to(&server).await).await;
    let exporter = serving(&format!(
        "{ONCE}targets: [{{name: t, url: '{}'}}]
metrics: {{exclude: ['redis_stream_group_consumer_*', redis_stream_length, 'streamgauge_redis_*', 'process_*']}}",
        server.url()
    ))
    .await;
    polled(&exporter).await;
    let text = exporter.get("/metrics").await.text();
    for absent in ["redis_stream_group_consumer_", "redis_stream_length", "streamgauge_redis_", "process_"] {
        assert!(!text.contains(absent), "{absent}");
    }
    let found = metrics::parse(&text);
    for there in
        [stream("redis_stream_groups", "orders"), group("redis_stream_group_consumers", "orders", "behind")]
    {
        assert!(found.contains_key(&there), "{there}");
    }
    let gzipped = http::get_with(exporter.address, "/metrics", &[("accept-encoding", "gzip")]).await.text();
    assert_eq!(
        metrics::parse(&gzipped).into_keys().collect::<Vec<_>>(),
        found.into_keys().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn the_first_scrape_shows_every_target_as_down() {
    let targets: String =
        (0..200).map(|n| format!("  - {{name: t{n}, url: 'redis://127.0.0.1:1'}}\n")).collect();
    let exporter = serving(&format!("{ONCE}targets:\n{targets}")).await;
    let found = exporter.metrics().await;
    let ups = named(&found, "streamgauge_target_up");
    assert_eq!((ups.len(), ups.values().sum::<f64>()), (200, 0.0));
    assert_eq!(named(&found, "streamgauge_polls_total").len(), 3 * 200);
}

#[tokio::test]
async fn the_pages_beside_the_metrics() {
    let server = Server::start(newest(), &[]).await;
    let exporter = serving(&format!("{QUICK}targets: [{{name: t, url: '{}'}}]", server.url())).await;
    polled(&exporter).await;
    assert_eq!(exporter.get("/-/healthy").await.text(), "healthy\n");
    assert_eq!(exporter.get("/-/ready").await.text(), "ready\n");
    let landing = exporter.get("/").await;
    assert_eq!(landing.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(landing.text().contains("href=\"./metrics\""), "{}", landing.text());
    assert_eq!(exporter.get("/nowhere").await.status, 404);
    let found = exporter.metrics().await;
    assert_eq!(found[r#"streamgauge_http_requests_total{code="200",route="/-/ready"}"#], 1.0);
    assert_eq!(found[&errors("protocol")], 0.0);
}
