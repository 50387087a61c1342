//! Asking: the questions of one round, all in the same few pipelines.

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use crate::poller::decode;
use crate::poller::error::{KeyError, PollError, concern};
use crate::poller::exchange::{batches, command, exchange};
use crate::poller::names::Names;
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
    names: &mut Names,
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
                pipeline.add_command(command_for(key, &question.ask));
                metrics.count_commands(counted_as(&question.ask), 1);
            }
            Some(pipeline)
        },
        |batch, replies| {
            for (at, reply) in batch.zip(replies) {
                answers[at] = answer(&questions[at].ask, reply, &node.address, names, metrics)?;
            }
            Ok(())
        },
    )
    .await;
    (answers, ended.err())
}

fn command_for(key: &Name, ask: &Ask) -> Cmd {
    let key = key.as_bytes();
    match ask {
        Ask::OldestPending { group } => command([b"XPENDING", key, group.as_bytes(), b"-", b"+", b"1"]),
        Ask::PendingBelow { group, below, at_most } => {
            let (end, count) = (format!("({below}"), at_most.to_string());
            command([b"XPENDING", key, group.as_bytes(), b"-", end.as_bytes(), count.as_bytes()])
        }
        Ask::Consumers { group } => command([b"XINFO", b"CONSUMERS", key, group.as_bytes()]),
        Ask::Whole => command([b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"1"]),
        Ask::Entries { after, until, at_most } => {
            let (start, end, count) = (format!("({after}"), until.to_string(), at_most.to_string());
            command([b"XRANGE", key, start.as_bytes(), end.as_bytes(), b"COUNT", count.as_bytes()])
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

fn answer(
    ask: &Ask,
    reply: Value,
    address: &str,
    names: &mut Names,
    metrics: &TargetMetrics,
) -> Result<Answer, PollError> {
    if let Value::ServerError(error) = reply {
        let error = concern(address, &error)?;
        metrics.count_errors(error.reason(), 1);
        let is_gone = matches!(error, KeyError::Missing | KeyError::MissingGroup);
        return Ok(if is_gone { Answer::Gone } else { Answer::Nothing });
    }
    let decoded = match ask {
        Ask::OldestPending { .. } => decode::oldest_pending(reply).map(Answer::OldestPending),
        Ask::PendingBelow { .. } => decode::length(reply).map(Answer::PendingBelow),
        Ask::Consumers { .. } => decode::xinfo_consumers(reply, names).map(Answer::Consumers),
        Ask::Entries { .. } => decode::xrange(reply).map(Answer::Entries),
        Ask::Whole => decode::xinfo_stream_full(reply).map(|facts| Answer::Whole(Box::new(facts))),
    };
    decoded.or_else(|_| {
        metrics.count_errors(KeyError::Protocol.reason(), 1);
        Ok(Answer::Nothing)
    })
}
