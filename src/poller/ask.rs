//! Asks a derivation's questions, in as few pipelines as possible.

use redis::{Cmd, Pipeline};
use tokio::time::Instant;

use crate::poller::decode;
use crate::poller::error::{KeyError, PollError, classify_reply};
use crate::poller::interner::NameInterner;
use crate::poller::node_reader::NodeReader;
use crate::poller::pipeline::{Turn, command, run_pipelines};
use crate::poller::resp::Value;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::name::Name;
use redis_stream_lag::question::{Answer, Question, QuestionKind};

/// Asks each question of the node that its stream was read from. Returns an answer for each question, in order, and
/// for each node the error that cut it short. `readers` are nodes of the last reading with their numbers in it.
pub(super) async fn ask(
    readers: &[(usize, NodeReader<'_>)],
    questions: &[Question],
    names: &mut NameInterner,
    metrics: &TargetMetrics,
    deadline: Instant,
) -> (Vec<Answer>, Vec<Option<PollError>>) {
    let mut answers = vec![Answer::Late; questions.len()];
    // For each node, the positions of its questions.
    let asked: Vec<Vec<usize>> = readers
        .iter()
        .map(|(node, _)| (0..questions.len()).filter(|at| questions[*at].node == *node).collect())
        .collect();
    let pipelines: Vec<_> = readers
        .iter()
        .zip(&asked)
        .map(|((_, source), asked)| source.node.pipelines(asked.iter().map(|at| questions[*at].reply_bytes)))
        .collect();
    let ended = run_pipelines(
        &pipelines,
        (deadline, deadline),
        |number, batch, _| {
            let source = &readers[number].1;
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for question in asked[number][batch].iter().map(|at| &questions[*at]) {
                source.add(&mut pipeline, command_for(&question.key, &question.kind), metrics);
                metrics.count_commands(counted_as(&question.kind), 1);
            }
            Turn::Send(pipeline)
        },
        |number, batch, replies| {
            let source = &readers[number].1;
            for (&at, reply) in asked[number][batch].iter().zip(source.without_asking(replies)) {
                answers[at] = answer(&questions[at].kind, reply, &source.node.address, names, metrics)?;
            }
            Ok(())
        },
    )
    .await;
    (answers, ended)
}

fn command_for(key: &Name, ask: &QuestionKind) -> Cmd {
    let key = key.as_bytes();
    match ask {
        QuestionKind::OldestPending { group } => {
            command([b"XPENDING", key, group.as_bytes(), b"-", b"+", b"1"])
        }
        QuestionKind::PendingBelow { group, below, at_most } => {
            let (end, count) = (format!("({below}"), at_most.to_string());
            command([b"XPENDING", key, group.as_bytes(), b"-", end.as_bytes(), count.as_bytes()])
        }
        QuestionKind::PendingIds { group, from, until, at_most } => {
            let (start, end, count) = (from.to_string(), until.to_string(), at_most.to_string());
            command([b"XPENDING", key, group.as_bytes(), start.as_bytes(), end.as_bytes(), count.as_bytes()])
        }
        QuestionKind::PendingPage { group, after, at_most } => {
            let start = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
            let count = at_most.to_string();
            command([b"XPENDING", key, group.as_bytes(), start.as_bytes(), b"+", count.as_bytes()])
        }
        QuestionKind::Consumers { group } => command([b"XINFO", b"CONSUMERS", key, group.as_bytes()]),
        QuestionKind::Groups => command([b"XINFO", b"GROUPS", key]),
        QuestionKind::Memory { samples } => {
            command([b"MEMORY", b"USAGE", key, b"SAMPLES", samples.to_string().as_bytes()])
        }
        QuestionKind::FullStream => command([b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"1"]),
        QuestionKind::Entry { id } => {
            let id = id.to_string();
            command([b"XRANGE", key, id.as_bytes(), id.as_bytes()])
        }
        QuestionKind::Entries { after, until, at_most } => {
            let (start, end, count) = (format!("({after}"), until.to_string(), at_most.to_string());
            command([b"XRANGE", key, start.as_bytes(), end.as_bytes(), b"COUNT", count.as_bytes()])
        }
    }
}

fn counted_as(ask: &QuestionKind) -> Command {
    match ask {
        QuestionKind::OldestPending { .. }
        | QuestionKind::PendingBelow { .. }
        | QuestionKind::PendingIds { .. }
        | QuestionKind::PendingPage { .. } => Command::Xpending,
        QuestionKind::Consumers { .. } => Command::XinfoConsumers,
        QuestionKind::FullStream => Command::XinfoStream,
        QuestionKind::Groups => Command::XinfoGroups,
        QuestionKind::Memory { .. } => Command::MemoryUsage,
        QuestionKind::Entries { .. } | QuestionKind::Entry { .. } => Command::Xrange,
    }
}

fn answer(
    ask: &QuestionKind,
    reply: Value<'_>,
    address: &str,
    names: &mut NameInterner,
    metrics: &TargetMetrics,
) -> Result<Answer, PollError> {
    if let Value::Error(error) = reply {
        let error = classify_reply(address, error)?;
        metrics.count_errors(error.reason(), 1);
        let is_gone = matches!(error, KeyError::Missing | KeyError::MissingGroup);
        return Ok(if is_gone { Answer::Gone } else { Answer::Unavailable });
    }
    decode::answer(ask, reply, names).or_else(|_| {
        metrics.count_errors(KeyError::Protocol.reason(), 1);
        Ok(Answer::Unavailable)
    })
}
