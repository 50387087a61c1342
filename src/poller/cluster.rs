//! Asks a cluster node which master owns which slots.

use std::collections::HashSet;

use redis::cmd;
use tokio::time::Instant;

use crate::poller::decode::topology;
use crate::poller::error::PollError;
use crate::poller::node::Node;
use crate::poller::slots::Range;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::redis_url::Endpoint;

/// The most nodes that Redis Cluster is made for.
const MAX_MASTERS: usize = 1_000;

/// Sends CLUSTER SLOTS, which every version has and which returns the port for the kind of connection in use (TLS or
/// plain), or CLUSTER SHARDS (7.0+) where that is refused.
pub(super) async fn ranges(
    node: &mut Node,
    endpoint: &Endpoint,
    metrics: &TargetMetrics,
    deadline: Instant,
) -> Result<Vec<Range>, PollError> {
    metrics.count_commands(Command::Cluster, 1);
    let decoded = match node.call(cmd("CLUSTER").arg("SLOTS"), deadline).await {
        Ok(reply) => topology::cluster_slots(reply.value()),
        Err(error) if error.is_refusal() => {
            metrics.count_commands(Command::Cluster, 1);
            let reply = node.call(cmd("CLUSTER").arg("SHARDS"), deadline).await.map_err(|_| error)?;
            let port_field: &[u8] = if matches!(endpoint, Endpoint::Tls(_)) { b"tls-port" } else { b"port" };
            topology::cluster_shards(reply.value(), port_field)
        }
        Err(error) => return Err(error),
    };
    let ranges = decoded.map_err(|error| PollError::protocol(&node.address, &error))?;
    let masters: HashSet<_> = ranges.iter().map(|range| &range.master).collect();
    if masters.len() > MAX_MASTERS {
        let count = masters.len();
        let detail = format!("it names {count} masters, and a cluster has at most {MAX_MASTERS}");
        return Err(PollError::Protocol { address: node.address.to_string(), detail });
    }
    Ok(ranges)
}
