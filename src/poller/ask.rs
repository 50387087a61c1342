//! Asking: the questions of one round, all in the same few pipelines.

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::time::Instant;

use crate::poller::decode;
use crate::poller::error::{KeyError, PollError, concern};
use crate::poller::exchange::{batches, exchange};
use crate::poller::node::Node;
use crate::self_metrics::TargetMetrics;
use crate::self_metrics::labels::Command;
use crate::snapshot::facts::NodeReading;
use crate::snapshot::name::Name;
use crate::snapshot::question::{Answer, Ask, Question};

/// Puts questions about the streams of one node, and returns an answer for each, in their order. An error is
/// why the rest was not answered.
pub(super) async fn ask(
    node: &Node,
    reading: &NodeReading,
    questions: &[Question],
    metrics: &TargetMetrics,
    deadline: Instant,
) -> (Vec<Answer>, Option<PollError>) {
    let mut answers = vec![Answer::Nothing; questions.len()];
    let batches = batches(questions.iter().map(|question| question.reply_bytes));
    let ended = exchange(
        &node.connection,
        &node.address,
        deadline,
        batches,
        |batch| {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for question in &questions[batch] {
                let key = &reading.streams[question.stream.stream].key;
                pipeline.add_command(command(key, &question.ask));
                metrics.count_commands(counted_as(&question.ask), 1);
            }
            Some(pipeline)
        },
        |batch, replies| {
            for (at, reply) in batch.zip(replies) {
                answers[at] = answer(&questions[at].ask, reply, &node.address, metrics)?;
            }
            Ok(())
        },
    )
    .await;
    (answers, ended.err())
}

fn command(key: &Name, ask: &Ask) -> Cmd {
    let key = key.as_bytes();
    match ask {
        Ask::OldestPending { group } => {
            let mut xpending = cmd("XPENDING");
            xpending.arg(key).arg(group.as_bytes()).arg("-").arg("+").arg(1);
            xpending
        }
        Ask::PendingBelow { group, below, at_most } => {
            let mut xpending = cmd("XPENDING");
            xpending.arg(key).arg(group.as_bytes()).arg("-").arg(format!("({below}")).arg(*at_most);
            xpending
        }
        Ask::Consumers { group } => {
            let mut xinfo = cmd("XINFO");
            xinfo.arg("CONSUMERS").arg(key).arg(group.as_bytes());
            xinfo
        }
        Ask::Whole => {
            let mut xinfo = cmd("XINFO");
            xinfo.arg("STREAM").arg(key).arg("FULL").arg("COUNT").arg(1);
            xinfo
        }
        Ask::Entries { after, until, at_most } => {
            let mut xrange = cmd("XRANGE");
            xrange.arg(key).arg(format!("({after}")).arg(until.to_string()).arg("COUNT").arg(*at_most);
            xrange
        }
    }
}

fn counted_as(ask: &Ask) -> Command {
    match ask {
        Ask::OldestPending { .. } | Ask::PendingBelow { .. } => Command::Xpending,
        Ask::Consumers { .. } => Command::XinfoConsumers,
        Ask::Whole => Command::XinfoStream,
        Ask::Entries { .. } => Command::Xrange,
    }
}

fn answer(ask: &Ask, reply: Value, address: &str, metrics: &TargetMetrics) -> Result<Answer, PollError> {
    if let Value::ServerError(error) = reply {
        let error = concern(address, &error)?;
        metrics.count_errors(error.reason(), 1);
        let is_gone = matches!(error, KeyError::Missing | KeyError::MissingGroup);
        return Ok(if is_gone { Answer::Gone } else { Answer::Nothing });
    }
    let decoded = match ask {
        Ask::OldestPending { .. } => decode::oldest_pending(reply).map(Answer::OldestPending),
        Ask::PendingBelow { .. } => decode::length(reply).map(Answer::PendingBelow),
        Ask::Consumers { .. } => decode::xinfo_consumers(reply).map(Answer::Consumers),
        Ask::Entries { .. } => decode::xrange(reply).map(Answer::Entries),
        Ask::Whole => decode::xinfo_stream_full(reply).map(Answer::Whole),
    };
    decoded.or_else(|_| {
        metrics.count_errors(KeyError::Protocol.reason(), 1);
        Ok(Answer::Nothing)
    })
}
