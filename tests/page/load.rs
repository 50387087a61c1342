//! Many readers of a page with very many groups, all at once.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use crate::support::client::RedisClient;
use crate::support::config::{ONCE, serving};
use crate::support::program::Exporter;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_until;

const READERS: usize = 50;
/// More than the answers that are rendered at once need, and much less than all answers together.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// 1,000 streams with ten groups each.
const FILL: &str = "for s = 1, 1000 do for g = 1, 10 do \
                    redis.call('XGROUP', 'CREATE', 'stream:' .. s, 'group-' .. g, '0', 'MKSTREAM') end end";

/// Returns a size of the process from /proc, in bytes.
fn memory(exporter: &Exporter, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn fifty_readers_of_ten_thousand_groups_keep_nobody_waiting_and_ask_redis_nothing() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.ask::<()>(&["EVAL", FILL, "0"]).await;
    let exporter = serving(&format!("{ONCE}targets: [{{name: t, url: '{}'}}]", server.url())).await;
    wait_until(Duration::from_secs(60), "all groups are known", async || {
        exporter.get("/api/v1/groups?limit=1").await.text().contains("\"matched\":10000")
    })
    .await;
    let asked = client.calls("xinfo|groups").await;
    assert!(asked >= 1_000, "{asked}");
    // Resets the peak.
    fs::write(format!("/proc/{}/clear_refs", exporter.pid()), "5").unwrap();
    let before = memory(&exporter, "VmRSS:");

    let read = |reader: usize| {
        let path = ["/", "/?q=group-7&sort=lag", "/?sort=group&page=200"][reader % 3];
        let exporter = &exporter;
        async move {
            let answer = exporter.get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.text().contains("</html>"), "{path}");
        }
    };
    let healthy = async {
        for _ in 0..10 {
            assert_eq!(exporter.get("/-/healthy").await.status, 200);
        }
    };
    tokio::join!(join_all((0..READERS).map(read)), healthy);

    let more = memory(&exporter, "VmHWM:").saturating_sub(before);
    assert!(more < MAX_BYTES, "{more} bytes more than {before}");
    assert_eq!(client.calls("xinfo|groups").await, asked);
}
