//! Pending entries of one group, listed for a person who asks for them. Polls never do this.
//!
//! Each reply is bounded: pages of at most [`PAGE`] entries, each beginning behind the last. With
//! [`Query::min_idle`] the server is sent IDLE, and then walks the whole PEL of the group, or of the consumer, for
//! each page: 100,000 entries keep it from its other clients for some 10 ms.

use std::time::Duration;

use redis::{Cmd, Value, cmd};
use tokio::time::Instant;

use crate::poller::decode;
use crate::poller::error::PollError;
use crate::poller::fleet::Fleet;
use crate::poller::node::Node;
use crate::poller::slots::slot;
use crate::poller::source::Courtesy;
use redis_stream_core::clock::now;
use redis_stream_core::cluster::Redirect;
use redis_stream_core::name::Name;
use redis_stream_lag::question::PendingEntry;

/// How often a node may send us to another one for a list: slots may move meanwhile.
const MOST_REDIRECTS: usize = 5;

/// Most entries of one reply.
pub const PAGE: usize = 1_000;

/// Which entries are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Key of the stream.
    pub stream: Name,
    /// The group.
    pub group: Name,
    /// Only those of this consumer; `None` is all.
    pub consumer: Option<Name>,
    /// Only those that were last delivered so long ago; `None` is all.
    pub min_idle: Option<Duration>,
    /// No more than these, from the smallest ID up.
    pub count: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The server's clock, as the time since the Unix epoch; `None` where it does not tell.
    pub time: Option<Duration>,
    /// The entries with their consumers, from the smallest ID up. The name of a consumer is empty where an entry
    /// was given back.
    pub entries: Vec<(PendingEntry, Name)>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    /// The node could not be asked.
    #[error(transparent)]
    Poll(#[from] PollError),
    /// There is no such key.
    #[error("there is no stream {0:?}")]
    NoStream(Name),
    /// The stream has no such group.
    #[error("stream {stream:?} has no group {group:?}")]
    NoGroup {
        /// The stream.
        stream: Name,
        /// The group.
        group: Name,
    },
    /// It cannot be told which of the two is missing.
    #[error("there is no stream {stream:?}, or it has no group {group:?}")]
    Neither {
        /// The stream.
        stream: Name,
        /// The group.
        group: Name,
    },
    /// Each node of a cluster says that another one holds it.
    #[error("no node of the cluster holds stream {0:?}: each names another")]
    Adrift(Name),
    /// The key holds something else.
    #[error("key {0:?} holds no stream, but another type")]
    NotAStream(Name),
    /// The server refuses it.
    #[error("the server does not let this user read the pending entries of stream {stream:?}: {detail}")]
    Refused {
        /// The stream.
        stream: Name,
        /// What it said.
        detail: String,
    },
}

/// Lists them, from the node that holds the stream. `timeout` is the deadline of each command.
pub(super) async fn list(
    fleet: &mut Fleet,
    query: &Query,
    timeout: Duration,
) -> Result<Listed, PendingError> {
    let any = || fleet.connected().next().map(|(at, ..)| at);
    let Some(mut at) = fleet.home(slot(&query.stream)).or_else(any) else { return Ok(Listed::default()) };
    let mut courtesy = Courtesy::None;
    for _ in 0..MOST_REDIRECTS {
        let Some(node) = fleet.members[at].node.as_mut() else { break };
        let listed = list_from(node, courtesy, query, timeout).await;
        let redirect = match &listed {
            Err(PendingError::Poll(PollError::Server { code, detail, .. })) => Redirect::parse(code, detail),
            _ => None,
        };
        let Some(redirect) = redirect else { return listed };
        at = fleet.redirected(&redirect, at, now() + timeout).await?;
        courtesy = Courtesy::towards(redirect.kind);
    }
    Err(PendingError::Adrift(query.stream.clone()))
}

/// Lists them, page by page.
async fn list_from(
    node: &mut Node,
    courtesy: Courtesy,
    query: &Query,
    timeout: Duration,
) -> Result<Listed, PendingError> {
    let time = match node.call(&cmd("TIME"), now() + timeout).await {
        Ok(reply) => decode::time(reply).ok(),
        Err(error) if error.is_refusal() => None,
        Err(error) => return Err(error.into()),
    };
    let mut entries: Vec<(PendingEntry, Name)> = Vec::new();
    while entries.len() < query.count {
        let page = PAGE.min(query.count - entries.len());
        let after = entries.last().map(|(entry, _)| entry.id);
        let start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        if courtesy == Courtesy::Asking {
            node.call(&cmd("ASKING"), now() + timeout).await?;
        }
        let found = one_page(node, query, &command(query, &start, page), now() + timeout).await?;
        let is_last = found.len() < page;
        entries.extend(found);
        if is_last {
            break;
        }
    }
    Ok(Listed { time, entries })
}

fn command(query: &Query, start: &str, count: usize) -> Cmd {
    let mut command = cmd("XPENDING");
    command.arg(query.stream.as_bytes()).arg(query.group.as_bytes());
    if let Some(idle) = query.min_idle {
        command.arg("IDLE").arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
    }
    command.arg(start).arg("+").arg(count);
    if let Some(consumer) = &query.consumer {
        command.arg(consumer.as_bytes());
    }
    command
}

async fn one_page(
    node: &mut Node,
    query: &Query,
    command: &Cmd,
    deadline: Instant,
) -> Result<Vec<(PendingEntry, Name)>, PendingError> {
    let reply = match node.call(command, deadline).await {
        Ok(reply) => reply,
        Err(refused @ PollError::Server { .. }) => return Err(explain(node, query, refused, deadline).await),
        Err(error) => return Err(error.into()),
    };
    decode::pending(reply).map_err(|error| {
        PollError::Protocol { address: node.address.to_string(), detail: error.to_string() }.into()
    })
}

/// What an error reply means for this stream.
async fn explain(node: &mut Node, query: &Query, refused: PollError, deadline: Instant) -> PendingError {
    let (stream, group) = (query.stream.clone(), query.group.clone());
    let PollError::Server { address, code, detail } = refused else { return refused.into() };
    match code.as_str() {
        // Said of a key that is missing, too.
        "NOGROUP" => {
            let mut exists = cmd("EXISTS");
            match node.call(exists.arg(stream.as_bytes()), deadline).await {
                Ok(Value::Int(0)) => PendingError::NoStream(stream),
                Ok(Value::Int(_)) => PendingError::NoGroup { stream, group },
                _ => PendingError::Neither { stream, group },
            }
        }
        "WRONGTYPE" => PendingError::NotAStream(stream),
        "NOPERM" => PendingError::Refused { stream, detail },
        _ => PollError::Server { address, code, detail }.into(),
    }
}
