//! Lists pending entries of one group on request. Polls never do this.
//!
//! Each reply is bounded: pages of at most 1,000 entries, each starting after the last.

use std::time::Duration;

use redis::{Cmd, cmd};
use tokio::time::Instant;

use crate::poller::connection::Replies;
use crate::poller::decode::{self, FieldPair};
use crate::poller::error::PollError;
use crate::poller::interner::NameInterner;
use crate::poller::node::Node;
use crate::poller::node_reader::Asking;
use crate::poller::nodes::Nodes;
use crate::poller::resp::Value;
use crate::poller::selection::MAX_CONSUMERS;
use crate::poller::slots::slot;
use redis_stream_core::clock::now;
use redis_stream_core::cluster::Redirect;
use redis_stream_core::name::Name;
use redis_stream_lag::question::PendingEntry;

/// The most redirects that one list follows, as slots may move meanwhile.
const MOST_REDIRECTS: usize = 5;

/// The most entries of one reply.
const PAGE: usize = 1_000;

/// The most bytes of entries that are read for their fields.
const MAX_FIELD_BYTES: u64 = 16 * 1024 * 1024;

/// The entries to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingQuery {
    /// The stream's key.
    pub stream: Name,
    /// The group.
    pub group: Name,
    /// Only entries of this consumer; `None` is all.
    pub consumer: Option<Name>,
    /// Only entries that were last delivered at least so long ago; `None` is all.
    pub min_idle: Option<Duration>,
    /// The most entries to return, from the smallest ID up.
    pub count: usize,
    /// True for the fields of the entries, each of which is read by a command of its own.
    pub fields: bool,
}

impl PendingQuery {
    /// Returns true if an entry is idle for long enough. One that was given back has no idle time.
    fn selects(&self, entry: &PendingEntry) -> bool {
        let idle = entry.idle_ms.map(Duration::from_millis);
        self.min_idle.is_none_or(|least| idle.is_none_or(|idle| idle >= least))
    }
}

/// The pending entries that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingList {
    /// The server's clock, since the Unix epoch; `None` if TIME is refused.
    pub time: Option<Duration>,
    /// The entries with their consumers, in the order of their IDs. The consumer's name is empty for an entry that
    /// was given back.
    pub entries: Vec<(PendingEntry, Name)>,
    /// The fields of the entries, if they were asked for: `None` for an entry that is gone. Fewer than the entries if
    /// their replies were larger than 16 MiB in all.
    pub fields: Vec<Option<Vec<FieldPair>>>,
    /// Number of all pending entries of the group; `None` if XINFO is refused.
    pub total: Option<u64>,
    /// False if the group certainly has no consumer of the name that was asked for.
    pub has_consumer: bool,
}

/// The reason why pending entries cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    /// The node cannot be reached.
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
    /// NOGROUP, and EXISTS is refused: either the stream or the group is missing.
    #[error("there is no stream {stream:?}, or it has no group {group:?}")]
    Neither {
        /// The stream.
        stream: Name,
        /// The group.
        group: Name,
    },
    /// Every node of the cluster redirects to another one.
    #[error("no node of the cluster holds stream {0:?}: each names another")]
    Adrift(Name),
    /// The key holds another type.
    #[error("key {0:?} holds no stream, but another type")]
    NotAStream(Name),
    /// The server refuses XPENDING.
    #[error("the server does not let this user read the pending entries of stream {stream:?}: {detail}")]
    Refused {
        /// The stream.
        stream: Name,
        /// The server's error text.
        detail: String,
    },
}

/// Lists entries from the node that holds the stream. `timeout` applies to each command.
pub(super) async fn list(
    nodes: &mut Nodes,
    query: &PendingQuery,
    timeout: Duration,
) -> Result<PendingList, PendingError> {
    let any = || nodes.connected().next().map(|(at, ..)| at);
    let Some(mut at) = nodes.owner(slot(&query.stream)).or_else(any) else {
        return Ok(PendingList::default());
    };
    let mut asking = Asking::None;
    for _ in 0..MOST_REDIRECTS {
        let Some(node) = nodes.handles[at].node.as_mut() else { break };
        let listed = list_from(node, asking, query, timeout).await;
        let redirect = match &listed {
            Err(PendingError::Poll(PollError::Server { code, detail, .. })) => Redirect::parse(code, detail),
            _ => None,
        };
        let Some(redirect) = redirect else { return listed };
        at = nodes.redirected(&redirect, at, now() + timeout).await?;
        asking = Asking::after(redirect.kind);
    }
    Err(PendingError::Adrift(query.stream.clone()))
}

async fn list_from(
    node: &mut Node,
    asking: Asking,
    query: &PendingQuery,
    timeout: Duration,
) -> Result<PendingList, PendingError> {
    let time = match node.call(&cmd("TIME"), now() + timeout).await {
        Ok(reply) => decode::time(reply.value()).ok(),
        Err(error) if error.is_refusal() => None,
        Err(error) => return Err(error.into()),
    };
    let mut entries: Vec<(PendingEntry, Name)> = Vec::new();
    let mut start = "-".to_owned();
    while entries.len() < query.count {
        // Entries that are not idle for long enough are left out here: with IDLE, one command may search the whole list.
        let page = if query.min_idle.is_some() { PAGE } else { PAGE.min(query.count - entries.len()) };
        if asking == Asking::BeforeEach {
            node.call(&cmd("ASKING"), now() + timeout).await?;
        }
        let found = one_page(node, query, &command(query, &start, page), now() + timeout).await?;
        let last = found.last().filter(|_| found.len() == page).map(|(entry, _)| entry.id);
        entries.extend(found.into_iter().filter(|(entry, _)| query.selects(entry)));
        let Some(last) = last else { break };
        start = format!("({last}");
    }
    entries.truncate(query.count);
    let mut list = PendingList { time, entries, fields: Vec::new(), total: None, has_consumer: true };
    if query.fields {
        list.fields = fields(node, asking, query, &list.entries, timeout).await?;
    }
    // A command that follows needs an ASKING of its own; what it tells is not worth that.
    if asking == Asking::None {
        add_totals(node, query, &mut list, now() + timeout).await?;
    }
    Ok(list)
}

/// Reads the fields of entries, one by one: the entries between two of them are not wanted.
async fn fields(
    node: &mut Node,
    asking: Asking,
    query: &PendingQuery,
    entries: &[(PendingEntry, Name)],
    timeout: Duration,
) -> Result<Vec<Option<Vec<FieldPair>>>, PendingError> {
    let (mut found, mut bytes) = (Vec::with_capacity(entries.len()), 0);
    for (entry, _) in entries {
        if asking == Asking::BeforeEach {
            node.call(&cmd("ASKING"), now() + timeout).await?;
        }
        let id = entry.id.to_string();
        let reply =
            node.call(cmd("XRANGE").arg(query.stream.as_bytes()).arg(&id).arg(&id), now() + timeout).await?;
        let fields = decode::entry_fields(reply.value());
        let fields = fields.map_err(|error| PollError::protocol(&node.address, &error))?;
        bytes += fields.iter().flatten().map(|(name, value)| name.length() + value.length()).sum::<u64>();
        found.push(fields);
        if bytes > MAX_FIELD_BYTES {
            break;
        }
    }
    Ok(found)
}

/// Adds the number of all pending entries, and looks for a consumer without any. A refused XINFO leaves both unknown.
async fn add_totals(
    node: &mut Node,
    query: &PendingQuery,
    list: &mut PendingList,
    deadline: Instant,
) -> Result<(), PendingError> {
    let (stream, group) = (query.stream.as_bytes(), query.group.as_bytes());
    let reply = match node.call(cmd("XINFO").arg("GROUPS").arg(stream), deadline).await {
        Ok(reply) => reply,
        Err(error) if error.is_refusal() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let groups = decode::xinfo_groups(reply.value());
    let groups = groups.map_err(|error| PollError::protocol(&node.address, &error))?;
    let Some(found) = groups.iter().find(|found| found.name == group) else { return Ok(()) };
    list.total = Some(found.pending);
    let Some(consumer) = query.consumer.as_ref().filter(|_| list.entries.is_empty()) else { return Ok(()) };
    if found.consumers > MAX_CONSUMERS {
        return Ok(());
    }
    let reply = match node.call(cmd("XINFO").arg("CONSUMERS").arg(stream).arg(group), deadline).await {
        Ok(reply) => reply,
        Err(error) if error.is_refusal() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let consumers = decode::xinfo_consumers(reply.value(), &mut NameInterner::default());
    let consumers = consumers.map_err(|error| PollError::protocol(&node.address, &error))?;
    list.has_consumer = consumers.iter().any(|known| known.name == *consumer);
    Ok(())
}

fn command(query: &PendingQuery, start: &str, count: usize) -> Cmd {
    let mut command = cmd("XPENDING");
    command.arg(query.stream.as_bytes()).arg(query.group.as_bytes());
    command.arg(start).arg("+").arg(count);
    if let Some(consumer) = &query.consumer {
        command.arg(consumer.as_bytes());
    }
    command
}

async fn one_page(
    node: &mut Node,
    query: &PendingQuery,
    command: &Cmd,
    deadline: Instant,
) -> Result<Vec<(PendingEntry, Name)>, PendingError> {
    let reply = match node.call(command, deadline).await {
        Ok(reply) => reply,
        Err(refused @ PollError::Server { .. }) => {
            return Err(permission_hint(node, query, refused, deadline).await);
        }
        Err(error) => return Err(error.into()),
    };
    decode::pending(reply.value()).map_err(|error| PollError::protocol(&node.address, &error).into())
}

/// Explains an error reply to XPENDING.
async fn permission_hint(
    node: &mut Node,
    query: &PendingQuery,
    refused: PollError,
    deadline: Instant,
) -> PendingError {
    let (stream, group) = (query.stream.clone(), query.group.clone());
    let PollError::Server { address, code, detail } = refused else { return refused.into() };
    match code.as_str() {
        // The server returns NOGROUP for a missing key, too.
        "NOGROUP" => {
            let mut exists = cmd("EXISTS");
            let replies = node.call(exists.arg(stream.as_bytes()), deadline).await;
            match replies.as_ref().map(Replies::value) {
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
