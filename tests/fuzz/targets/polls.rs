//! Polls: what a server that says anything at all becomes, on the whole way from its replies to the pages.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::budget::Budget;
use redis_stream_lag::derivation::Derivation;
use redis_stream_lag::question::{Answer, Question, QuestionKind};
use redis_stream_lag::report::Report;
use redis_stream_lag::snapshot::{
    ConsumerLimit, ConsumersReading, EntriesReadMeaning, Epoch, GroupInfo, NodeInfo, NodeReading,
    ReadOutcome, Snapshot, StreamInfo, StreamReading,
};
use redis_stream_lag::state::LagState;
use streamgauge::alert::evaluator::{Evaluator, EvaluatorSettings, PollReading, TargetUp};
use streamgauge::alert::recommended;
use streamgauge::alert::rule::{self, Rule};
use streamgauge::api::groups::{self, Listing, TargetSnapshot, filter::GroupFilter};
use streamgauge::exposition::render::{FamilySelection, SeriesLabels, TargetSeries, write_plain};
use streamgauge::page::history::GroupHistory;
use streamgauge::poller::decode;
use streamgauge::poller::interner::NameInterner;

use super::model::{self, Consumer, Group, Id, NOW_MS, Pending, Protocol, Reply, Stream};

/// Polls of one input.
const MOST_POLLS: usize = 8;
/// Window of the status, and idle time up to which a consumer is live.
const WINDOW: Duration = Duration::from_secs(120);
/// Keys of the streams.
const KEYS: [&str; 2] = ["a", "b\u{1}\"\\\n"];

static LAYOUT: LazyLock<FamilySelection> = LazyLock::new(|| FamilySelection::new(|_, _| true, Duration::MAX));

static RULES: LazyLock<Vec<Arc<Rule>>> =
    LazyLock::new(|| recommended::rules(None, &recommended::default_dead_letters()));

pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut watch = Watch::new();
    for _ in 0..MOST_POLLS {
        if u.is_empty() || watch.poll(&mut u).is_err() {
            break;
        }
    }
    // Compressing takes the time of a hundred polls; an input that ends sooner shows an earlier page.
    if let Some(report) = &watch.last {
        check_the_page(report);
    }
}

/// One target, and what is remembered of it from poll to poll.
struct Watch {
    streams: [Option<Said>; 2],
    memory: LagState,
    names: NameInterner,
    epoch: u64,
    /// Since the first poll.
    at: Duration,
    last: Option<Arc<Report>>,
    history: GroupHistory,
    evaluator: Evaluator,
}

/// State of a stream on the server.
#[derive(Arbitrary, Clone, Debug)]
struct Said {
    stream: Stream,
    groups: Vec<Group>,
    consumers: Option<Vec<Consumer>>,
}

/// A change of a stream between two polls.
#[derive(Arbitrary, Debug)]
enum Change {
    Nothing,
    /// Entries are added, and the first group reads some.
    Grows {
        added: u8,
        read: u8,
        trimmed: u8,
    },
    Becomes(Box<Said>),
    Is(State),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum State {
    Missing,
    Refused,
    Unreachable,
    Deferred,
}

impl Watch {
    fn new() -> Self {
        let target = rule::TargetLabels { name: "t".into(), db: "db0".into(), configured: BTreeMap::new() };
        let settings = EvaluatorSettings {
            hold: Duration::from_secs(60),
            external_labels: BTreeMap::new(),
            interval: Duration::from_secs(10),
            has_notifiers: true,
        };
        Self {
            streams: [None, None],
            memory: LagState::default(),
            names: NameInterner::default(),
            epoch: 1,
            at: Duration::ZERO,
            last: None,
            history: GroupHistory::default(),
            evaluator: Evaluator::new(&RULES, target, settings),
        }
    }

    fn poll(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.at += Duration::from_millis(u64::from(u.arbitrary::<u16>()?));
        self.epoch += u64::from(u.ratio(1_u8, 8)?);
        // A clock that may be set back, or be none at all.
        let now = match u.arbitrary::<u8>()? {
            0 => Duration::ZERO,
            1 => Duration::from_secs(i64::MAX.cast_unsigned()),
            _ => Duration::from_millis(NOW_MS) + self.at,
        };
        let now = model::time(now).sent(Protocol::Resp2, decode::time).expect("it is a time");
        let streams = (0..KEYS.len()).map(|at| self.read(at, now, u)).collect::<Result<_>>()?;
        let snapshot = Snapshot {
            nodes: vec![NodeReading {
                node: NodeInfo {
                    has_acked_trimming: true,
                    has_xnack: true,
                    epoch: Epoch(self.epoch),
                    entries_read: EntriesReadMeaning::Rank,
                    consumer_limit: ConsumerLimit { at_most: 3, max_idle: WINDOW },
                },
                streams,
            }],
        };
        let report = Arc::new(self.ask(snapshot, u)?);
        check_the_order(&report);
        self.check_what_readers_see(&report, now);
        self.last = Some(report);
        Ok(())
    }

    /// Reads a stream as a poll does.
    fn read(&mut self, at: usize, now: Duration, u: &mut Unstructured<'_>) -> Result<StreamReading> {
        let (said, state) = match (u.arbitrary()?, self.streams[at].take()) {
            (Change::Becomes(said), _) => (Some(*said), None),
            (Change::Nothing, said) => (said, None),
            (Change::Is(state), said) => (said, Some(state)),
            (Change::Grows { added, read, trimmed }, said) => {
                (said.map(|said| said.grown(added.into(), read.into(), trimmed.into())), None)
            }
        };
        let outcome = match (state, &said) {
            (None | Some(State::Missing), None) | (Some(State::Missing), _) => ReadOutcome::Missing,
            (Some(State::Refused), _) => ReadOutcome::Refused,
            (Some(State::Unreachable), _) => ReadOutcome::Unreachable,
            (Some(State::Deferred), _) => ReadOutcome::Deferred,
            (None, Some(said)) => ReadOutcome::Read(Box::new(said.facts(now, &mut self.names))),
        };
        self.streams[at] = said;
        let missing_groups = if u.ratio(1_u8, 16)? { vec![Name::from("wanted")] } else { Vec::new() };
        let key = Name::from(KEYS[at]);
        Ok(StreamReading {
            key,
            family: None,
            outcome,
            missing_groups: missing_groups.into(),
            window: WINDOW,
        })
    }

    /// Asks until nothing is left to ask: that must come.
    fn ask(&mut self, snapshot: Snapshot, u: &mut Unstructured<'_>) -> Result<Report> {
        let entries = u32::from(u.arbitrary::<u8>()?) * 8;
        let budget = Budget {
            entries,
            audit_entries: entries / 2,
            memory_interval: u.arbitrary::<bool>()?.then_some(Duration::from_secs(60)),
            audit_period: Duration::from_secs(u.int_in_range(0..=60)?),
            payload_bytes: 1 << u.int_in_range(0..=24)?,
            timeout: Duration::from_secs(8),
        };
        let mut derivation =
            Derivation::open(snapshot, &mut self.memory, budget, self.at, self.last.as_deref());
        for round in 0.. {
            assert!(round < 100 + entries, "questions do not end");
            let questions = derivation.questions();
            if questions.is_empty() {
                break;
            }
            let names = &mut self.names;
            let answers =
                questions.iter().map(|question| answer(question, u, names)).collect::<Result<_>>()?;
            derivation.answer(answers);
        }
        let report = derivation.close();
        for round in 0.. {
            assert!(round < 100, "pages do not end");
            let questions = self.memory.later_questions();
            if questions.is_empty() {
                break;
            }
            let names = &mut self.names;
            let answers =
                questions.iter().map(|question| answer(question, u, names)).collect::<Result<_>>()?;
            self.memory.answer_later(answers);
        }
        Ok(report)
    }

    fn check_what_readers_see(&mut self, report: &Arc<Report>, now: Duration) {
        self.history = self.history.after(now, report, self.last.as_deref());
        let groups: usize = report.streams.iter().map(|stream| stream.groups.len()).sum();
        // 400 kept polls of an hour, and the newest one.
        assert!((0..groups).all(|place| self.history.of(place).len() <= 401));
        let (up, reading) = (TargetUp::Yes, PollReading::Complete(report));
        for notification in self.evaluator.step(reading, up, now).notifications {
            let alert = &notification.alert;
            assert!(alert.labels.contains_key("alertname") && !alert.value.is_nan(), "{alert:?}");
        }
        check_the_json(report, now);
    }
}

fn check_the_order(report: &Report) {
    assert!(report.streams.is_sorted_by(|a, b| a.key < b.key), "streams are in order, each once");
    for stream in &report.streams {
        assert!(
            stream.groups.is_sorted_by(|a, b| a.name < b.name),
            "groups are in order, each once: {stream:?}"
        );
        for group in stream.groups.iter().filter_map(|group| group.values.as_ref()) {
            assert!(group.lag.min() <= group.lag.max(), "{group:?}");
            assert!(
                group.seldom.retention_used.is_none_or(|used| (0.0..=1.0).contains(&used.ratio())),
                "{group:?}"
            );
        }
    }
}

fn check_the_page(report: &Arc<Report>) {
    let labels = SeriesLabels::new("t", 0, &BTreeMap::new());
    let target = Arc::new(TargetSeries::new(labels, Arc::clone(report)));
    let mut text = Vec::new();
    write_plain(&LAYOUT, &[target], &[], b"", &mut text).expect("it is written to memory");
    check_the_metrics(std::str::from_utf8(&text).expect("it is UTF-8"));
}

/// Each line is a comment or a sample; each series is there once; each value is a number.
fn check_the_metrics(text: &str) {
    let mut seen = HashSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once("} ").unwrap_or_else(|| panic!("no sample: {line:?}"));
        let number: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
        assert!(number.is_finite() && number >= 0.0, "{line:?}");
        assert!(seen.insert(series), "twice: {line:?}");
    }
}

/// `/api/v1/groups` can be read, and says the same.
fn check_the_json(report: &Arc<Report>, now: Duration) {
    let labels = rule::TargetLabels { name: "t".into(), db: "db0".into(), configured: BTreeMap::new() };
    let snapshots = [TargetSnapshot {
        labels: Arc::new(labels),
        is_up: true,
        last_read: Some(now),
        error: None,
        report: Some(Arc::clone(report)),
        redis_cli: Arc::default(),
    }];
    let mut json = Vec::new();
    groups::write(&snapshots, &GroupFilter::default(), &mut json).expect("it is written to memory");
    let read: Listing = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(read, Listing::of(&snapshots, &GroupFilter::default()));
}

impl Said {
    /// The same some time later.
    fn grown(mut self, added: u64, read: u64, trimmed: u64) -> Self {
        let stream = &mut self.stream;
        let step = |id: &mut Id, by: u64| id.0.ms = id.0.ms.saturating_add(by);
        step(&mut stream.last_generated, added);
        stream.ends.1 = stream.last_generated;
        step(&mut stream.ends.0, trimmed);
        stream
            .between
            .iter_mut()
            .for_each(|between| between.0 = (between.0 + added).saturating_sub(trimmed).min(model::MOST));
        stream.entries_added.iter_mut().for_each(|all| all.0 = (all.0 + added).min(i64::MAX.cast_unsigned()));
        if let Some(group) = self.groups.first_mut() {
            step(&mut group.last_delivered, read);
            group
                .entries_read
                .iter_mut()
                .for_each(|all| all.0 = (all.0 + read).min(i64::MAX.cast_unsigned()));
        }
        self
    }

    /// As the poller makes them of the replies: groups in the order of their names, each once.
    fn facts(&self, time: Duration, names: &mut NameInterner) -> StreamInfo {
        let stream = self.stream.reply().sent(Protocol::Resp3, decode::xinfo_stream).expect("it is one");
        let each_consumer = match &self.consumers {
            None => ConsumersReading::Open,
            Some(consumers) if consumers.is_empty() => ConsumersReading::NotWanted,
            Some(consumers) => {
                let reply = model::list(consumers, Consumer::reply);
                let read = reply.sent(Protocol::Resp3, |reply| decode::xinfo_consumers(reply, names));
                ConsumersReading::Read(read.expect("they are consumers").into())
            }
        };
        let groups = model::list(&self.groups, Group::reply);
        let mut groups: Vec<GroupInfo> = groups.sent(Protocol::Resp2, |reply| {
            let groups = decode::xinfo_groups(reply).expect("they are groups").into_iter();
            groups.map(|group| group.facts(group.name.into(), false, each_consumer.clone())).collect()
        });
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups.dedup_by(|a, b| a.name == b.name);
        let consumer_count = groups.iter().map(|group| group.consumers).fold(0, u64::saturating_add);
        StreamInfo { groups: groups.into(), consumer_count, ..stream.facts(time) }
    }
}

/// Returns an answer to a question: a random one of its form, or none.
fn answer(question: &Question, u: &mut Unstructured<'_>, names: &mut NameInterner) -> Result<Answer> {
    let reply = match (u.arbitrary::<u8>()?, &question.kind) {
        (255, _) => return Ok(Answer::Gone),
        (254, _) => Reply::Int(-1),
        (
            _,
            QuestionKind::OldestPending { .. }
            | QuestionKind::PendingBelow { .. }
            | QuestionKind::PendingIds { .. }
            | QuestionKind::PendingPage { .. },
        ) => model::list(&u.arbitrary::<Vec<Pending>>()?, Pending::reply),
        (_, QuestionKind::Consumers { .. }) => model::list(&u.arbitrary::<Vec<Consumer>>()?, Consumer::reply),
        (kind, QuestionKind::Entries { after, at_most, .. }) if kind < 192 => {
            let count = u.int_in_range(0..=*at_most)?.min(64);
            let id = |above: u32| Id(StreamId::new(after.ms.saturating_add(above.into()), after.seq));
            model::entries(&(1..=count).map(id).collect::<Vec<_>>())
        }
        (_, QuestionKind::Entries { .. } | QuestionKind::Entry { .. }) => {
            model::entries(&u.arbitrary::<Vec<Id>>()?)
        }
        (_, QuestionKind::Memory { .. }) => Reply::Int(u.arbitrary()?),
        (_, QuestionKind::Groups) => model::list(&u.arbitrary::<Vec<Group>>()?, Group::reply),
        (_, QuestionKind::FullStream) => {
            let Said { stream, groups, .. } = u.arbitrary()?;
            let Reply::Fields(mut fields) = stream.reply() else { unreachable!("it is made of fields") };
            fields.retain(|(name, _)| *name != "groups");
            fields.push(("groups", model::list(&groups, Group::reply)));
            fields.push(("entries", model::entries(&[stream.ends.0])));
            Reply::Fields(fields)
        }
    };
    let answer = reply.sent(Protocol::Resp3, |reply| decode::answer(&question.kind, reply, names));
    Ok(answer.unwrap_or(Answer::Unavailable))
}
