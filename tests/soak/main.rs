//! The soak: the program under load, with the troubles of ordinary life over and over, for as long as is wanted. At the
//! end nothing may be left of them: memory is flat, no task, thread, descriptor or connection is left over, each poll
//! was on time, and every number is exact.
//!
//! ```text
//! make soak                an hour, with the program as it is released
//! make soak SOAK=15m       for another time
//! make soak SEED=4711      the same troubles in the same order again
//! make test                two minutes of it, with all other tests
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`schedule`] | how long, by which seed, and what comes next |
//! | [`setup`] | the servers, the program, the receivers |
//! | [`load`] | producers and consumers |
//! | [`churn`] | streams, groups and consumers that come and go |
//! | [`outages`] | servers that are killed, stand still, hang up |
//! | [`changes`] | reloads, and receivers that fail |
//! | [`readers`] | scrapes, pages, and clients that are slow or leave |
//! | [`journal`] | what was done to whom, and when |
//! | [`measures`] | memory over time, and all that is held at rest |
//! | [`polls`] | whether each poll was on time |
//! | [`exactness`] | whether each number is right at the end |
//! | [`records`] | what is left on the servers and in the log |
//! | [`verdict`] | the table |

mod changes;
mod churn;
mod exactness;
mod journal;
mod load;
mod measures;
mod outages;
mod polls;
mod readers;
mod records;
mod schedule;
mod setup;
#[path = "../support/mod.rs"]
mod support;
mod verdict;

use std::io::Write as _;
use std::time::Duration;

use redis_stream_core::clock::now;
use tokio::time::sleep;

use churn::Churn;
use exactness::Exactness;
use journal::{Journal, Window};
use load::{Done, Load};
use measures::{AtRest, Memory, Stalls};
use polls::{LONGEST_GAP, Punctuality};
use readers::CROWD;
use schedule::Plan;
use setup::Setup;
use support::metrics::{Metrics, named};
use support::server::Server;
use verdict::Verdict;

const WAITING: &str = r#"streamgauge_notification_queue_length{notifier="alertmanager"}"#;
/// Largest growth of memory, as a part of the median: less is random variation of an
/// allocator.
const MAX_GROWTH: f64 = 0.1;
/// In a short run, bytes: memory is still warming up. Above all, alerts that have resolved are told of for a quarter of an
/// hour, and kept as long.
const MAX_GROWTH_BYTES: f64 = 8.0 * 1024.0 * 1024.0;
/// A run is short if a third of its time is less than a quarter of an hour.
const SHORT: Duration = Duration::from_secs(45 * 60);
/// Receivers of alerts: the connection to each, and its task, may be kept for the next alert or not.
const RECEIVERS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_troubles_under_load() {
    let plan = Plan::from_environment();
    say(&format!("soak: {} of trouble, SEED={}", humantime::format_duration(plan.trouble), plan.seed));
    let (setup, mut servers) = Setup::start().await;
    let journal = Journal::default();
    let stalls = Stalls::watch();
    let (load, mut churn) = (Load::start(&setup.nodes), Churn::new(&setup.nodes));
    let [warm_up, rest] = plan.parts();
    trouble(&setup, &mut servers, &mut churn, warm_up, &journal).await;
    let before = AtRest::of(&setup).await;
    let memory = trouble(&setup, &mut servers, &mut churn, rest, &journal).await;
    let done = load.stop().await;
    // Longer than the status looks back.
    let after = AtRest::of(&setup).await;
    let mut verdict = Verdict::default();
    let excused = [journal.windows(), stalls.end()];
    let (denied, slow) = records::on_servers(&setup, &excused.concat()).await;
    let exactness = exactness::compare(&setup).await;

    let counts = journal.counts();
    verdict.note("troubles", counts.values().sum::<usize>());
    hold_load(&mut verdict, &done);
    hold_memory(&mut verdict, &memory, plan);
    hold_rest(&mut verdict, &before, &after);
    hold_polls(&mut verdict, &setup, &excused);
    verdict.none("commands that a server denied", &denied);
    verdict.none("commands above 100 ms", &slow);
    hold_numbers(&mut verdict, &exactness, setup.nodes.len());
    hold_notifications(&mut verdict, &at_last(&setup).await);
    let refusals = counts.get("Wrong").copied().unwrap_or_default();
    let ended = setup.exporter.stop().await;
    verdict.hold("exit code", format!("{:?}", ended.code), "Some(0)", ended.code == Some(0));
    verdict.none("errors in the log", &records::in_log(&ended.stderr, refusals));
    // Their logs tell nothing of it.
    drop(servers);
    say(&verdict.text());
    say(&format!("troubles: {counts:?}"));
    assert!(verdict.holds(), "something of it does not hold: see the table; SEED={}", plan.seed);
}

/// All that happens, at once, and what it takes of memory.
async fn trouble(
    setup: &Setup,
    servers: &mut [Server],
    churn: &mut Churn<'_>,
    plan: Plan,
    journal: &Journal,
) -> Memory {
    let (memory, ..) = tokio::join!(
        Memory::watch(setup.exporter.pid(), now() + plan.trouble),
        outages::run(setup, servers, plan, journal),
        churn.run(plan, journal),
        changes::run(setup, plan, journal),
        readers::run(setup, plan, journal),
    );
    memory
}

fn hold_load(verdict: &mut Verdict, done: &Done) {
    verdict.note("entries added", done.added);
    verdict.note("entries handled", done.handled);
    verdict.none("producers and consumers that gave up", &done.errors);
}

fn hold_memory(verdict: &mut Verdict, memory: &Memory, plan: Plan) {
    let (level, slope) = memory.level_and_slope();
    let growth = slope * memory.span().as_secs_f64();
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    verdict.note("memory, most", mib(memory.peak() as f64));
    verdict.note("memory, median", mib(level));
    verdict.note("memory, slope", format_args!("{} an hour", mib(slope * 3_600.0)));
    let bound = if plan.trouble < SHORT { MAX_GROWTH_BYTES } else { level * MAX_GROWTH };
    let what = format!("memory, growth in {}", humantime::format_duration(whole_seconds(memory)));
    verdict.hold(&what, mib(growth), format_args!("{} at most", mib(bound)), growth <= bound);
}

fn whole_seconds(memory: &Memory) -> Duration {
    Duration::from_secs(memory.span().as_secs())
}

fn hold_rest(verdict: &mut Verdict, before: &AtRest, after: &AtRest) {
    verdict.no_more("descriptors at rest", before.descriptors, after.descriptors, RECEIVERS);
    verdict.no_more("threads at rest", before.threads, after.threads, CROWD);
    verdict.no_more("tasks at rest", before.tasks, after.tasks, RECEIVERS);
    let (connections, one_each) = (format!("{:?}", after.connections), vec![1; after.connections.len()]);
    verdict.hold("connections to each node", connections, "1", after.connections == one_each);
}

fn hold_polls(verdict: &mut Verdict, setup: &Setup, [excused, stalls]: &[Vec<Window>; 2]) {
    let log = setup.exporter.stderr();
    let targets = setup.targets();
    let polls = Punctuality::of(&log, &targets, excused, stalls);
    verdict.note("polls while all was well", polls.calm);
    verdict.none("of those, left out", &polls.missed);
    let tolerated = polls.tolerated(targets.len());
    verdict.few("of those, off by more than 250 ms, cut off, or failed", &polls.spoiled, tolerated);
    verdict.note("of those, the worst was off by", format_args!("{:?}", polls.worst));
    verdict.note("polls of targets in trouble", polls.troubled);
    verdict.hold(
        "of those, the longest time from one to the next",
        format_args!("{:?}", polls.longest_gap),
        format_args!("{LONGEST_GAP:?} at most"),
        polls.longest_gap <= LONGEST_GAP,
    );
    verdict.note("times when the machine stood still", stalls.len());
}

fn hold_numbers(verdict: &mut Verdict, exactness: &Exactness, nodes: usize) {
    let Exactness { series, groups, alerts, wrong } = exactness;
    // Or there would be little to compare.
    let least = 10 * nodes;
    verdict.hold("groups compared one by one", groups, format_args!("{least} at least"), *groups >= least);
    verdict.note("their series, and those of streams and consumers", series);
    verdict.hold("groups whose alert has to fire", alerts, "some", *alerts > 0);
    verdict.none("of all those, wrong", wrong);
}

/// The metrics once no alert is on its way to Alertmanager, or after a while.
async fn at_last(setup: &Setup) -> Metrics {
    let mut metrics = setup.exporter.metrics().await;
    for _ in 0..100 {
        if metrics[WAITING] == 0.0 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
        metrics = setup.exporter.metrics().await;
    }
    metrics
}

fn hold_notifications(verdict: &mut Verdict, metrics: &Metrics) {
    let sum = |result: &str| -> f64 {
        let all = named(metrics, "streamgauge_notifications_total").into_iter();
        all.filter(|(series, _)| series.contains(&format!("result=\"{result}\""))).map(|(_, n)| n).sum()
    };
    verdict.note("alerts told", sum("delivered"));
    let lost = sum("dropped") + sum("rejected");
    verdict.hold("alerts given up", lost, "0", lost == 0.0);
    // Messages of the webhook wait for half a minute, so that there are not too many.
    let waiting = metrics[WAITING];
    verdict.hold("alerts that wait to be told to Alertmanager", waiting, "0", waiting == 0.0);
}

/// Past the capture of output: it is to be seen whether the test fails or not.
fn say(text: &str) {
    #[expect(clippy::disallowed_methods, reason = "prints text of its own")]
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}");
}
