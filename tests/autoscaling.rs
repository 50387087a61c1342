//! An autoscaler that follows KEDA's rules, on the backlog of a group, through everything that makes a lag nil or wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::time::Duration;

use fastrand::Rng;
use redis::{FromRedisValue, Value};
use redis_stream_core::clock::now;
use serde_json::Value as Json;
use tokio::time::{Instant, sleep};

use support::client::RedisClient;
use support::config::serving;
use support::program::Exporter;
use support::server::Server;
use support::servers::for_each_program;
use support::snapshot::{id, list, text};
use support::wait::wait_until;

const POLL: &str = "poll: {interval: 300ms, timeout: 290ms, stale_after: 2s, discovery_interval: 300ms}\n";
const PATH: &str = "/api/v1/backlog?target=t&db=db0&stream=jobs&group=workers";
/// Time between two questions of the autoscaler, which is KEDA's `pollingInterval`.
const POLLING_INTERVAL: Duration = Duration::from_millis(200);
/// Age up to which an answer may be out of date: two polls, on a machine that is busy with other tests.
const MAX_AGE: Duration = Duration::from_secs(4);
/// Entries that one worker takes, which is KEDA's `targetValue`.
const TARGET_VALUE: u64 = 5;
const MAX_REPLICAS: u64 = 40;

/// Scales as KEDA does: an error changes nothing, activation is strict, and the number of workers is the backlog by the
/// target, rounded up.
fn replicas(backlog: u64) -> u64 {
    backlog.div_ceil(TARGET_VALUE).min(MAX_REPLICAS)
}

/// The backlog by the server's own data, with the times from which it held.
#[derive(Debug, Default)]
struct Truth(VecDeque<(Instant, u64)>);

impl Truth {
    fn note(&mut self, began: Instant, backlog: u64) {
        self.0.push_back((began, backlog));
    }

    /// Returns what may have been read in the last `MAX_AGE`.
    fn recent(&self, now: Instant) -> Vec<u64> {
        let is_over = |next: &(Instant, u64)| next.0 + MAX_AGE < now;
        let first = self.0.iter().skip(1).take_while(|next| is_over(next)).count();
        self.0.iter().skip(first).map(|(_, backlog)| *backlog).collect()
    }
}

/// The outcomes that the autoscaler saw.
#[derive(Debug, Default)]
struct Seen {
    answers: u64,
    errors: u64,
    scalings: u64,
    replicas: u64,
    wrong: Vec<String>,
}

/// A duration in the environment, or a short time.
fn time() -> Duration {
    let given = env::var("STREAMGAUGE_AUTOSCALING").ok().filter(|text| !text.is_empty());
    given.map_or(Duration::from_secs(25), |text| humantime::parse_duration(&text).unwrap())
}

/// Reads the backlog from the stream itself. Returns it, and true if the server reports no lag.
async fn truth(client: &mut RedisClient) -> (u64, bool) {
    let groups: Value = client.ask(&["XINFO", "GROUPS", "jobs"]).await;
    let fields = list(list(groups).remove(0));
    let field = |name: &str| {
        let at =
            fields.iter().position(|field| matches!(field, Value::BulkString(_)) && text(field) == name)?;
        fields.get(at + 1)
    };
    let after = format!("({}", id(field("last-delivered-id").unwrap()));
    let waiting: Vec<Value> = client.ask(&["XRANGE", "jobs", &after, "+"]).await;
    let pending = u64::from_redis_value(field("pending").unwrap().clone()).unwrap();
    (waiting.len() as u64 + pending, field("lag").is_some_and(|lag| *lag == Value::Nil))
}

/// Does one thing that a producer, a consumer or an operator does.
async fn act(server: &mut Server, client: &mut RedisClient, rng: &mut Rng) {
    match rng.u8(..100) {
        0..30 => {
            for _ in 0..rng.u8(1..12) {
                client.run("XADD jobs * n 1").await;
            }
        }
        30..55 => {
            let count = rng.u8(1..9);
            client.run(&format!("XREADGROUP GROUP workers w COUNT {count} STREAMS jobs >")).await;
        }
        55..70 => {
            let pending: Vec<Vec<Value>> = client.ask(&["XPENDING", "jobs", "workers", "-", "+", "6"]).await;
            for entry in pending {
                client.run(&format!("XACK jobs workers {}", id(&entry[0]))).await;
            }
        }
        70..85 => {
            // An entry that waits, or one that was read: the server's lag is nil then.
            let entries: Vec<Vec<Value>> = client.ask(&["XREVRANGE", "jobs", "+", "-", "COUNT", "10"]).await;
            if let Some(entry) = entries.get(rng.usize(..10)) {
                client.run(&format!("XDEL jobs {}", id(&entry[0]))).await;
            }
        }
        85..93 => client.run(&format!("XTRIM jobs MAXLEN {}", rng.u8(20..200))).await,
        93..95 => client.run("XGROUP SETID jobs workers $").await,
        95..97 => client.run("CLIENT KILL TYPE normal SKIPME yes").await,
        97..99 => {
            server.pause();
            sleep(Duration::from_millis(rng.u64(100..1_500))).await;
            server.resume();
        }
        _ => {
            server.restart().await;
            *client = RedisClient::to(server).await;
        }
    }
}

/// Acts for a time. Returns the number of moments at which the server had no lag.
async fn operate(server: &mut Server, truths: &RefCell<Truth>, time: Duration, seed: u64) -> u64 {
    let (mut rng, mut client) = (Rng::with_seed(seed), RedisClient::to(server).await);
    let (ends, mut without_lag) = (now() + time, 0);
    while now() < ends {
        let began = now();
        act(server, &mut client, &mut rng).await;
        let (backlog, has_no_lag) = truth(&mut client).await;
        without_lag += u64::from(has_no_lag);
        truths.borrow_mut().note(began, backlog);
        sleep(Duration::from_millis(rng.u64(0..120))).await;
    }
    without_lag
}

/// Asks for the backlog for ever, and scales by it.
async fn scale(exporter: &Exporter, truths: &RefCell<Truth>, seen: &RefCell<Seen>) {
    loop {
        let answer = exporter.get(PATH).await;
        seen.borrow_mut().note(answer.status.as_u16(), &answer.text(), &truths.borrow().recent(now()));
        sleep(POLLING_INTERVAL).await;
    }
}

impl Seen {
    /// Notes an answer, given the backlogs that may have been read.
    fn note(&mut self, status: u16, text: &str, recent: &[u64]) {
        match status {
            200 => {
                let answer: Json = serde_json::from_str(text).unwrap();
                let backlog = answer["backlog"].as_u64().unwrap();
                // It may have been read in the middle of an action, between two commands.
                let (least, most) = (recent.iter().min().unwrap(), recent.iter().max().unwrap());
                let wanted = replicas(backlog);
                if !(replicas(*least)..=replicas(*most)).contains(&wanted) {
                    self.wrong.push(format!("{wanted} workers for {backlog}, and it was {recent:?}"));
                }
                self.scalings += u64::from(wanted != self.replicas);
                (self.answers, self.replicas) = (self.answers + 1, wanted);
            }
            503 => self.errors += 1,
            other => self.wrong.push(format!("{other}: {text}")),
        }
    }
}

/// One entry must wake one worker, once everything is done. Returns how long that took.
async fn wakes_a_worker(server: &Server, exporter: &Exporter) -> Duration {
    let mut client = RedisClient::to(server).await;
    let backlog = async || {
        let answer = exporter.get(PATH).await;
        (answer.status == 200)
            .then(|| serde_json::from_str::<Json>(&answer.text()).unwrap()["backlog"].as_u64())?
    };
    client.run("XGROUP DESTROY jobs workers\nXGROUP CREATE jobs workers $").await;
    wait_until(MAX_AGE, "there is nothing to do", async || backlog().await == Some(0)).await;
    let added = now();
    client.run("XADD jobs * n 1").await;
    wait_until(MAX_AGE, "one worker is wanted", async || {
        sleep(POLLING_INTERVAL).await;
        backlog().await.map(replicas) == Some(1)
    })
    .await;
    let woken_after = added.elapsed();
    let missing = exporter.get(&PATH.replace("workers", "none")).await;
    assert_eq!(missing.status, 404, "{}", missing.text());
    woken_after
}

#[tokio::test]
async fn an_autoscaler_is_never_given_a_wrong_backlog() {
    for_each_program(async |program| {
        let mut server = Server::start(program, &["--appendonly", "yes"]).await;
        let mut client = RedisClient::to(&server).await;
        client.run("XADD jobs 1-0 n 1\nXGROUP CREATE jobs workers 0").await;
        let yaml = format!("{POLL}targets: [{{name: t, url: '{}', streams: [jobs]}}]", server.url());
        let exporter = serving(&yaml).await;
        let (truths, seen) = (RefCell::new(Truth::default()), RefCell::new(Seen::default()));
        truths.borrow_mut().note(now(), 1);
        let seed = Rng::new().u64(..);
        let without_lag = tokio::select! {
            without_lag = operate(&mut server, &truths, time(), seed) => without_lag,
            () = scale(&exporter, &truths, &seen) => unreachable!("it scales for ever"),
        };
        let seen = seen.into_inner();
        eprintln!(
            "{program}: {} answers, {} errors, {} scalings, {} wrong; {without_lag} times without a lag of the server",
            seen.answers,
            seen.errors,
            seen.scalings,
            seen.wrong.len()
        );
        assert_eq!(seen.wrong, [] as [String; 0], "seed {seed}");
        assert!(seen.answers > 20 && seen.scalings > 5, "seed {seed}: {seen:?}");
        assert!(program.version < (7, 0, 0) || without_lag > 0, "seed {seed}");
        let woken_after = wakes_a_worker(&server, &exporter).await;
        eprintln!("{program}: woken within {} ms", woken_after.as_millis());
        exporter.stop().await;
    })
    .await;
}
