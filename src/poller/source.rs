//! A node that streams are read from in one poll.

use redis::{Cmd, Pipeline, Value, cmd};

use crate::poller::node::Node;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::cluster::RedirectKind;

/// A node that streams are read from, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) node: &'a Node,
    pub(super) courtesy: Courtesy,
    /// Whether the node's word on consumers can be trusted: a replica's cannot.
    pub(super) has_true_consumers: bool,
    /// Whether its word on entries-read can be.
    pub(super) has_true_entries_read: bool,
}

/// Whether a node has to be told that it is asked for slots that are still on their way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Courtesy {
    /// They are its own.
    None,
    /// ASKING goes before each command.
    Asking,
}

impl Courtesy {
    /// What is due to a node that another one sent us to.
    pub(super) fn towards(kind: RedirectKind) -> Self {
        match kind {
            RedirectKind::Moved => Self::None,
            RedirectKind::Ask => Self::Asking,
        }
    }
}

impl Source<'_> {
    /// Adds a command about a key.
    pub(super) fn add(&self, pipeline: &mut Pipeline, command: Cmd, metrics: &TargetMetrics) {
        if self.courtesy == Courtesy::Asking {
            metrics.count_commands(Command::Asking, 1);
            pipeline.add_command(cmd("ASKING"));
        }
        pipeline.add_command(command);
    }

    /// The replies to the commands alone.
    pub(super) fn without_asking(&self, replies: Vec<Value>) -> impl Iterator<Item = Value> + use<> {
        let (skipped, step) = match self.courtesy {
            Courtesy::None => (0, 1),
            Courtesy::Asking => (1, 2),
        };
        replies.into_iter().skip(skipped).step_by(step)
    }
}
