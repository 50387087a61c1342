//! Streams, groups and consumers that come and go under names that were never seen before, and what else people do to
//! streams. Whatever fails does so because a server is away, which is somebody else's doing.

use std::collections::VecDeque;
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::journal::Journal;
use crate::schedule::{Deck, Plan};
use crate::setup::Node;
use crate::support::server::connect;
use crate::support::snapshot::ask;

/// A change on a node.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Groups are created, read and acknowledge a little, and others are destroyed.
    Groups,
    /// Streams are made, and others deleted; one of them is made anew at once.
    Streams,
    /// Consumers come, and others are deleted with what is pending for them.
    Consumers,
    /// Entries are deleted here and there.
    Deletions,
    /// A stream is trimmed to nothing.
    Emptied,
    /// A group goes back, or ahead.
    Moved,
    /// A stream becomes something else, and a stream again.
    Retyped,
}

const DEEDS: &[Deed] = &[
    Deed::Groups,
    Deed::Groups,
    Deed::Streams,
    Deed::Streams,
    Deed::Consumers,
    Deed::Consumers,
    Deed::Deletions,
    Deed::Emptied,
    Deed::Moved,
    Deed::Retyped,
];

/// Number of streams that are kept on a node.
const KEPT: usize = 12;
/// Time after which a server that does not answer is skipped.
const PATIENCE: Duration = Duration::from_secs(1);

/// A node, and what was made there.
struct GroupState<'a> {
    node: &'a Node,
    connection: Option<MultiplexedConnection>,
    made: usize,
    groups: VecDeque<String>,
    streams: VecDeque<String>,
    consumers: VecDeque<String>,
}

/// The connections, and what was created so far.
pub(crate) struct Churn<'a>(Vec<GroupState<'a>>);

impl<'a> Churn<'a> {
    /// Nothing was made yet.
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        Self(nodes.iter().map(GroupState::new).collect())
    }

    /// One deed after the other, until the time is over.
    pub(crate) async fn run(&mut self, plan: Plan, journal: &Journal) {
        let mut deck = Deck::new(DEEDS, plan, 3);
        while let Some(deed) = deck.deal(20..250).await {
            let at = deck.chance.usize(..self.0.len());
            journal.count(deed);
            let chance = deck.chance.u64(..);
            // What is cut off is as good as what is refused.
            let _ = timeout(2 * PATIENCE, self.0[at].doing(deed, chance)).await;
        }
    }
}

impl<'a> GroupState<'a> {
    fn new(node: &'a Node) -> Self {
        let (groups, streams, consumers) = Default::default();
        Self { node, connection: None, made: 0, groups, streams, consumers }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.node.tag)
    }

    /// A name that was never used here.
    fn fresh(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    /// Sends a command, if there is somebody to send it to.
    async fn run(&mut self, words: &[&str]) -> Option<Value> {
        if self.connection.is_none() {
            self.connection = timeout(PATIENCE, connect(&self.node.url)).await.ok()?.ok();
        }
        let connection = self.connection.as_mut()?;
        match timeout(PATIENCE, ask(connection, words)).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) if error.code().is_some() => None,
            _ => {
                self.connection = None;
                None
            }
        }
    }

    /// Adds entries with IDs of the server.
    async fn fill(&mut self, key: &str, entries: usize) {
        for _ in 0..entries {
            self.run(&["XADD", key, "MAXLEN", "~", "300", "*", "field", "value"]).await;
        }
    }

    async fn read(&mut self, key: &str, group: &str, consumer: &str, count: &str) {
        self.run(&["XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", key, ">"]).await;
    }

    async fn doing(&mut self, deed: Deed, chance: u64) {
        let key = self.key("churn");
        match deed {
            Deed::Groups => self.groups(&key).await,
            Deed::Streams => self.streams().await,
            Deed::Consumers => self.consumers(&key).await,
            Deed::Deletions => self.deletions(&key, chance).await,
            Deed::Emptied => {
                self.run(&["XTRIM", &key, "MAXLEN", "0"]).await;
            }
            Deed::Moved => {
                let Some(group) = self.groups.back().cloned() else { return };
                let to = if chance.is_multiple_of(2) { "0" } else { "$" };
                self.run(&["XGROUP", "SETID", &key, &group, to]).await;
            }
            Deed::Retyped => {
                let key = self.key("retyped");
                self.run(&["SET", &key, "value"]).await;
                self.fill(&key, 1).await;
                self.run(&["DEL", &key]).await;
                self.fill(&key, 5).await;
                self.run(&["XGROUP", "CREATE", &key, "readers", "0"]).await;
            }
        }
    }

    async fn groups(&mut self, key: &str) {
        self.fill(key, 15).await;
        for _ in 0..3 {
            let (group, consumer) = (self.fresh("g"), self.fresh("c"));
            self.run(&["XGROUP", "CREATE", key, &group, "0", "MKSTREAM"]).await;
            self.read(key, &group, &consumer, "7").await;
            self.acknowledge(key, &group).await;
            self.groups.push_back(group);
        }
        while self.groups.len() > KEPT {
            let group = self.groups.pop_front().expect("there are more");
            self.run(&["XGROUP", "DESTROY", key, &group]).await;
        }
    }

    /// The oldest three of what is pending.
    async fn acknowledge(&mut self, key: &str, group: &str) {
        let pending = self.run(&["XPENDING", key, group, "-", "+", "3"]).await;
        for id in first_words(pending) {
            self.run(&["XACK", key, group, &id]).await;
        }
    }

    async fn streams(&mut self) {
        let name = self.fresh("s");
        let key = self.key(&name);
        self.fill(&key, 10).await;
        self.run(&["XGROUP", "CREATE", &key, "readers", "0"]).await;
        self.read(&key, "readers", "reader", "4").await;
        self.streams.push_back(key);
        while self.streams.len() > KEPT {
            let key = self.streams.pop_front().expect("there are more");
            self.run(&["DEL", &key]).await;
        }
        let again = self.key("again");
        self.run(&["DEL", &again]).await;
        self.fill(&again, 3).await;
        self.run(&["XGROUP", "CREATE", &again, "readers", "$"]).await;
        self.fill(&again, 4).await;
    }

    async fn consumers(&mut self, key: &str) {
        self.run(&["XGROUP", "CREATE", key, "members", "0", "MKSTREAM"]).await;
        self.fill(key, 6).await;
        for _ in 0..3 {
            let consumer = self.fresh("m");
            self.read(key, "members", &consumer, "2").await;
            self.consumers.push_back(consumer);
        }
        while self.consumers.len() > KEPT {
            let consumer = self.consumers.pop_front().expect("there are more");
            self.run(&["XGROUP", "DELCONSUMER", key, "members", &consumer]).await;
        }
    }

    async fn deletions(&mut self, key: &str, mut chance: u64) {
        let entries = self.run(&["XRANGE", key, "-", "+", "COUNT", "40"]).await;
        for id in first_words(entries) {
            if chance.is_multiple_of(5) {
                self.run(&["XDEL", key, &id]).await;
            }
            chance = chance.rotate_right(3);
        }
    }
}

/// The first word of each item: IDs.
fn first_words(reply: Option<Value>) -> Vec<String> {
    let Some(Value::Array(items)) = reply else { return Vec::new() };
    let ids = items.into_iter().filter_map(|item| match item {
        Value::Array(mut parts) if !parts.is_empty() => redis::from_redis_value(parts.swap_remove(0)).ok(),
        _ => None,
    });
    ids.collect()
}
