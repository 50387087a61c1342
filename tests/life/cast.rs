//! The parts of the story: who does what when, and what must be seen of it.
//!
//! The times are minutes of the story. With default settings a condition needs the window of two minutes, and a rule its
//! own time on top. Each range adds two minutes for the polls and the machine.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::actors::{Pace, Stage};
use crate::judgement::{Expected, alert, condition, may, must};
use crate::observer::Subject;
use crate::story_time::{LENGTH, StoryTime};
use crate::support::server::Server;

/// One stream with its actors, and what must be seen of its groups. What is not listed must not be seen.
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) expected: Vec<(Subject, Vec<Expected>)>,
    pub(crate) play: Pin<Box<dyn Future<Output = ()> + Send>>,
}

const ALL: std::ops::Range<f64> = 0.0..LENGTH;
const AT_END: [f64; 2] = [LENGTH, LENGTH];

const ABANDONED: &str = "RedisStreamGroupAbandoned";
const FALLING_BEHIND: &str = "RedisStreamGroupFallingBehind";
const GONE: &str = "RedisStreamGroupGone";
const LAGGING: &str = "RedisStreamGroupLagging";
const NO_CONSUMERS: &str = "RedisStreamGroupNoConsumers";
const LOST: &str = "RedisStreamEntriesLost";
const REDELIVERED: &str = "RedisStreamPendingRedelivered";
const STALLED: &str = "RedisStreamGroupStalled";
const STUCK: &str = "RedisStreamPendingStuck";

/// The server with all streams but those of [`restarting`].
pub(crate) const MAIN: &str = "main";
/// The server that goes and comes back.
pub(crate) const FLAKY: &str = "flaky";
/// The minutes in which it is away.
pub(crate) const AWAY: std::ops::Range<f64> = 20.0..27.0;

pub(crate) fn scenes(time: StoryTime, main: &Server, flaky: &Server) -> Vec<Scene> {
    let stage = |name: &str| Stage::new(time, main, name);
    // Before that, a job whose first read finds nothing has no consumer until its second.
    let reading_adds_consumer = main.program().version >= (7, 2, 0);
    let mut scenes: Vec<_> =
        (0..30).map(|number| healthy(stage(&format!("healthy-{number:02}")), number)).collect();
    scenes.extend([
        slow(stage("slow")),
        dead(stage("dead")),
        without_consumers(stage("without-consumers")),
        crashing(stage("crashing")),
        poisoned(stage("poisoned")),
        bursting(stage("bursting")),
        batching(stage("batch-5"), 5.0, reading_adds_consumer),
        batching(stage("batch-15"), 15.0, reading_adds_consumer),
        pods(stage("pods")),
        overrun(stage("overrun"), main.program().version >= (7, 0, 0)),
        recreated(stage("recreated")),
        deleted(stage("deleted")),
        forgetful(stage("forgetful")),
        busy(stage("busy")),
        quiet(stage("quiet")),
        restarting(Stage::new(time, flaky, "restarting")),
    ]);
    scenes
}

fn scene(stage: &Stage, expected: Vec<Expected>, play: impl Future<Output = ()> + Send + 'static) -> Scene {
    named_scene(stage, MAIN, vec![("g", expected)], play)
}

fn named_scene(
    stage: &Stage,
    target: &str,
    expected: Vec<(&str, Vec<Expected>)>,
    play: impl Future<Output = ()> + Send + 'static,
) -> Scene {
    let expected =
        expected.into_iter().map(|(group, expected)| (subject(target, &stage.key, group), expected));
    Scene { name: stage.key.clone(), expected: expected.collect(), play: Box::pin(play) }
}

fn subject(target: &str, stream: &str, group: &str) -> Subject {
    Subject { target: target.to_owned(), stream: stream.to_owned(), group: group.to_owned() }
}

/// A group that keeps up: on a stream that is trimmed far behind it, on a queue, or on a stream that only grows.
fn healthy(stage: Stage, number: usize) -> Scene {
    let rate = [10.0, 5.0, 2.0][number % 3];
    scene(&stage.clone(), vec![], async move {
        stage.create_group("g").await;
        match number % 3 {
            0 => tokio::join!(
                stage.produce(rate, &["MAXLEN", "~", "1000"], ALL),
                stage.consume("g", Pace::QUICK, ALL)
            ),
            1 => tokio::join!(stage.produce(rate, &[], ALL), stage.consume_queue("g", Pace::QUICK, ALL)),
            _ => tokio::join!(stage.produce(rate, &[], ALL), stage.consume("g", Pace::QUICK, ALL)),
        };
    })
}

/// Reads 8 of 20 entries a second for 18 minutes.
fn slow(stage: Stage) -> Scene {
    let expected = vec![
        must(condition("lagging"), [10.5, 15.0], [28.0, 33.0]),
        must(alert(LAGGING), [15.0, 20.0], [28.0, 35.0]),
        must(alert(FALLING_BEHIND), [20.0, 27.0], [28.0, 32.0]),
    ];
    scene(&stage.clone(), expected, async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(20.0, &[], ALL), async {
            stage.consume("g", Pace::QUICK, 0.0..10.0).await;
            stage.consume("g", Pace::new(2, 250), 10.0..28.0).await;
            stage.consume("g", Pace::QUICK, 28.0..LENGTH).await;
        });
    })
}

/// Its consumer ends, and comes back after 25 minutes. No second alert about the same matter is sent.
fn dead(stage: Stage) -> Scene {
    let expected = vec![
        must(condition("abandoned"), [11.0, 14.0], [35.0, 37.0]),
        may(condition("lagging"), [10.0, 37.0]),
        must(alert(ABANDONED), [13.0, 26.0], [35.0, 37.0]),
    ];
    scene(&stage.clone(), expected, async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], ALL), async {
            stage.consume("g", Pace::QUICK, 0.0..10.0).await;
            stage.consume("g", Pace::QUICK, 35.0..LENGTH).await;
        });
    })
}

/// A group that never has a consumer, until an operator destroys it.
fn without_consumers(stage: Stage) -> Scene {
    let expected = vec![
        must(condition("abandoned"), [5.0, 8.5], [50.0, 52.0]),
        may(condition("lagging"), [5.0, 52.0]),
        may(alert(ABANDONED), [7.0, 20.0]),
        must(alert(NO_CONSUMERS), [15.0, 20.0], [50.0, 52.0]),
    ];
    scene(&stage.clone(), expected, async move {
        tokio::join!(stage.produce(5.0, &[], ALL), async {
            stage.time.until(5.0).await;
            stage.create_group("g").await;
            stage.at(50.0, &["XGROUP", "DESTROY", &stage.key, "g"]).await;
        });
    })
}

/// Each four minutes its consumer dies with entries that it did not acknowledge; the next one takes them over.
fn crashing(stage: Stage) -> Scene {
    scene(&stage.clone(), vec![], async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], ALL), async {
            for begin in (0..15_u8).map(|round| f64::from(round) * 4.0) {
                stage.consume("g", Pace::QUICK, begin..begin + 3.5).await;
                let taken = stage.take("g", "crashed", 5).await;
                stage.time.until(begin + 4.0).await;
                for id in taken {
                    stage.now(&["XCLAIM", &stage.key, "g", "c", "0", &id]).await;
                    stage.acknowledge("g", &id).await;
                }
            }
        });
    })
}

/// An entry fails again and again from the twelfth minute on, and blocks the group until it is put aside.
fn poisoned(stage: Stage) -> Scene {
    let expected = vec![
        must(condition("stalled"), [13.0, 16.0], [40.0, 42.0]),
        may(condition("lagging"), [12.0, 42.0]),
        must(alert(STALLED), [14.0, 26.0], [40.0, 42.0]),
        must(alert(REDELIVERED), [12.0, 20.0], [40.0, 42.0]),
    ];
    scene(&stage.clone(), expected, async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], ALL), async {
            stage.consume("g", Pace::QUICK, 0.0..12.0).await;
            let mut taken = Vec::new();
            while taken.is_empty() {
                taken = stage.take("g", "c", 1).await;
            }
            stage.fail_on_oldest("g", Pace::new(1, 200), 12.0..40.0).await;
            stage.acknowledge("g", &taken[0]).await;
            stage.consume("g", Pace::QUICK, 40.0..LENGTH).await;
        });
    })
}

/// Many entries at once, which take three minutes to read.
fn bursting(stage: Stage) -> Scene {
    scene(&stage.clone(), vec![], async move {
        stage.create_group("g").await;
        let three_minutes = usize::try_from(stage.time.real(3.0).as_secs()).expect("it is short");
        tokio::join!(
            stage.produce(2.0, &[], ALL),
            async {
                for minute in [8.0, 24.0, 40.0] {
                    stage.time.until(minute).await;
                    stage.burst(three_minutes * 40).await;
                }
            },
            stage.consume("g", Pace::new(5, 100), ALL)
        );
    })
}

/// A job that reads all there is every so many minutes. Its first pause may look abandoned.
fn batching(stage: Stage, every: f64, reading_adds_consumer: bool) -> Scene {
    let first = [0.0, every + 2.0];
    let mut expected = vec![
        may(condition("abandoned"), first),
        may(condition("lagging"), first),
        may(alert(ABANDONED), first),
        may(alert(FALLING_BEHIND), first),
    ];
    if !reading_adds_consumer {
        expected.push(may(alert(NO_CONSUMERS), first));
    }
    scene(&stage.clone(), expected, async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], ALL), async {
            let mut minute = 0.0;
            while minute < LENGTH {
                stage.time.until(minute).await;
                stage.drain("g").await;
                minute += every;
            }
        });
    })
}

/// A group for each pod. A rollout destroys one group in an orderly way and makes another; one pod dies and leaves its
/// group.
fn pods(stage: Stage) -> Scene {
    let expected = vec![
        ("pod-1", vec![]),
        ("pod-2", vec![]),
        ("pod-3", vec![must(alert(GONE), [20.0, 24.0], AT_END)]),
        ("pod-4", vec![]),
        (
            "pod-5",
            vec![
                must(condition("abandoned"), [26.0, 29.0], AT_END),
                may(condition("lagging"), [25.0, LENGTH]),
                must(alert(ABANDONED), [28.0, 42.0], AT_END),
            ],
        ),
    ];
    named_scene(&stage.clone(), MAIN, expected, async move {
        for pod in ["pod-1", "pod-2", "pod-3", "pod-5"] {
            stage.create_group(pod).await;
        }
        tokio::join!(
            stage.produce(5.0, &[], ALL),
            stage.consume("pod-1", Pace::QUICK, ALL),
            stage.consume("pod-2", Pace::QUICK, ALL),
            async {
                stage.consume("pod-3", Pace::QUICK, 0.0..19.5).await;
                stage.at(20.0, &["XGROUP", "DESTROY", &stage.key, "pod-3"]).await;
                stage.now(&["XGROUP", "CREATE", &stage.key, "pod-4", "$"]).await;
                stage.consume("pod-4", Pace::QUICK, 20.0..LENGTH).await;
            },
            stage.consume("pod-5", Pace::QUICK, 0.0..25.0),
        );
    })
}

/// The stream is trimmed faster than its consumer reads, for 25 minutes. Servers before 7.0 do not count what is added, so
/// that losses are not noticed.
fn overrun(stage: Stage, counts_entries: bool) -> Scene {
    // The rule remembers losses for five minutes of real time.
    let resolved = (45.0 + stage.time.minutes(Duration::from_secs(300))).min(LENGTH);
    let mut expected = vec![may(condition("lagging"), [15.0, 45.0])];
    if counts_entries {
        expected.push(must(condition("losing"), [15.0, 19.0], [40.0, 45.0]));
        expected.push(must(alert(LOST), [15.0, 20.0], [40.0, resolved]));
    }
    scene(&stage.clone(), expected, async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(50.0, &["MAXLEN", "=", "100"], ALL), async {
            stage.consume("g", Pace::QUICK, 0.0..15.0).await;
            stage.consume("g", Pace::new(10, 1_000), 15.0..40.0).await;
            stage.consume("g", Pace::QUICK, 40.0..LENGTH).await;
        });
    })
}

/// A group is destroyed while it is read, and created again.
fn recreated(stage: Stage) -> Scene {
    scene(&stage.clone(), vec![must(alert(GONE), [20.0, 24.0], [35.0, 37.0])], async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], ALL), stage.consume("g", Pace::QUICK, ALL), async {
            stage.at(20.0, &["XGROUP", "DESTROY", &stage.key, "g"]).await;
            stage.at(35.0, &["XGROUP", "CREATE", &stage.key, "g", "$"]).await;
        });
    })
}

/// A stream is deleted while its group is read.
fn deleted(stage: Stage) -> Scene {
    scene(&stage.clone(), vec![must(alert(GONE), [25.0, 29.0], AT_END)], async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], 0.0..24.5), stage.consume("g", Pace::QUICK, 0.0..24.5));
        stage.at(25.0, &["DEL", &stage.key]).await;
    })
}

/// One entry is not acknowledged for 35 minutes.
fn forgetful(stage: Stage) -> Scene {
    // A window after the last read of the first consumer, which ends a moment before minute 10.
    let expected = vec![
        must(condition("stuck"), [11.5, 15.0], [45.0, 47.0]),
        must(alert(STUCK), [14.0, 30.0], [45.0, 47.0]),
    ];
    scene(&stage.clone(), expected, async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], ALL), async {
            stage.consume("g", Pace::QUICK, 0.0..10.0).await;
            let mut taken = Vec::new();
            while taken.is_empty() {
                taken = stage.take("g", "forgetful", 1).await;
            }
            stage.consume("g", Pace::QUICK, 10.0..45.0).await;
            stage.acknowledge("g", &taken[0]).await;
            stage.consume("g", Pace::QUICK, 45.0..LENGTH).await;
        });
    })
}

/// Takes a large batch and acknowledges it entry by entry for six minutes, in which it reads nothing.
fn busy(stage: Stage) -> Scene {
    scene(&stage.clone(), vec![], async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(2.0, &[], ALL), async {
            stage.consume("g", Pace::QUICK, 0.0..10.0).await;
            stage.burst(60).await;
            let taken = stage.take("g", "c", 60).await;
            let pause = stage.time.real(6.0).min(Duration::from_secs(360)) / 60;
            for id in taken {
                tokio::time::sleep(pause).await;
                stage.acknowledge("g", &id).await;
            }
            stage.consume("g", Pace::QUICK, 16.0..LENGTH).await;
        });
    })
}

/// Some entries, all read, and nothing else for an hour.
fn quiet(stage: Stage) -> Scene {
    scene(&stage.clone(), vec![], async move {
        stage.create_group("g").await;
        stage.burst(5).await;
        stage.drain("g").await;
    })
}

/// On the server that goes and comes back.
fn restarting(stage: Stage) -> Scene {
    let target = must(alert("RedisStreamTargetDown"), [20.0, 25.0], [27.0, 30.0]);
    let mut scene = named_scene(&stage.clone(), FLAKY, vec![("g", vec![])], async move {
        stage.create_group("g").await;
        tokio::join!(stage.produce(5.0, &[], ALL), stage.consume("g", Pace::QUICK, ALL));
    });
    scene.expected.push((subject(FLAKY, "", ""), vec![target]));
    scene
}
