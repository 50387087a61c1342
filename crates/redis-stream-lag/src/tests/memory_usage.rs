//! When the memory of streams is asked for, and when it is reported.

use std::time::Duration;

use crate::budget::Budget;
use crate::derivation::Derivation;
use crate::question::{Answer, QuestionKind};
use crate::report::{Report, ReportedStream};
use crate::snapshot::{
    ConsumerLimit, EntriesReadMeaning, Epoch, NodeInfo, NodeReading, ReadOutcome, Snapshot, StreamInfo,
    StreamReading,
};
use crate::state::LagState;
use crate::tests::properties::PLENTY;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

const HOURLY: Budget = Budget { memory_interval: Some(Duration::from_secs(3_600)), ..PLENTY };
const MINUTE: Duration = Duration::from_secs(60);

/// A target with empty streams `s0`, `s1` and so on, with these numbers of consumers.
struct Target {
    state: LagState,
    consumers: Vec<u64>,
    at: Duration,
}

impl Target {
    fn new(consumers: &[u64]) -> Self {
        Self { state: LagState::default(), consumers: consumers.to_vec(), at: Duration::ZERO }
    }

    /// Polls a minute after the poll before. Returns the streams that were asked for, and the bytes that are reported.
    fn poll(&mut self, budget: Budget, answer: &Answer) -> (Vec<usize>, Vec<Option<u64>>) {
        self.at += MINUTE;
        let streams = self.consumers.iter().enumerate().map(|(number, consumers)| StreamReading {
            key: Name::from(format!("s{number}").as_str()),
            outcome: ReadOutcome::Read(Box::new(StreamInfo {
                consumer_count: *consumers,
                ..StreamInfo::of_ids(0, None, None, StreamId::MIN)
            })),
            missing_groups: Box::default(),
            window: MINUTE,
            family: None,
        });
        let node = NodeReading {
            node: NodeInfo {
                epoch: Epoch(1),
                entries_read: EntriesReadMeaning::Rank,
                has_acked_trimming: true,
                has_xnack: true,
                consumer_limit: ConsumerLimit { at_most: 100, max_idle: MINUTE },
            },
            streams: streams.collect(),
        };
        let snapshot = Snapshot { nodes: vec![node] };
        let mut derivation = Derivation::open(snapshot, &mut self.state, budget, self.at, None);
        let mut asked = Vec::new();
        for _ in 0..100 {
            let questions = derivation.questions();
            if questions.is_empty() {
                break;
            }
            assert!(questions.iter().all(|one| matches!(one.kind, QuestionKind::Memory { .. })));
            asked.extend(questions.iter().map(|one| one.key.text()[1..].parse::<usize>().unwrap()));
            derivation.answer(vec![answer.clone(); questions.len()]);
        }
        assert_eq!(derivation.late_streams().count(), 0, "their values are there all the same");
        let Report { streams, .. } = derivation.close();
        let bytes = |stream: &ReportedStream| stream.values.as_ref().unwrap().memory_bytes.map(u64::from);
        (asked, streams.iter().map(bytes).collect())
    }
}

#[test]
fn streams_take_turns_and_each_waits_for_the_interval() {
    let mut target = Target::new(&[0, 10, 0]);
    // One of them is as much as a poll may walk.
    assert_eq!(target.poll(HOURLY, &Answer::Memory(1)), (vec![0], vec![Some(1), None, None]));
    assert_eq!(target.poll(HOURLY, &Answer::Memory(2)), (vec![1], vec![Some(1), Some(2), None]));
    assert_eq!(target.poll(HOURLY, &Answer::Memory(3)), (vec![2], vec![Some(1), Some(2), Some(3)]));
    for _ in 0..57 {
        assert_eq!(target.poll(HOURLY, &Answer::Memory(4)), (vec![], vec![Some(1), Some(2), Some(3)]));
    }
    assert_eq!(target.poll(HOURLY, &Answer::Memory(4)), (vec![0], vec![Some(4), Some(2), Some(3)]));
}

#[test]
fn a_stream_with_too_many_consumers_is_not_asked_for() {
    let mut target = Target::new(&[11]);
    assert_eq!(target.poll(HOURLY, &Answer::Memory(1)), (vec![], vec![None]));
    target.consumers = vec![10];
    assert_eq!(target.poll(HOURLY, &Answer::Memory(1)), (vec![0], vec![Some(1)]));
    target.consumers = vec![11];
    assert_eq!(target.poll(HOURLY, &Answer::Memory(1)), (vec![], vec![None]));
}

#[test]
fn what_was_not_answered_is_not_reported() {
    let mut target = Target::new(&[0]);
    assert_eq!(target.poll(HOURLY, &Answer::Late), (vec![0], vec![None]));
    assert_eq!(
        target.poll(HOURLY, &Answer::Memory(1)),
        (vec![0], vec![Some(1)]),
        "a late one is asked again"
    );
    target.at += Duration::from_secs(3_600);
    assert_eq!(target.poll(HOURLY, &Answer::Unavailable), (vec![0], vec![None]));
    assert_eq!(target.poll(HOURLY, &Answer::Memory(1)), (vec![], vec![None]), "a refusal is not repeated");
}

#[test]
fn without_an_interval_nothing_is_asked_for_and_what_was_known_is_dropped() {
    let mut target = Target::new(&[0]);
    assert_eq!(target.poll(PLENTY, &Answer::Memory(1)), (vec![], vec![None]));
    assert_eq!(target.poll(HOURLY, &Answer::Memory(1)), (vec![0], vec![Some(1)]));
    assert_eq!(target.poll(PLENTY, &Answer::Memory(1)), (vec![], vec![None]));
}
