//! Memory of notifiers whose receivers accept connections and never answer, while groups come and go under new names.
//! Alone in its process, since it reads the memory of the process.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis_stream_core::clock::{now, unix_time};
use streamgauge::alert::notification::{Alert, AlertStatus, Notification, SendReason};
use streamgauge::config::load::from_text;
use streamgauge::notify::Notifiers;
use streamgauge::self_metrics::SelfMetrics;
use tikv_jemallocator::Jemalloc;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod support;

use support::footprint::own_bytes;
use support::metrics::{Metrics, parse};

/// As in the program.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const GROUPS_IN_A_ROUND: usize = 1_000;
/// Of each receiver's queue.
const CAPACITY_ALERTS: f64 = 50_000.0;
const ROUNDS_TO_FILL: usize = 52;
const LAST_ROUNDS: usize = 8;
const MOST_GROWTH: u64 = 16 << 20;
const DEADLINE: Duration = Duration::from_secs(600);

/// A listener that reads everything and answers nothing, and the number of its connections.
async fn never_answering() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut read = vec![0; 65_536];
                while stream.read(&mut read).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    (address, connections)
}

fn alert(group: &str, status: AlertStatus) -> Alert {
    let labels = [
        ("alertname", "RedisStreamGroupLagging"),
        ("db", "db0"),
        ("group", group),
        ("severity", "warning"),
        ("stream", "orders"),
        ("target", "cache"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let at = unix_time();
    Alert {
        labels: Arc::new(labels.into_iter().map(owned).collect()),
        annotations: BTreeMap::from([owned(("summary", &format!("{group} is behind")))]),
        value: 12.0,
        starts_at: at,
        ends_at: if status == AlertStatus::Firing { at + Duration::from_secs(240) } else { at },
        status,
        inhibited_by: None,
        notifiers: Arc::new([]),
    }
}

/// Returns the notifications of a round: its groups begin to fire, and a tenth of those of the last one resolve.
fn notifications(round: usize) -> Vec<Notification> {
    let of = |round: usize, status| {
        (0..GROUPS_IN_A_ROUND).map(move |group| {
            let alert = Arc::new(alert(&format!("job-{round}-{group}"), status));
            Notification { alert, reason: SendReason::Changed }
        })
    };
    let over = of(round.saturating_sub(1), AlertStatus::Resolved).step_by(10);
    of(round, AlertStatus::Firing).chain(over).collect()
}

fn is_full(metrics: &Metrics) -> bool {
    ["am", "hook", "chat", "pager"].into_iter().all(|name| {
        let series = format!("streamgauge_notification_queue_length{{notifier=\"{name}\"}}");
        metrics[&series] >= CAPACITY_ALERTS
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_while_receivers_never_answer_and_groups_come_and_go() {
    let receivers =
        [never_answering().await, never_answering().await, never_answering().await, never_answering().await];
    let [am, hook, chat, pager] = receivers.each_ref().map(|(address, _)| format!("http://{address}"));
    let text = format!(
        "targets: [{{url: 'redis://cache'}}]
alerts:
  notifiers:
    - {{name: am, alertmanager: {{urls: ['{am}'], timeout: 1s}}}}
    - {{name: hook, webhook: {{url: '{hook}', timeout: 1s}}}}
    - {{name: chat, slack: {{webhook_url: '{chat}', timeout: 1s}}}}
    - {{name: pager, pagerduty: {{routing_key: k, url: '{pager}', timeout: 1s}}}}
"
    );
    let config = from_text("test", &text, Path::new("/"), &|_| None).expect("it is valid");
    let metrics = SelfMetrics::new(Duration::ZERO, &[]).expect("the names are valid");
    let shutdown = CancellationToken::new();
    let notifiers = Notifiers::start(&config.alerts.notifiers, None, &metrics, &shutdown, None);
    let handle = notifiers.handle();
    let rendered = || {
        let text = metrics.render(None, |_| false).expect("it can be rendered");
        parse(&String::from_utf8(text).expect("it is UTF-8"))
    };
    let attempts = || receivers.iter().map(|(_, connections)| connections.load(Ordering::Relaxed)).min();

    let (began, mut round) = (now(), 0);
    // Returns the least memory in the last rounds: an attempt holds what it sends until it has failed.
    let mut churn_until = async |least_attempts: usize, least_rounds: usize| {
        let mut memory = VecDeque::new();
        while attempts() < Some(least_attempts) || round < least_rounds {
            assert!(began.elapsed() < DEADLINE, "{:?} attempts, {round} rounds", attempts());
            handle.send(&notifications(round));
            round += 1;
            tokio::task::yield_now().await;
            memory.push_front(own_bytes(std::process::id()));
            memory.truncate(LAST_ROUNDS);
        }
        memory.into_iter().min().expect("there was a round")
    };
    let before = churn_until(3, ROUNDS_TO_FILL + LAST_ROUNDS).await;
    assert!(is_full(&rendered()), "the queues are full");
    let after = churn_until(6, 2 * (ROUNDS_TO_FILL + LAST_ROUNDS)).await;
    assert!(
        after < before + MOST_GROWTH,
        "{} MiB, and {} MiB after as many alerts more as a queue takes: a full one drops the oldest for each new one",
        before >> 20,
        after >> 20,
    );
}
