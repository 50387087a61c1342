//! Compares polls that derive streams as soon as nothing has to be asked about them with polls that keep all streams open
//! until every question is answered: both ask the same questions and report the same.

use std::time::Duration;

use crate::budget::Budget;
use crate::complete::KEEPS_ALL_OPEN;
use crate::poll_readings::PollReadings;
use crate::question::{Answer, Question};
use crate::report::Report;
use crate::snapshot::{ConsumerLimit, ConsumersReading, Epoch, NodeInfo, ReadOutcome, StreamReading};
use crate::state::{LagState, RememberedGroup};
use crate::tests::model::{Counters, StreamModel};
use redis_stream_core::name::Name;

const STREAMS: usize = 12;
const NODES: usize = 2;

/// Polls several models, and keeps the state and the last report.
#[derive(Default)]
struct StreamsWatcher {
    state: LagState,
    report: Option<Report>,
}

/// The questions of a poll.
#[derive(Debug, PartialEq)]
struct Asked {
    rounds: Vec<Vec<Question>>,
    later: Vec<Question>,
}

/// Readings in the order in which they come, with their places and nodes.
#[derive(Clone)]
struct Read {
    nodes: Vec<NodeInfo>,
    streams: Vec<(usize, StreamReading)>,
}

impl StreamsWatcher {
    fn read<'a>(
        &'a mut self,
        read: Read,
        (budget, at): (Budget, Duration),
        previous: Option<&'a Report>,
    ) -> PollReadings<'a> {
        let mut readings = PollReadings::begin(&mut self.state, budget, at, previous);
        let nodes: Vec<_> = read.nodes.into_iter().map(|node| readings.add_node(node)).collect();
        for (place, reading) in read.streams {
            readings.add(place, nodes[place % NODES], reading);
        }
        readings
    }

    fn poll(
        &mut self,
        read: Read,
        (budget, at): (Budget, Duration),
        answer: impl Fn(&Question) -> Answer,
    ) -> (Asked, usize) {
        let previous = self.report.take();
        let readings = self.read(read, (budget, at), previous.as_ref());
        let mut derivation = readings.derivation(budget.payload_bytes);
        let (open, mut rounds) = (derivation.open_streams(), Vec::new());
        loop {
            let questions = derivation.questions();
            if questions.is_empty() {
                break;
            }
            derivation.answer(questions.iter().map(&answer).collect());
            rounds.push(questions);
        }
        self.report = Some(derivation.close());
        let mut later = Vec::new();
        while self.state.has_later_pages() {
            let questions = self.state.later_questions();
            self.state.answer_later(questions.iter().map(&answer).collect());
            later.extend(questions);
        }
        (Asked { rounds, later }, open)
    }
}

/// Returns a reading of each stream, some of which are not there or not read, in any order.
fn read(models: &[StreamModel], window: Duration) -> Read {
    let reading = |(number, model): (usize, &StreamModel)| {
        let mut info = model.info(model.group_info());
        for group in &mut info.groups {
            if let Some(consumers) = model.consumers(&group.name).filter(|_| fastrand::u32(..4) > 0) {
                group.each_consumer = ConsumersReading::Read(consumers.into());
            }
        }
        let outcome = match fastrand::u32(..60) {
            0 => ReadOutcome::Missing,
            1 => ReadOutcome::Refused,
            2..=4 => ReadOutcome::Deferred,
            _ => ReadOutcome::Read(Box::new(info)),
        };
        let missing_groups = Box::default();
        (number, StreamReading { key: key(number), family: None, outcome, missing_groups, window })
    };
    let node = NodeInfo {
        epoch: Epoch(1),
        entries_read: models[0].meaning(),
        has_acked_trimming: models[0].has_acked_trimming(),
        has_xnack: true,
        consumer_limit: ConsumerLimit { at_most: 100, max_idle: window },
    };
    let mut streams: Vec<_> = models.iter().enumerate().map(reading).collect();
    fastrand::shuffle(&mut streams);
    Read { nodes: vec![node; NODES], streams }
}

fn key(number: usize) -> Name {
    Name::from(format!("s{number:02}").as_str())
}

fn remembered(state: &LagState, at: Duration) -> Vec<RememberedGroup> {
    let mut groups: Vec<_> = state.remembered_of_all(at).collect();
    groups.sort_by(|one, other| (&one.stream, &one.group).cmp(&(&other.stream, &other.group)));
    groups
}

fn some_budget() -> Budget {
    Budget {
        entries: fastrand::u32(..60),
        audit_entries: fastrand::u32(..4),
        audit_period: Duration::from_secs(30),
        payload_bytes: if fastrand::u32(..10) == 0 { 500 } else { 1 << 30 },
        memory_interval: fastrand::bool().then_some(Duration::from_secs(60)),
        timeout: Duration::from_millis(500),
    }
}

/// Returns the numbers of streams that were derived at once, and of streams that were read.
fn compare(counters: Counters, seed: u64) -> (usize, usize) {
    fastrand::seed(seed);
    let mut models: Vec<_> = (0..STREAMS).map(|_| StreamModel::new(counters)).collect();
    let (mut eager, mut patient) = (StreamsWatcher::default(), StreamsWatcher::default());
    let (mut closed, mut streams_read) = (0, 0);
    for _ in 0..60 {
        for model in &mut models {
            // Most streams of a server are idle in most polls.
            if fastrand::u32(..3) == 0 {
                (0..fastrand::u32(..6)).for_each(|_| model.disturb());
            }
        }
        let clock = models.iter().map(|model| model.clock_ms).max().unwrap_or_default();
        models.iter_mut().for_each(|model| model.clock_ms = clock + 5_000);
        let (readings, budget) = (read(&models, Duration::from_secs(60)), some_budget());
        let is_late = fastrand::u32(..8) == 0;
        let answer = |question: &Question| {
            let number = (0..STREAMS).find(|number| key(*number) == question.key).unwrap();
            if is_late { Answer::Late } else { models[number].answer(&question.kind) }
        };
        let is_read = |(_, stream): &&(_, StreamReading)| matches!(stream.outcome, ReadOutcome::Read(_));
        streams_read += readings.streams.iter().filter(is_read).count();
        let at = models[0].at();
        let (asked, open) = eager.poll(readings.clone(), (budget, at), answer);
        KEEPS_ALL_OPEN.set(true);
        let (asked_with_all_open, all) = patient.poll(readings, (budget, at), answer);
        KEEPS_ALL_OPEN.set(false);
        closed += all - open;
        assert_eq!(asked, asked_with_all_open, "seed {seed}");
        assert_eq!(eager.report, patient.report, "seed {seed}");
        assert_eq!(remembered(&eager.state, at), remembered(&patient.state, at), "seed {seed}");
    }
    (closed, streams_read)
}

#[test]
fn streams_that_are_derived_at_once_are_asked_and_reported_as_others() {
    for counters in [Counters::None, Counters::Original, Counters::Fixed] {
        let (mut closed, mut read) = (0, 0);
        for seed in 0..40 {
            let (more_closed, more_read) = compare(counters, seed);
            (closed, read) = (closed + more_closed, read + more_read);
        }
        assert!(closed * 4 > read, "{closed} of {read} were derived at once");
        assert!(closed < read);
    }
}

#[test]
fn a_poll_that_is_dropped_loses_no_state() {
    fastrand::seed(1);
    let mut models: Vec<_> = (0..STREAMS).map(|_| StreamModel::new(Counters::Fixed)).collect();
    let (mut watcher, mut seen) = (StreamsWatcher::default(), 0);
    for step in 0..200 {
        models.iter_mut().for_each(|model| model.disturb());
        let clock = models.iter().map(|model| model.clock_ms).max().unwrap_or_default();
        models.iter_mut().for_each(|model| model.clock_ms = clock + 5_000);
        let (at, budget) = (models[0].at(), some_budget());
        let answer = |question: &Question| {
            let number = (0..STREAMS).find(|number| key(*number) == question.key).unwrap();
            models[number].answer(&question.kind)
        };
        let mut again = read(&models, Duration::from_secs(60));
        watcher.poll(again.clone(), (budget, at), answer);
        let (before, previous) = (remembered(&watcher.state, at), watcher.report.clone());
        seen += before.len();
        again.streams.retain(|(_, stream)| matches!(stream.outcome, ReadOutcome::Read(_)));
        KEEPS_ALL_OPEN.set(true);
        let readings = watcher.read(again, (budget, at), previous.as_ref());
        if step % 2 == 0 {
            drop(readings);
        } else {
            let mut derivation = readings.derivation(budget.payload_bytes);
            let questions = derivation.questions();
            derivation.answer(questions.iter().map(answer).collect());
        }
        KEEPS_ALL_OPEN.set(false);
        assert_eq!(remembered(&watcher.state, at), before, "step {step}");
    }
    assert!(seen > 1_000, "{seen} groups were remembered");
}
