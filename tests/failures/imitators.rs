//! Servers and services that imitate Redis, played by a proxy before a real server: docs/works-with.md says what each of
//! them is known to do.

use crate::support::imitator::{Imitation, Imitator};
use crate::support::metrics::{Metrics, named};
use crate::support::series::{TARGET_UP, errors, group, polls, stream, up};
use crate::support::server::Server;
use crate::support::servers::for_each_server;
use crate::support::watch::{until_metrics, watching, with_streams};

const UNKNOWN: &str = "ERR unknown command";

/// Watches a server through this imitation until some polls have ended, and returns the metrics.
async fn watched(server: &Server, imitation: Imitation) -> Metrics {
    let imitator = Imitator::before(server.address(), imitation).await;
    let exporter = watching(&imitator.url()).await;
    let what = format!("{imitation:?} is polled");
    let found = until_metrics(&exporter, &what, |metrics| metrics[&polls("ok")] >= 4.0).await;
    exporter.stop().await;
    found
}

/// Checks that both streams of [`with_streams`] are there, with exact lags.
fn assert_exact(found: &Metrics, imitation: &Imitation) {
    for (key, entries) in [("a", 1.0), ("b", 2.0)] {
        for (series, expected) in [
            (up(key), 1.0),
            (stream("redis_stream_length", key), entries),
            (stream("redis_stream_groups", key), 1.0),
            (group("redis_stream_group_lag", key, "g"), entries),
            (group("redis_stream_group_lag_min", key, "g"), entries),
            (group("redis_stream_group_lag_max", key, "g"), entries),
        ] {
            assert_eq!(found.get(&series), Some(&expected), "{series} of {imitation:?}: {found:#?}");
        }
    }
}

#[tokio::test]
async fn the_lag_is_exact_whatever_a_server_reports_or_leaves_out() {
    let imitations = [
        // Dragonfly before October 2023.
        Imitation { without: &["entries-read", "lag"], ..Imitation::default() },
        // Kvrocks.
        Imitation {
            without: &["radix-tree-keys", "radix-tree-nodes", "groups"],
            with: &[("lag", ":18446744073709551613"), ("entries-read", ":9223372036854775807")],
            ..Imitation::default()
        },
        // The same, and counts that no server reports, in fields that are not needed.
        Imitation {
            with: &[
                ("lag", ":-9223372036854775809"),
                ("entries-read", ":18446744073709551615"),
                ("pel-count", ":18446744073709551615"),
                ("recorded-first-entry-id", ":340282366920938463463374607431768211456"),
            ],
            ..Imitation::default()
        },
        // Forks of Redis 6.2, such as KeyDB, behind the version of a newer one.
        Imitation {
            without: &[
                "entries-added",
                "max-deleted-entry-id",
                "recorded-first-entry-id",
                "entries-read",
                "lag",
                "inactive",
            ],
            with: &[("version", "$5\r\n8.2.0")],
            ..Imitation::default()
        },
        Imitation {
            with: &[("lag", ":-5"), ("entries-read", "$-1"), ("version", "$0\r\n"), ("mode", "$0\r\n")],
            ..Imitation::default()
        },
        // Proxies and services.
        Imitation {
            refused: &[("HELLO", UNKNOWN), ("CLIENT", UNKNOWN), ("INFO", UNKNOWN), ("TIME", UNKNOWN)],
            ..Imitation::default()
        },
    ];
    for_each_server(async |server| {
        with_streams(&server).await;
        for imitation in imitations {
            let found = watched(&server, imitation).await;
            assert_eq!(found[TARGET_UP], 1.0, "{imitation:?}");
            assert_exact(&found, &imitation);
        }
    })
    .await;
}

#[tokio::test]
async fn an_integer_out_of_range_costs_its_stream_and_not_the_target() {
    const TOO_LARGE: &str = ":18446744073709551613";
    const CHANGES: [[(&str, &str); 1]; 6] = [
        [("length", TOO_LARGE)],
        [("length", ":-9223372036854775809")],
        [("groups", TOO_LARGE)],
        [("entries-added", ":340282366920938463463374607431768211456")],
        [("consumers", TOO_LARGE)],
        [("pending", TOO_LARGE)],
    ];
    for_each_server(async |server| {
        with_streams(&server).await;
        for with in &CHANGES {
            if with[0].0 == "entries-added" && server.program().version < (7, 0, 0) {
                continue;
            }
            let imitation = Imitation { with, ..Imitation::default() };
            let found = watched(&server, imitation).await;
            assert_eq!(found[TARGET_UP], 1.0, "{imitation:?}");
            assert!(found[&errors("protocol")] > 0.0, "{imitation:?}: {found:#?}");
            assert_eq!((found[&up("a")], found[&up("b")]), (0.0, 0.0), "{imitation:?}");
            assert_eq!(named(&found, "redis_stream_group_lag"), Metrics::new(), "{imitation:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_server_refuses_is_absent_and_the_rest_is_there() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        client.run("XGROUP CREATE b h 0\nXREADGROUP GROUP h c COUNT 1 STREAMS b >").await;
        let refused = &[("XINFO CONSUMERS", UNKNOWN), ("XPENDING", UNKNOWN)];
        let found = watched(&server, Imitation { refused, ..Imitation::default() }).await;
        assert_eq!(found[&group("redis_stream_group_lag", "b", "h")], 1.0);
        assert_eq!(found[&group("redis_stream_group_messages_pending", "b", "h")], 1.0);
        for absent in ["oldest_pending_age_seconds", "consumer_idle_seconds", "messages_released"] {
            let series = named(&found, &format!("redis_stream_group_{absent}"));
            assert!(series.keys().all(|series| !series.contains("group=\"h\"")), "{series:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_is_down_and_its_groups_are_absent() {
    let imitations = [
        // As Redis before 5, and services that block it.
        Imitation { refused: &[("XINFO", UNKNOWN)], ..Imitation::default() },
        // Pika.
        Imitation {
            refused: &[("XINFO GROUPS", UNKNOWN)],
            without: &["first-entry", "last-entry", "groups"],
            ..Imitation::default()
        },
    ];
    for_each_server(async |server| {
        with_streams(&server).await;
        for imitation in imitations {
            let imitator = Imitator::before(server.address(), imitation).await;
            let exporter = watching(&imitator.url()).await;
            let found = until_metrics(&exporter, "errors are counted", |metrics| {
                metrics[&errors("server")] + metrics[&errors("protocol")] >= 8.0
            })
            .await;
            assert_eq!(found.get(&up("a")), Some(&0.0), "{imitation:?}: {found:#?}");
            assert_eq!(named(&found, "redis_stream_group_lag"), Metrics::new(), "{imitation:?}");
            exporter.stop().await;
        }
    })
    .await;
}
