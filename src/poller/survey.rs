//! Asks what a configuration has to state and polls do not need: the masters and other sentinels that a sentinel knows,
//! and the commands that a user may not run. Each question opens a connection of its own.

use redis::{Cmd, cmd};
use tokio::time::Instant;

use crate::config::Target;
use crate::poller::decode::topology;
use crate::poller::error::PollError;
use crate::poller::node::{Login, Node};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::cluster::endpoint_of;
use redis_stream_core::dial::Dialer;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_lag::snapshot::Epoch;

/// The most sentinels beside the one that is asked.
const MAX_OTHERS: usize = 4;

/// A key that need not exist: permissions are checked before keys are looked up.
const KEY: &str = "streamgauge:init";

/// The permissions of a poll, each with a command that needs it and changes nothing.
const PERMISSIONS: [(&str, &[&str]); 9] = [
    ("+xinfo|stream", &["XINFO", "STREAM", KEY]),
    ("+xinfo|groups", &["XINFO", "GROUPS", KEY]),
    ("+xinfo|consumers", &["XINFO", "CONSUMERS", KEY, "-"]),
    ("+xpending", &["XPENDING", KEY, "-", "-", "+", "1"]),
    ("+xrange", &["XRANGE", KEY, "-", "+", "COUNT", "1"]),
    ("+scan", &["SCAN", "0", "MATCH", KEY, "COUNT", "1", "TYPE", "stream"]),
    ("+time", &["TIME"]),
    ("+info", &["INFO", "server"]),
    NO_TOUCH,
];
const NO_TOUCH: (&str, &[&str]) = ("+client|no-touch", &["CLIENT", "NO-TOUCH", "ON"]);
const CLUSTER: [(&str, &[&str]); 2] = [("+cluster|slots", &["CLUSTER", "SLOTS"]), ("+asking", &["ASKING"])];

/// A master that a sentinel monitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitoredMaster {
    /// Its name in Sentinel.
    pub name: String,
    /// The first few other sentinels; none where the sentinel refuses to name them.
    pub other_sentinels: Vec<Endpoint>,
}

/// Returns the masters that the sentinel at `endpoint` monitors, with the login of the target.
///
/// # Errors
///
/// It does not answer, or is no sentinel.
pub async fn monitored_masters(
    target: &Target,
    endpoint: &Endpoint,
    deadline: Instant,
) -> Result<Vec<MonitoredMaster>, PollError> {
    let login = Login { db: 0, ..Login::of(target) };
    let mut node = connect(login, target, endpoint, deadline).await?;
    let reply = node.call(cmd("SENTINEL").arg("MASTERS"), deadline).await?;
    let names =
        topology::master_names(reply.value()).map_err(|error| PollError::protocol(&node.address, &error))?;
    drop(reply);
    let mut masters = Vec::with_capacity(names.len());
    for name in names {
        let other_sentinels = match node.call(cmd("SENTINEL").arg("SENTINELS").arg(&name), deadline).await {
            Ok(reply) => topology::sentinel_addresses(reply.value())
                .map_err(|error| PollError::protocol(&node.address, &error))?
                .iter()
                .take(MAX_OTHERS)
                .map(|address| endpoint_of(address, endpoint))
                .collect(),
            Err(error) if error.is_refusal() => Vec::new(),
            Err(error) => return Err(error),
        };
        masters.push(MonitoredMaster { name, other_sentinels });
    }
    Ok(masters)
}

/// Returns the permissions that the target's user lacks on the node at `endpoint`. The server records each command that
/// it denies in its ACL LOG.
///
/// # Errors
///
/// The node does not answer.
pub async fn missing_permissions(
    target: &Target,
    endpoint: &Endpoint,
    is_cluster: bool,
    deadline: Instant,
) -> Result<Vec<&'static str>, PollError> {
    let mut node = connect(Login::of(target), target, endpoint, deadline).await?;
    let identity = node.identify(&TargetMetrics::unexported(&target.name), deadline).await?;
    let knows_no_touch = identity.is_some_and(|identity| identity.knows_no_touch());
    let of_cluster: &[_] = if is_cluster { &CLUSTER } else { &[] };
    let mut missing = Vec::new();
    for (permission, words) in PERMISSIONS.iter().chain(of_cluster) {
        if *permission == NO_TOUCH.0 && !knows_no_touch {
            continue;
        }
        match node.call(&command(words), deadline).await {
            Err(error) if error.is_command_denied() => missing.push(*permission),
            Err(
                error @ (PollError::Lost { .. } | PollError::Timeout { .. } | PollError::Protocol { .. }),
            ) => {
                return Err(error);
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(missing)
}

async fn connect(
    login: Login<'_>,
    target: &Target,
    endpoint: &Endpoint,
    deadline: Instant,
) -> Result<Node, PollError> {
    let metrics = TargetMetrics::unexported(&target.name);
    Node::connect(login, &Dialer::new(target.tls.clone()), endpoint, Epoch(0), &metrics, deadline).await
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}
