//! A node that streams are read from in one poll.

use redis::{Cmd, Pipeline, cmd};

use crate::poller::node::Node;
use crate::poller::resp::{Value, Values};
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::cluster::RedirectKind;
use redis_stream_lag::snapshot::{ConsumerLimit, EntriesReadMeaning, NodeInfo};

#[derive(Clone, Copy, Debug)]
pub(super) struct NodeReader<'a> {
    pub(super) node: &'a Node,
    pub(super) asking: Asking,
    /// False on replicas: they do not hear of consumers that read nothing.
    pub(super) has_true_consumers: bool,
    pub(super) entries_read: EntriesReadMeaning,
    /// See [`NodeInfo::has_acked_trimming`].
    pub(super) may_have_acked_trimming: bool,
    /// See [`NodeInfo::has_xnack`].
    pub(super) has_xnack: bool,
    /// False on replicas before 7.4: see [`Identity::replicates_entries_read`](crate::poller::node::Identity).
    pub(super) has_true_entries_read: bool,
}

/// States whether each command is preceded by ASKING, which a node demands for slots that are being moved to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    None,
    BeforeEach,
}

impl Asking {
    pub(super) fn after(kind: RedirectKind) -> Self {
        match kind {
            RedirectKind::Moved => Self::None,
            RedirectKind::Ask => Self::BeforeEach,
        }
    }
}

impl NodeReader<'_> {
    /// Returns what a derivation needs to know of the node.
    pub(super) fn info(&self, consumer_limit: ConsumerLimit) -> NodeInfo {
        NodeInfo {
            epoch: self.node.epoch,
            entries_read: self.entries_read,
            has_acked_trimming: self.may_have_acked_trimming,
            has_xnack: self.has_xnack,
            consumer_limit,
        }
    }

    /// Adds a command about a key.
    pub(super) fn add(&self, pipeline: &mut Pipeline, command: Cmd, metrics: &TargetMetrics) {
        if self.asking == Asking::BeforeEach {
            metrics.count_commands(Command::Asking, 1);
            pipeline.add_command(cmd("ASKING"));
        }
        pipeline.add_command(command);
    }

    /// Returns the replies to the commands, without those to ASKING.
    pub(super) fn without_asking<'r>(
        &self,
        replies: Values<'r>,
    ) -> impl Iterator<Item = Value<'r>> + use<'r> {
        let (skipped, step) = match self.asking {
            Asking::None => (0, 1),
            Asking::BeforeEach => (1, 2),
        };
        replies.skip(skipped).step_by(step)
    }
}
