//! An hour in the life of a fleet: groups that are slow, dead, crashing, poisoned, bursting, batching, overrun, destroyed
//! and recreated, beside thirty healthy ones, and a server that goes and comes back. For each it is known which
//! conditions and alerts must be seen by when, and that no others are.
//!
//! ```text
//! make life              the hour with default settings
//! make life LIFE=20m     the same hour in 20 minutes: window, interval and the times of the rules are scaled
//! make test              in two and a half minutes
//! ```
//!
//! | module | contents |
//! | --- | --- |
//! | [`cast`] | the scenes, and what must be seen of each |
//! | [`actors`] | producers, consumers and operators |
//! | [`story_time`] | minutes of the story |
//! | [`observer`] | records conditions and alerts |
//! | [`judgement`] | right, late, false or missed |

mod actors;
mod cast;
mod judgement;
mod observer;
mod story_time;
#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use futures_util::future::join_all;
use streamgauge::alert::condition::Operand;
use streamgauge::alert::fact::{Fact, FactUnit};
use streamgauge::alert::recommended;

use cast::{AWAY, FLAKY, MAIN, Scene};
use judgement::{Judgement, judge};
use observer::Seen;
use story_time::StoryTime;
use support::config::serving;
use support::server::Server;
use support::servers::newest;
use support::wait::wait_until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_is_seen_in_time_and_nothing_else() {
    let time = StoryTime::from_environment();
    let main = Server::start(newest(), &[]).await;
    let mut flaky = Server::start(newest(), &["--appendonly", "yes", "--appendfsync", "always"]).await;
    let exporter = serving(&configuration(time, &main, &flaky)).await;
    wait_until(Duration::from_secs(20), "both targets are read", async || {
        exporter.get("/-/ready").await.status == 200
    })
    .await;

    let time = time.restarted();
    let scenes = cast::scenes(time, &main, &flaky);
    let (expected, plays): (Vec<_>, Vec<_>) =
        scenes.into_iter().map(|Scene { name, expected, play }| ((name, expected), play)).unzip();
    let (seen, ..) = tokio::join!(observer::watch(&exporter, time), join_all(plays), async {
        time.until(AWAY.start).await;
        flaky.stop().await;
        time.until(AWAY.end).await;
        flaky.launch();
        flaky.ready().await;
    });
    let (table, holds) = verdict(expected, &seen);
    writeln!(std::io::stderr(), "{table}").expect("standard error can be written");
    assert!(holds, "something was late, false or missed: see the table");
}

/// The default settings, in the time of the story.
fn configuration(time: StoryTime, main: &Server, flaky: &Server) -> String {
    let millis = |seconds: u64| format!("{}ms", time.scaled(Duration::from_secs(seconds)).as_millis());
    let targets = [(MAIN, main), (FLAKY, flaky)]
        .map(|(name, server)| format!("{{name: {name}, url: '{}'}}", server.url()))
        .join(", ");
    format!(
        "poll: {{interval: {interval}, timeout: {timeout}, stale_after: {stale}, discovery_interval: {interval}}}\n\
         status: {{window: {window}}}\n\
         targets: [{targets}]\n\
         alerts:\n  disable: [{disabled}]\n  rules:\n{rules}",
        interval = millis(10),
        timeout = millis(8),
        stale = millis(30),
        window = millis(120),
        disabled = recommended::names().filter(|name| *name != GROUP_GONE).collect::<Vec<_>>().join(", "),
        rules = rules(time),
    )
}

/// A recommended rule that has no time to scale, and a fact that other rules have not.
const GROUP_GONE: &str = "RedisStreamGroupGone";

/// The recommended rules, with their times scaled. A configuration has one comparison, so of those that are joined it has
/// the one that decides.
fn rules(time: StoryTime) -> String {
    let mut yaml = String::new();
    for rule in recommended::rules(None) {
        let conditions = rule.expression.conditions();
        let condition = match (conditions[0].fact.name, &conditions[1..]) {
            ("lag" | "entries_lost_total", [second, ..]) => second,
            _ => conditions[0],
        };
        // Some facts are those of recommended rules only.
        if Fact::named(condition.fact.name).is_none() {
            continue;
        }
        let operand = match condition.operand {
            Operand::Status(status) => status.to_owned(),
            Operand::Number(seconds) if condition.fact.unit == FactUnit::Seconds => {
                time.scaled(Duration::from_secs_f64(seconds)).as_secs_f64().to_string()
            }
            Operand::Number(number) => number.to_string(),
        };
        let (fact, operator) = (condition.fact.name, condition.operator.sign());
        let pending_for = time.scaled(rule.pending_for).as_millis();
        let _ = writeln!(
            yaml,
            "    - {{alert: {}, expr: '{fact} {operator} {operand}', for: {pending_for}ms}}",
            rule.name
        );
    }
    yaml
}

/// Returns the table, and true if everything was right.
fn verdict(
    expected: Vec<(String, Vec<(observer::Subject, Vec<judgement::Expected>)>)>,
    seen: &Seen,
) -> (String, bool) {
    let mut table =
        "| scene | group | right | late | false | missed |\n| --- | --- | ---: | ---: | ---: | ---: |\n"
            .to_owned();
    let (mut notes, mut sum) = (String::new(), [0; 4]);
    for (name, groups) in expected {
        for (subject, expected) in groups {
            let spans = seen.get(&subject).map(Vec::as_slice).unwrap_or_default();
            let Judgement { right, late, false_ones, missed, notes: lines } = judge(&expected, spans);
            let counts = [right, late, false_ones, missed];
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            let _ = writeln!(
                table,
                "| {name} | {} | {right} | {late} | {false_ones} | {missed} |",
                subject.group
            );
            for line in lines {
                let _ = writeln!(notes, "{name}/{}: {line}", subject.group);
            }
        }
    }
    let [right, late, false_ones, missed] = sum;
    let _ = writeln!(table, "| all | | {right} | {late} | {false_ones} | {missed} |\n\n{notes}");
    (table, sum[1..].iter().all(|count| *count == 0))
}
