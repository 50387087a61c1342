//! Typical streams: read by XREADGROUP, partly acknowledged, with one group behind the other.

use redis::Pipeline;
use redis::aio::MultiplexedConnection;

use crate::support::server::Server;

/// Entries per stream.
const ENTRIES: u64 = 20;
/// Name of each group, number of entries that each of its consumers read, and number that it acknowledged.
const GROUPS: [(&str, [u64; 3], u64); 2] = [("billing", [7, 7, 6], 12), ("shipping", [4, 3, 3], 5)];
/// Streams per pipeline.
const BATCH: usize = 100;
/// Time between two entries of a stream.
const STEP_MS: u64 = 500;

/// Streams of 20 entries, each with 2 groups of 3 consumers.
pub(crate) struct StreamLoad {
    /// Number of streams.
    pub(crate) streams: usize,
}

impl StreamLoad {
    /// Fills an empty server.
    pub(crate) async fn fill(&self, server: &Server) {
        let mut connection = server.connection().await;
        let (seconds, _): (u64, u64) =
            redis::cmd("TIME").query_async(&mut connection).await.expect("the server tells its time");
        let first_ms = seconds * 1_000 - ENTRIES * STEP_MS;
        for start in (0..self.streams).step_by(BATCH) {
            let mut pipeline = Pipeline::new();
            for stream in start..self.streams.min(start + BATCH) {
                fill_stream(stream, first_ms, &mut pipeline);
            }
            send(&pipeline, &mut connection).await;
        }
    }
}

/// Adds an entry to each stream and lets each group read one, so that every group moves.
pub(crate) async fn move_all(streams: usize, connection: &mut MultiplexedConnection) {
    for start in (0..streams).step_by(BATCH) {
        let mut pipeline = Pipeline::new();
        for stream in start..streams.min(start + BATCH) {
            let key = format!("orders:{stream:05}");
            pipeline.cmd("XADD").arg(&key).arg("*").arg("order").arg(stream).ignore();
            for (group, ..) in GROUPS {
                pipeline.cmd("XREADGROUP").arg("GROUP").arg(group).arg(format!("{group}-0"));
                pipeline.arg("COUNT").arg(1).arg("STREAMS").arg(&key).arg(">").ignore();
            }
        }
        send(&pipeline, connection).await;
    }
}

fn fill_stream(stream: usize, first_ms: u64, pipeline: &mut Pipeline) {
    let key = format!("orders:{stream:05}");
    let id = |entry: u64| format!("{}-0", first_ms + entry * STEP_MS);
    for entry in 0..ENTRIES {
        let order = stream as u64 * ENTRIES + entry;
        pipeline.cmd("XADD").arg(&key).arg(id(entry));
        pipeline.arg("order").arg(order).arg("customer").arg(order % 977).arg("amount").arg("42.50");
        pipeline.arg("note").arg("leave it at the back door, please").ignore();
    }
    for (group, read, acknowledged) in GROUPS {
        pipeline.cmd("XGROUP").arg("CREATE").arg(&key).arg(group).arg("0").ignore();
        for (consumer, count) in read.into_iter().enumerate() {
            pipeline.cmd("XREADGROUP").arg("GROUP").arg(group).arg(format!("{group}-{consumer}"));
            pipeline.arg("COUNT").arg(count).arg("STREAMS").arg(&key).arg(">").ignore();
        }
        pipeline.cmd("XACK").arg(&key).arg(group);
        for entry in 0..acknowledged {
            pipeline.arg(id(entry));
        }
        pipeline.ignore();
    }
}

async fn send(pipeline: &Pipeline, connection: &mut MultiplexedConnection) {
    let () = pipeline.query_async(connection).await.expect("the server takes the streams");
}
