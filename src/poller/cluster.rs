//! Asks a cluster node which master owns which slots.

use redis::cmd;
use tokio::time::Instant;

use crate::poller::decode::topology;
use crate::poller::error::PollError;
use crate::poller::node::Node;
use crate::poller::slots::Range;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::redis_url::Endpoint;

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
    decoded.map_err(|error| PollError::protocol(&node.address, &error))
}
