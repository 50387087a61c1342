//! Measures rendering the pages and the JSON of 10,000 groups with a full history, for a client that accepts gzip,
//! `/metrics` without compression, and folding 10,000 streams into a family.
//!
//! ```text
//! make bench-page                         a table in Markdown; fails if the goal is missed
//! make bench-page BENCH_FLAGS=--quick     only checks that the benchmark works
//! ```
//!
//! It runs without a server or socket, once with a stream per group and once with ten groups per stream.

use std::collections::BTreeMap;
use std::env;
use std::hint::black_box;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::family::FamilyFold;
use redis_stream_lag::report::Status;
use redis_stream_lag::report::{
    Age, ConsumerReport, GroupReport, GroupValues, Lag, OldestPending, Report, StreamIds, StreamReport,
    StreamValues,
};
use streamgauge::alert::rule::TargetLabels;
use streamgauge::api::groups::filter::GroupFilter;
use streamgauge::api::groups::{self, TargetSnapshot};
use streamgauge::exposition::render::{FamilySelection, SeriesLabels, TargetSeries, compressed, write_plain};
use streamgauge::page::group::{self, GroupPath};
use streamgauge::page::history::GroupHistory;
use streamgauge::page::model::{PageModel, TargetModel};
use streamgauge::page::overview;
use streamgauge::page::overview::query::OverviewQuery;

const GROUPS: usize = 10_000;
/// Number of times that each is rendered; the median counts.
const ROUNDS: usize = 31;
/// Number of polls before the measurement: more than the history keeps.
const POLLS: u64 = 70;
/// Maximum time to render a page.
const GOAL: Duration = Duration::from_millis(20);
const BEGIN: Duration = Duration::from_secs(1_700_000_000);

/// A measured page or JSON document.
enum MeasuredView {
    Overview(&'static str, &'static [(&'static str, &'static str)]),
    Group(&'static str),
    Json(&'static str, &'static [(&'static str, &'static str)]),
}

const ALL: [MeasuredView; 8] = [
    MeasuredView::Overview("the first page", &[]),
    MeasuredView::Overview("what is in trouble", &[("status", "trouble")]),
    MeasuredView::Overview("searched for \"0\"", &[("q", "0")]),
    MeasuredView::Overview("the largest lag first", &[("sort", "lag")]),
    MeasuredView::Overview("by group, the last page", &[("sort", "group"), ("page", "200")]),
    MeasuredView::Group("the page of a group"),
    MeasuredView::Json("all groups as JSON", &[]),
    MeasuredView::Json("the 100 worst as JSON", &[("limit", "100")]),
];

fn main() -> ExitCode {
    let mut is_goal_met = true;
    for groups_per_stream in [1, 10] {
        let model = model(groups_per_stream);
        let streams = GROUPS / groups_per_stream;
        say(&format!("| {GROUPS} groups on {streams} streams | median | size | gzipped |"));
        say("| --- | ---: | ---: | ---: |");
        for asked in &ALL {
            let measured = Measured::of(|out| asked.write(&model, out));
            is_goal_met &= matches!(asked, MeasuredView::Json(..)) || measured.median <= GOAL;
            say(&format!("| {} | {measured}", asked.name()));
        }
        say(&format!("| /metrics, not compressed | {}", metrics(&model)));
        say("");
    }
    say(&format!("Folding a family of {GROUPS} streams takes {:.1} ms.", fold().as_secs_f64() * 1_000.0));
    if is_goal_met || env::args().any(|argument| argument == "--quick") {
        return ExitCode::SUCCESS;
    }
    say(&format!("A page took longer than {GOAL:?}."));
    ExitCode::FAILURE
}

impl MeasuredView {
    fn name(&self) -> &'static str {
        let (Self::Overview(name, _) | Self::Group(name) | Self::Json(name, _)) = self;
        name
    }

    fn write(&self, model: &PageModel, out: &mut dyn Write) {
        let pairs = |query: &[(&str, &str)]| -> Vec<(String, String)> {
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let written = match self {
            Self::Overview(_, query) => {
                out.write_all(overview::render(model, &OverviewQuery::read(&pairs(query))).as_bytes())
            }
            Self::Group(_) => {
                let last = model.targets[0].snapshot.report.as_ref().and_then(|report| report.streams.last());
                let stream = last.expect("there are streams");
                let place = GroupPath {
                    target: Name::from("shop"),
                    db: Name::from("db0"),
                    stream: stream.key.clone(),
                    group: stream.groups[0].name.clone(),
                };
                out.write_all(group::render(model, &place).as_bytes())
            }
            Self::Json(_, query) => {
                let snapshots: Vec<_> = model.targets.iter().map(|target| target.snapshot.clone()).collect();
                let filter = GroupFilter::read(&pairs(query)).expect("it is understood");
                groups::write(&snapshots, &filter, out)
            }
        };
        written.expect("memory takes it");
    }
}

/// Measures the series of all groups, consumers and streams: about 310,000 with ten groups per stream.
fn metrics(model: &PageModel) -> Measured {
    let selection = FamilySelection::new(|_, _| true, Duration::MAX);
    let report = model.targets[0].snapshot.report.as_ref().expect("there is a report");
    let labels = SeriesLabels::new("shop", 0, &BTreeMap::new());
    let series = Arc::new(TargetSeries::new(labels, Arc::clone(report)));
    let write = |out: &mut dyn Write| {
        write_plain(&selection, &[Arc::clone(&series)], &[], b"", out).expect("memory takes it");
    };
    let mut plain = Vec::new();
    write(&mut plain);
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = now();
            write(&mut io::sink());
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let packed_bytes = compressed(&selection, &[series], &[], b"").iter().map(Bytes::len).sum();
    Measured { median: times[ROUNDS / 2], bytes: plain.len(), packed_bytes }
}

/// Measures folding streams with one group each into one family, whose totals are known from polls before.
fn fold() -> Duration {
    let of_family = |poll| {
        let streams = report(1, poll).streams.into_iter().map(|stream| {
            let billing = |group: &GroupReport| {
                let mut group = group.clone();
                group.name = Name::from("billing");
                group
            };
            let groups = stream.groups.iter().map(billing);
            let family = Some(Name::from("orders"));
            StreamReport { family, groups: groups.collect(), ..(*stream).clone() }.into()
        });
        Arc::new(Report { streams: streams.collect(), ..Report::default() })
    };
    let mut families = FamilyFold::default();
    let mut times: Vec<_> = (0..ROUNDS as u64)
        .map(|poll| {
            let report = of_family(poll);
            let began = now();
            black_box(families.fold(&report));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

struct Measured {
    median: Duration,
    bytes: usize,
    packed_bytes: usize,
}

impl Measured {
    fn of(write: impl Fn(&mut dyn Write)) -> Self {
        let mut plain = Vec::new();
        write(&mut plain);
        let (mut times, mut packed_bytes) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            let began = now();
            let mut out =
                BufWriter::with_capacity(64 * 1024, GzEncoder::new(Vec::new(), Compression::fast()));
            write(&mut out);
            let out = out.into_inner().map_err(|error| error.to_string()).expect("memory takes it");
            packed_bytes = out.finish().expect("memory takes it").len();
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Self { median: times[ROUNDS / 2], bytes: plain.len(), packed_bytes }
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ms, kib) = (self.median.as_secs_f64() * 1_000.0, |bytes: usize| bytes / 1024);
        write!(f, "{ms:.1} ms | {} KiB | {} KiB |", kib(self.bytes), kib(self.packed_bytes))
    }
}

/// Returns a target with groups in every status, after more polls than the history keeps.
fn model(groups_per_stream: usize) -> PageModel {
    let (mut history, mut last) = (GroupHistory::default(), None::<Arc<Report>>);
    for poll in 0..POLLS {
        let report = Arc::new(report(groups_per_stream, poll));
        history = history.after(BEGIN + Duration::from_secs(10 * poll), &report, last.as_deref());
        last = Some(report);
    }
    let labels = TargetLabels { name: "shop".to_owned(), db: "db0".to_owned(), configured: BTreeMap::new() };
    let now = BEGIN + Duration::from_secs(10 * POLLS);
    let snapshot = TargetSnapshot {
        labels: Arc::new(labels),
        is_up: true,
        last_read: Some(now),
        error: None,
        report: last,
        redis_cli: Arc::new(["redis-cli".to_owned()]),
    };
    let target = TargetModel {
        old_report: snapshot.report.clone(),
        snapshot,
        server: Some("redis 8.2.3, master".into()),
        history: Arc::new(history),
        active: Arc::default(),
        events: Arc::default(),
    };
    PageModel { targets: vec![target], now, interval: Duration::from_secs(10), links: Arc::default() }
}

fn report(groups_per_stream: usize, poll: u64) -> Report {
    let begin = StreamId::new(1_700_000_000_000, 0);
    let stream = |stream: usize| {
        let groups = (0..groups_per_stream).map(|n| group((stream * groups_per_stream + n) as u64, poll));
        let values = StreamValues {
            length: 4_000,
            groups: groups_per_stream as u64,
            entries_added: Some(90_000.into()),
            ids: StreamIds { first: Some(begin).into(), last_generated: begin, ..StreamIds::default() },
            is_first_timestamp: true,
            is_last_generated_timestamp: true,
            ..StreamValues::default()
        };
        let key = Name::from(format!("shop:orders:{stream:05}").as_str());
        let read_at = BEGIN.into();
        StreamReport { read_at, ..StreamReport::new(key, Some(values), groups.collect()) }.into()
    };
    Report { streams: (0..GROUPS / groups_per_stream).map(stream).collect(), ..Report::default() }
}

fn group(number: u64, poll: u64) -> GroupReport {
    let spread = number * 7_919 % 10_007;
    let lag = spread * (poll % 13 + 1);
    let idle = Duration::from_millis(spread);
    let consumer = |n: u64| {
        let name = Name::from(format!("worker-{n}").as_str());
        ConsumerReport::new(name, spread % 7, idle, Some(idle), BEGIN)
    };
    let values = GroupValues {
        lag: if number.is_multiple_of(9) {
            Lag::Between { min: lag.into(), max: lag + 90 }
        } else {
            Lag::Exact(lag)
        },
        lag_seconds: Some(Age::of(Duration::from_millis(lag))),
        last_delivered_id: StreamId::new(1_700_000_000_000, number),
        last_delivery_age: Some(Age::of(idle)),
        entries_read: Some(90_000.into()),
        messages_pending: spread % 50,
        oldest_pending: Some(OldestPending::Entry {
            id: StreamId::new(1_700_000_000_000, 0),
            consumer: Some(Name::from("consumer-1")),
            idle: Some(idle.into()),
            deliveries: 2,
        }),
        pending_orphaned: Some(0.into()),
        consumers: 3,
        entries_lost: Some(0.into()),
        status: Status::ALL[usize::try_from(spread % 8).expect("it is less than 8")].into(),
        ..GroupValues::default()
    };
    let name = Name::from(format!("group-{number:05}").as_str());
    GroupReport::new(name, Some(values)).with_consumers(Some((0..3).map(consumer).collect()))
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}
