//! The streams and groups of the tests.

use crate::support::client::RedisClient;
use crate::support::server::Server;

/// Creates a group that has read everything, one with pending and undelivered entries, one without consumers, and one
/// with a name that would clear the screen.
pub(crate) async fn fill(server: &Server) {
    let mut client = RedisClient::to(server).await;
    for n in 1..=9 {
        client.run(&format!("XADD orders * n {n}")).await;
    }
    client
        .run(
            "XGROUP CREATE orders done 0
         XREADGROUP GROUP done d1 COUNT 100 NOACK STREAMS orders >
         XGROUP CREATE orders behind 0
         XREADGROUP GROUP behind worker-1 COUNT 3 STREAMS orders >
         XREADGROUP GROUP behind worker-2 COUNT 2 STREAMS orders >
         XGROUP CREATE orders untouched 0
         XADD bills * n 1",
        )
        .await;
    client.ask::<()>(&[&b"XGROUP"[..], b"CREATE", b"bills", b"\x1b[2Jgone", b"$"]).await;
}

/// Returns the cells of a group's row in a printed table.
pub(crate) fn cells(table: &str, group: &str) -> Vec<String> {
    let line = table.lines().find(|line| line.split("  ").any(|cell| cell.trim() == group));
    let line = line.unwrap_or_else(|| panic!("no row of {group} in\n{table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}
