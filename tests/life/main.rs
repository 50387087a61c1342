//! An hour in the life of a fleet: groups that are slow, dead, crashing, poisoned, bursting, batching, overrun, destroyed
//! and recreated, beside thirty healthy ones, and a server that goes and comes back. For each it is known which
//! conditions and alerts must be seen by when, and that no others are.
//!
//! ```text
//! make life              the hour with default settings
//! make life LIFE=20m     the same hour in 20 minutes: window, interval and the times of the rules are scaled
//! make life SERVER=redis-6.2
//!                        on that server; on Redis 8.10 otherwise
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

use std::env;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use streamgauge::alert::condition::Operand;
use streamgauge::alert::expression::Expression;
use streamgauge::alert::fact::FactUnit;
use streamgauge::alert::rule::Rule;
use streamgauge::commands::serve;
use streamgauge::config::{Config, load};
use tokio_util::sync::CancellationToken;

use cast::{AWAY, FLAKY, MAIN, Scene};
use judgement::{Expected, Judgement, judge};
use observer::{Seen, Subject};
use story_time::StoryTime;
use support::http;
use support::server::{Server, free_port};
use support::servers::{newest, of_version};
use support::wait::wait_until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_is_seen_in_time_and_nothing_else() {
    let time = StoryTime::from_environment();
    let program = env::var("STREAMGAUGE_LIFE_SERVER").map_or_else(|_| newest(), |name| of_version(&name));
    let main = Server::start(program, &[]).await;
    let mut flaky = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let ending = CancellationToken::new();
    let exporter = tokio::spawn(serve::run_with(configuration(time, address, &main, &flaky), ending.clone()));
    wait_until(Duration::from_secs(20), "both targets are read", async || {
        http::try_get(address, "/-/ready", &[]).await.is_ok_and(|response| response.status == 200)
    })
    .await;

    let time = time.restarted();
    let scenes = cast::scenes(time, &main, &flaky);
    let (expected, plays): (Vec<_>, Vec<_>) =
        scenes.into_iter().map(|Scene { name, expected, play }| ((name, expected), play)).unzip();
    let (seen, ..) = tokio::join!(observer::watch(address, time), join_all(plays), async {
        time.until(AWAY.start).await;
        flaky.stop().await;
        time.until(AWAY.end).await;
        flaky.launch();
        flaky.ready().await;
    });
    ending.cancel();
    exporter.await.expect("the exporter does not panic").expect("it served");
    let (table, holds) = verdict(expected, &seen);
    println!("{table}");
    assert!(holds, "something was late, false or missed: see the table");
}

/// Returns the default settings, in the time of the story.
fn configuration(time: StoryTime, address: SocketAddr, main: &Server, flaky: &Server) -> Config {
    let millis = |seconds: u64| format!("{}ms", time.scaled(Duration::from_secs(seconds)).as_millis());
    let targets = [(MAIN, main), (FLAKY, flaky)]
        .map(|(name, server)| format!("{{name: {name}, url: '{}'}}", server.url()))
        .join(", ");
    let yaml = format!(
        "web: {{listen: '{address}'}}\n\
         poll: {{interval: {interval}, timeout: {timeout}, stale_after: {stale}, discovery_interval: {interval}}}\n\
         status: {{window: {window}}}\n\
         targets: [{targets}]\n",
        interval = millis(10),
        timeout = millis(8),
        stale = millis(30),
        window = millis(120),
    );
    let mut config =
        load::from_text("life", &yaml, Path::new(""), &|_| None).expect("the settings are valid");
    for rule in &mut config.alerts.rules {
        *rule = Arc::new(scaled(rule, time));
    }
    config
}

/// Returns a rule with its times scaled.
fn scaled(rule: &Rule, time: StoryTime) -> Rule {
    let mut rule = Rule { pending_for: time.scaled(rule.pending_for), ..rule.clone() };
    scale(&mut rule.expression, time);
    rule
}

fn scale(expression: &mut Expression, time: StoryTime) {
    match expression {
        Expression::Comparison(condition) => {
            if let (FactUnit::Seconds, Operand::Number(seconds)) =
                (condition.fact.unit, &mut condition.operand)
            {
                *seconds = time.scaled(Duration::from_secs_f64(*seconds)).as_secs_f64();
            }
        }
        Expression::Joined(left, _, right) => {
            scale(left, time);
            scale(right, time);
        }
    }
}

/// A scene with what is expected of its groups.
type ExpectedScene = (String, Vec<(Subject, Vec<Expected>)>);

/// Returns the table, and true if everything was right.
fn verdict(expected: Vec<ExpectedScene>, seen: &Seen) -> (String, bool) {
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
