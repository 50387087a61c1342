//! State files that are too large or very large, and an end with alerts that no receiver takes.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use redis_stream_core::clock::unix_time;

use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, QUICK};
use crate::support::fake_server::{Behavior, FakeServer};
use crate::support::metrics::named;
use crate::support::receiver::TestReceiver;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);
/// Within the 10 s that Docker allows, on a loaded machine.
const GRACE: Duration = Duration::from_secs(10);

/// Targets that nothing listens for, and a rule.
fn unreachable(targets: usize) -> ConfigFile {
    let mut yaml = "poll: {interval: 1h, timeout: 10s}
alerts: {recommended: false, state_file: state.json, rules: [{alert: Behind, expr: lag > 0}]}
targets:
"
    .to_owned();
    for n in 0..targets {
        writeln!(yaml, "- {{name: t{n}, url: 'redis://127.0.0.1:1'}}").expect("a string takes all");
    }
    ConfigFile::new(&yaml)
}

/// A state file with firing alerts of so many targets, not in the order of their subjects.
fn state(alerts: usize, targets: usize) -> String {
    let now = unix_time().as_secs();
    let time = |ago: u64| format!(r#"{{"secs":{},"nanos":0}}"#, now - ago);
    let (active_at, fired_at, sent_at) = (time(100), time(50), time(10));
    let mut text = format!(r#"{{"version":1,"saved_at":{},"receivers":{{}},"alerts":["#, time(0));
    for n in 0..alerts {
        let comma = if n == 0 { "" } else { "," };
        let (stream, target) = (n * 7919 % alerts, n % targets);
        write!(
            text,
            r#"{comma}{{"labels":{{"alertname":"Behind","db":"db0","group":"g","stream":"s{stream}","target":"t{target}"}},
            "state":{{"phase":"firing","value":1.0,"active_at":{active_at},"fired_at":{fired_at},"resolved_at":null,
            "kept_since":null,"unknown_since":null,"last_sent_at":{sent_at}}}}}"#
        )
        .expect("a string takes all");
    }
    text + "]}"
}

#[tokio::test]
async fn a_state_file_above_its_limit_is_not_used_and_the_exporter_starts() {
    let config = unreachable(1);
    let path = config.put("state.json", "");
    let file = fs::File::options().write(true).open(&path).expect("it is ours");
    file.set_len((64 << 20) + 1).expect("it is sparse");
    let exporter = config.serve().serving().await;
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    let finished = exporter.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    for part in [
        "state file not used; alerts start without their history",
        &format!("cannot read {}: larger than 64 MiB, the limit of such a file", path.display()),
    ] {
        assert!(finished.stderr.contains(part), "{part} in {}", finished.stderr);
    }
}

#[tokio::test]
async fn many_saved_alerts_of_one_target_or_of_thousands_do_not_delay_the_start() {
    for (alerts, targets) in [(60_000, 1), (30_000, 3_000)] {
        let config = unreachable(targets);
        config.put("state.json", &state(alerts, targets));
        // Within the deadline of `serving`.
        let exporter = config.serve().serving().await;
        assert!(exporter.stderr().contains(&format!("alerts={alerts}")), "{}", exporter.stderr());
        assert_eq!(exporter.get("/-/healthy").await.status, 200);
        exporter.kill();
    }
}

#[tokio::test]
async fn a_signal_while_saved_alerts_are_restored_is_heeded() {
    let config = unreachable(1);
    config.put("state.json", &state(100_000, 1));
    let running = config.serve().spawn();
    wait_until(SOON, "they are read", async || running.stderr().contains("alerts=100000")).await;
    let finished = running.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.took < GRACE, "{:?}", finished.took);
}

#[tokio::test]
async fn receivers_that_never_answer_do_not_delay_the_end_and_are_notified_after_a_restart() {
    const GROUPS: u64 = 1_000;
    let server = Server::start(newest(), &[]).await;
    let script = "redis.call('XADD', 's', '*', 'f', 'v')
        for n = 1, 1000 do redis.call('XGROUP', 'CREATE', 's', 'g' .. n, '0') end";
    RedisClient::to(&server).await.ask::<Option<i64>>(&["EVAL", script, "0"]).await;
    let (silent, closed) = (FakeServer::new(Behavior::NoReply).await, "127.0.0.1:1");
    let config = |hook: &str| {
        format!(
            "{QUICK}targets: [{{name: t, url: '{}'}}]
alerts:
  recommended: false
  state_file: state.json
  rules: [{{alert: Behind, expr: lag > 0}}]
  notifiers:
    - {{name: hook, webhook: {{url: 'http://{hook}'}}}}
    - {{name: main, alertmanager: {{urls: ['http://{silent}', 'http://{closed}']}}}}
    - {{name: chat, slack: {{webhook_url: 'http://{silent}'}}}}
    - {{name: pages, pagerduty: {{url: 'http://{silent}', routing_key: k}}}}
",
            server.url(),
            silent = silent.address
        )
    };
    let before = ConfigFile::new(&config(&silent.address.to_string()));
    let exporter = before.serve().serving().await;
    wait_until(SOON, "all fire", async || {
        named(&exporter.metrics().await, "streamgauge_alerts").len() as u64 == GROUPS
    })
    .await;
    wait_until(SOON, "each receiver is asked", async || silent.connections() >= 4).await;
    let finished = exporter.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.took < GRACE, "{:?}: {}", finished.took, finished.stderr);

    let receiver = TestReceiver::new().await;
    before.put("config.yaml", &config(&receiver.address.to_string()));
    let exporter = before.serve().serving().await;
    assert!(exporter.stderr().contains("restored alerts from state file"), "{}", exporter.stderr());
    wait_for(SOON, "all are sent", async || {
        let bodies = receiver.received();
        let alerts = bodies.iter().filter_map(|request| request.body["alerts"].as_array());
        let truncated = bodies.iter().filter_map(|request| request.body["truncatedAlerts"].as_u64());
        let sent = alerts.map(|alerts| alerts.len() as u64).chain(truncated).sum::<u64>();
        if sent == GROUPS { Ok(()) } else { Err(sent) }
    })
    .await;
    exporter.kill();
}

/// Otherwise a power failure may bring back the former file, or none.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[tokio::test]
async fn the_folder_of_the_state_file_is_synced_once_the_file_is_in_place() {
    let config = unreachable(1);
    let path = config.path().with_file_name("state.json");
    let (library, log) = (path.with_file_name("fsync_log.so"), path.with_file_name("log"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hardening/fsync_log.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("there is a C compiler").success());
    let exporter = config.serve().env("LD_PRELOAD", &library).env("FSYNC_LOG", &log).env("FSYNC_OF", &path);
    let finished = exporter.serving().await.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let folder = path.parent().expect("it is in a folder").canonicalize().expect("it is there");
    let synced = fs::read_to_string(&log).expect("a folder was synced");
    let expected = format!("1 {}", folder.display());
    assert!(!synced.is_empty() && synced.lines().all(|line| line == expected), "{synced}");
}
