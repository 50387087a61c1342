//! What `check` says of alerts: rules that cannot fire on the server that is there, and receivers that cannot be
//! reached.

use std::time::Duration;

use redis_stream_core::clock::unix_time;
use redis_stream_lag::report::Report;
use streamgauge::alert::capabilities::{self, LimitationEffect};
use streamgauge::alert::condition::Condition;
use streamgauge::alert::fact::{FACTS, Fact, FactSource, FactValue, of_group, of_stream};
use streamgauge::alert::loss_window::LossWindow;
use streamgauge::alert::operator::Operator;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

mod support;

use support::client::RedisClient;
use support::config::ConfigFile;
use support::polled::Polled;
use support::program::{Finished, Streamgauge};
use support::server::{Server, free_port};
use support::servers::{ServerKind, for_each_program, for_each_server, newest};
use support::wait::wait_for;

const SOON: Duration = Duration::from_secs(20);

/// A master that does not wait for more replicas before it sends them its data.
const AT_ONCE: &[&str] = &["--repl-diskless-sync-delay", "0"];

/// The value of a fact of the one group of the one stream of a report, or of the stream itself.
fn value(name: &str, report: &Report) -> FactValue {
    let fact = FACTS.iter().find(|fact| fact.name == name).expect(name);
    let [stream] = &report.streams[..] else { panic!("not one stream: {report:?}") };
    let [group] = &stream.groups[..] else { panic!("not one group: {stream:?}") };
    match fact.source {
        FactSource::TargetUp => FactValue::Known(1.0),
        FactSource::Stream(family) => of_stream(family, stream, unix_time()),
        FactSource::Group(family) => of_group(family, stream, group, Operator::Above),
        FactSource::Losses(_) => {
            let mut losses = LossWindow::default();
            losses.note(report, unix_time());
            losses.of(&stream.key, group).map_or(FactValue::Unknown, |_| FactValue::Known(0.0))
        }
        FactSource::Status(_) | FactSource::LeftOut | FactSource::GroupGone => FactValue::Unknown,
    }
}

/// Entries of which the group was given two and has two before it, and one of those given was trimmed away.
async fn with_all_that_can_be_known(server: &Server) -> RedisClient {
    let mut client = RedisClient::to(server).await;
    client.run("XADD s * f v\nXADD s * f v\nXADD s * f v\nXADD s * f v\nXGROUP CREATE s g 0").await;
    client.run("XREADGROUP GROUP g c COUNT 2 STREAMS s >\nXTRIM s MAXLEN 3").await;
    client
}

#[tokio::test]
async fn what_is_said_never_to_be_known_is_what_a_poll_does_not_find() {
    for_each_server(async |server| {
        let _talk = with_all_that_can_be_known(&server).await;
        let mut polled = Polled::new(&server, &["s"], "");
        let report = polled.poll().await.expect("it answers");
        let counts_entries = capabilities::counts_entries(&report).expect("a stream was read");
        assert_eq!(counts_entries, server.program().version >= (7, 0, 0));
        let it = capabilities::ServerCapabilities { counts_entries, is_replica: false, release: (7, 4) };
        // group_up is one of groups that are named, which a glob has not; the others take more than one poll.
        let takes_one_poll = |fact: &&Fact| {
            !matches!(
                fact.name,
                "group_up"
                    | "status"
                    | "last_delivery_age_seconds"
                    | "retention_used_ratio"
                    | "seconds_to_loss"
                    | "added_per_second"
                    | "delivered_per_second"
                    | "drain_seconds"
                    | "consumers_growth"
                    // No entry is marked by XNACK FATAL.
                    | "pending_failed"
            )
        };
        for fact in FACTS.iter().filter(takes_one_poll) {
            let condition = Condition::parse(&format!("{} > 0", fact.name)).expect("it is a condition");
            let is_never_known =
                it.limitation(&condition).is_some_and(|(effect, _)| effect == LimitationEffect::NeverKnown);
            let value = value(fact.name, &report);
            assert_eq!(value == FactValue::Unknown, is_never_known, "{}: {value:?}", fact.name);
            assert_ne!(value, FactValue::Gone, "{}", fact.name);
        }
    })
    .await;
}

#[tokio::test]
async fn a_replica_knows_less_of_consumers_than_its_master() {
    for_each_program(async |program| {
        let master = Server::start(program, AT_ONCE).await;
        let mut client = with_all_that_can_be_known(&master).await;
        client.run("XREADGROUP GROUP g c STREAMS s >").await;
        let replica = Server::start(program, &["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
        let mut polled = Polled::with_role(&replica, "replica", &["s"], "");
        let mut on_master = Polled::new(&master, &["s"], "");
        let (major, minor, _) = program.version;
        let it = capabilities::ServerCapabilities {
            counts_entries: true,
            is_replica: true,
            release: (major, minor),
        };
        let condition = Condition::parse("consumers < 1").expect("it is a condition");
        let may_be_wrong = it.limitation(&condition).is_some();
        let mut round = 0;
        wait_for(SOON, "the replica has the consumers that its version replicates", async || {
            // There is nothing left to be given. A copy as a whole brings also those who have asked before it.
            round += 1;
            client.run(&format!("XREADGROUP GROUP g idle{round} STREAMS s >")).await;
            client.run("XADD s * last v\nXREADGROUP GROUP g c STREAMS s >").await;
            let of = on_master.poll().await.map_err(|error| error.to_string())?;
            let known = polled.poll().await.map_err(|error| error.to_string())?;
            if known.streams[0].groups.is_empty() {
                return Err("it has no group".to_owned());
            }
            let [known, of] =
                [known, of].map(|report| ["messages_pending", "consumers"].map(|name| value(name, &report)));
            let found = format!("{known:?} of {of:?}");
            if known[0] != of[0] {
                return Err(found);
            }
            // Before 7.2 a consumer that was given nothing does not exist, and from 8.10 on replicas hear of it.
            let exists_on_master = of[1] != FactValue::Known(1.0);
            let expected = exists_on_master == (it.release >= (7, 2)) && (known[1] != of[1]) == may_be_wrong;
            if expected { Ok(()) } else { Err(found) }
        })
        .await;
    })
    .await;
}

async fn check(yaml: &str) -> Finished {
    ConfigFile::new(yaml).command("check").run().await
}

/// Returns the output from this heading on.
fn from<'f>(finished: &'f Finished, heading: &str) -> &'f str {
    let at = finished.stdout.find(heading).unwrap_or_else(|| panic!("no {heading:?} in {finished:?}"));
    &finished.stdout[at..]
}

#[tokio::test]
async fn rules_that_are_about_nothing_or_cannot_be_relied_on_are_named() {
    let master = Server::start(newest(), AT_ONCE).await;
    let mut client = RedisClient::to(&master).await;
    client.run("XADD orders * f v\nXGROUP CREATE orders mail 0").await;
    let replica = Server::start(newest(), &["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
    let mut copy = RedisClient::to(&replica).await;
    wait_for(SOON, "the replica has the stream", async || {
        let info: String = copy.ask(&["INFO", "replication"]).await;
        let length: i64 = copy.ask(&["XLEN", "orders"]).await;
        if length == 1 && info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    })
    .await;
    let finished = check(&format!(
        "targets: [{{name: m, url: '{}'}}, {{name: r, url: '{}', role: replica}}]
alerts:
  recommended: false
  rules:
    - {{alert: Good, expr: lag > 5, stream: 'o*', group: mail}}
    - {{alert: Typo, expr: lag > 5, stream: 'ordres*'}}
    - {{alert: NoGroup, expr: lag > 5, target: m, group: audit}}
    - {{alert: NoTarget, expr: target_up == 0, target: x}}
    - {{alert: NotNamed, expr: group_up == 0}}
    - {{alert: Lonely, expr: consumers < 2}}
    - {{alert: Silent, expr: status == stalled, target: r}}
",
        master.url(),
        replica.url()
    ))
    .await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let of_master = from(&finished, "target \"m\"").split("target \"r\"").next().unwrap_or_default();
    assert!(!of_master.contains("may be wrong") && !of_master.contains("note"), "{finished:?}");
    for said in [
        "\n  warning  consumers may be wrong here (a replica does not know of consumers that were never given an entry), which these rules rely on: 1 (Lonely)\n",
        "\n  warning  status may be wrong here (a replica ",
        "\n  note     alert rules that need 2m of history after a start: 1 (Silent)\n",
    ] {
        assert!(from(&finished, "target \"r\"").contains(said), "{said} in {finished:?}");
    }
    assert_eq!(
        from(&finished, "alerts\n"),
        "alerts
  rules    7
  warning  Typo is about no group: none was found for target \"*\", stream \"ordres*\", group \"*\"
  warning  NoGroup is about no group: none was found for target \"m\", stream \"*\", group \"audit\"
  warning  NoTarget is about no target: none is called \"x\"
  warning  NotNamed is about no group that the configuration names: none was found for target \"*\", stream \"*\", group \"*\"
"
    );
}

#[tokio::test]
async fn what_could_not_be_polled_may_have_what_a_rule_is_about() {
    let server = Server::start(newest(), &[]).await;
    let finished = check(&format!(
        "targets: [{{name: there, url: '{}'}}, {{name: away, url: 'redis://127.0.0.1:{}'}}]
alerts: {{rules: [{{alert: A, expr: lag > 5, stream: a}}, {{alert: B, expr: lag > 5, stream: a, target: there}}]}}",
        server.url(),
        free_port()
    ))
    .await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(
        from(&finished, "alerts\n"),
        "alerts
  rules    17
  warning  B is about no group: none was found for target \"there\", stream \"a\", group \"*\"
"
    );
}

#[tokio::test]
async fn receivers_are_connected_to_and_sent_nothing() {
    let server = Server::start(newest(), &[]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let heard = tokio::spawn(async move {
        let mut heard = Vec::new();
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.expect("they connect");
            stream.read_to_end(&mut heard).await.expect("they close the connection");
        }
        heard
    });
    let closed = free_port();
    let config = ConfigFile::new(&format!(
        "targets: [{{name: t, url: '{}'}}]
alerts:
  recommended: false
  notifiers:
    - {{name: main, alertmanager: {{urls: ['http://{address}/hunter2'], timeout: 15s}}}}
    - {{name: gone, alertmanager: {{urls: ['http://127.0.0.1:{closed}'], resolve_all: false}}}}
    - {{name: lost, alertmanager: {{urls: ['http://no-such-host.invalid:9093']}}}}
    - {{name: hook, webhook: {{url: 'http://{address}/services/hunter2'}}}}
    - {{name: chat, slack: {{webhook_url_file: url}}}}
    - {{name: duty, pagerduty: {{url: 'http://{address}/v2/enqueue', routing_key_file: key}}}}
",
        server.url()
    ));
    config.put("url", &format!("https://127.0.0.1:{closed}/hunter2"));
    config.put("key", "hunter2\n");
    let finished = config.command("check").run().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!format!("{finished:?}").contains("hunter2"), "{finished:?}");
    let said = from(&finished, "notifiers\n");
    for line in [
        format!("  main     http://{address} ({address}) can be reached\n"),
        format!("  warning  gone: cannot connect to 127.0.0.1:{closed}: Connection refused"),
        "  warning  lost: cannot resolve no-such-host.invalid: ".to_owned(),
        format!("  hook     http://{address} can be reached\n"),
        format!("  duty     http://{address} can be reached\n"),
        format!("  warning  chat: cannot connect to 127.0.0.1:{closed}: Connection refused"),
        "  warning  two streamgauges on one server would both write to hook, chat; only Alertmanager and PagerDuty deduplicate\n".to_owned(),
    ] {
        assert!(said.contains(&line), "{line} in {said}");
    }
    let heard =
        timeout(SOON, heard).await.expect("three have connected").expect("and closed their connections");
    assert_eq!(heard, b"");
}

#[tokio::test]
async fn what_limits_leave_out_is_told_and_what_is_named_is_never_cut() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        for number in 0..6 {
            client.run(&format!("XADD bull:{number} * f v\nXADD bus * f v")).await;
        }
        for number in 0..5 {
            client.run(&format!("XGROUP CREATE bus pod-{number} $")).await;
        }
        client
            .run("XGROUP CREATE bus zz-real 0\nXADD orders * f v\nXGROUP CREATE orders g 0\nXADD zz * f v")
            .await;
        for consumer in ["one", "two"] {
            client
                .run(&format!("XADD orders * f v\nXREADGROUP GROUP g {consumer} COUNT 1 STREAMS orders >"))
                .await;
        }
        let config = ConfigFile::new(&format!(
            "targets:
- name: t
  url: '{}'
  streams: [{{key: zz}}, {{key: bus, groups: {{include: [zz-real, '*']}}}}, {{key: '*'}}]
  limits: {{streams: 3, groups_per_stream: 2, consumers_per_group: 1}}
",
            server.url()
        ));
        let told = [
            "4 streams are left out by limits.streams; name those that matter, or raise the limit",
            "3 groups are left out by limits.groups_per_stream; name those that matter, or raise the limit",
            "2 consumers are left out by limits.consumers_per_group; delete those that are gone, or raise the limit",
        ];
        let finished = config.command("check").run().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stdout.contains("streams  5 (bull:0, bull:1, bus, orders, zz)"), "{finished:?}");
        assert!(!finished.stdout.contains("missing"), "{finished:?}");
        for line in told {
            assert!(finished.stdout.contains(&format!("  warning  {line}\n")), "{line} in {finished:?}");
        }
        let strict = config.command("check").args(["--strict"]).run().await;
        // The bytes of a poll differ by a digit of an idle time.
        let without_cost =
            |text: &str| text.lines().filter(|line| !line.starts_with("  cost ")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            (strict.code, without_cost(&strict.stdout)),
            (Some(1), without_cost(&finished.stdout)),
            "{strict:?}"
        );
        assert!(strict.stderr.ends_with(" warnings (--strict)\n"), "{strict:?}");

        let status = config.command("status").args(["--observe", "0s"]).run().await;
        assert_eq!(status.code, Some(0), "{status:?}");
        for line in told {
            assert!(status.stderr.contains(&format!("target \"t\": {line}\n")), "{line} in {status:?}");
        }
        for name in ["zz-real", "orders"] {
            assert!(status.stdout.contains(name), "{name} in {status:?}");
        }
        let status = config.command("status").args(["--observe", "0s", "--json"]).run().await;
        let listing: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
        let limited = serde_json::json!({"streams": 4, "groups": 3, "consumers": 2});
        assert_eq!(listing["targets"][0]["limited"], limited, "{listing}");
    })
    .await;
}

#[tokio::test]
async fn streams_that_were_not_read_within_the_budget_are_a_warning_and_make_status_fail() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for n in 0..40 {
        client.run(&format!("XADD s{n} * f {}", "x".repeat(20_000))).await;
    }
    for (budget, is_enough) in [("20kB", false), ("16MiB", true)] {
        let yaml =
            format!("poll: {{payload_budget: {budget}}}\ntargets: [{{name: t, url: '{}'}}]\n", server.url());
        let config = ConfigFile::new(&yaml);
        let (checked, status) = (config.command("check").run().await, config.command("status").run().await);
        let problem = "streams that are not read yet: ";
        assert_eq!(!checked.stdout.contains(problem), is_enough, "{checked:?}");
        assert_eq!(!status.stderr.contains(problem), is_enough, "{status:?}");
        assert_eq!((checked.code, status.code == Some(0)), (Some(0), is_enough), "{status:?}");
    }
}

#[tokio::test]
async fn a_glob_that_matches_nothing_is_a_warning_and_ends_a_strict_check() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD orders * f v\nSET text value").await;
    let check =
        |glob: &str| Streamgauge::command("check").args(["--redis-url", &server.url(), "--stream", glob]);
    for (glob, warning) in [
        ("order*x", "no stream matches \"order*x\""),
        ("te*", "no stream matches \"te*\""),
        ("orderz", "missing: 1 (orderz)"),
        ("orders[*", "the [ of \"orders[*\" is not closed"),
    ] {
        let finished = check(glob).run().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stdout.contains(&format!("  warning  {warning}")), "{glob}: {finished:?}");
        assert_eq!(check(glob).args(["--strict"]).run().await.code, Some(1), "{glob}");
    }
    let strict = check("orders").args(["--strict"]).run().await;
    assert_eq!(strict.code, Some(0), "{strict:?}");
    assert_eq!(strict.stderr, "");
}

#[tokio::test]
async fn the_file_that_is_read_is_named_and_one_that_is_not_read_is_told() {
    let server = Server::start(newest(), &[]).await;
    let url = server.url();
    let finished = Streamgauge::command("check")
        .args(["--redis-url", &url])
        .env("STREAMGAUGE_CONFIG", "/does/not/exist")
        .run()
        .await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stdout.starts_with("STREAMGAUGE_CONFIG is ignored, since --redis-url is given\n"),
        "{finished:?}"
    );
    let config = ConfigFile::new(&format!("targets: [{{url: '{url}'}}]"));
    for finished in [
        config.command("check").run().await,
        Streamgauge::command("check").env("STREAMGAUGE_CONFIG", config.path()).run().await,
    ] {
        assert!(
            finished.stdout.starts_with(&format!("{} is valid\n", config.path().display())),
            "{finished:?}"
        );
    }
}

#[tokio::test]
async fn settings_that_are_valid_and_rarely_meant_are_warnings() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD orders * f v\nXADD invoices * f v\nXADD other * f v").await;
    let url = server.url();
    let state =
        check(&format!("targets: [{{url: '{url}'}}]\nalerts: {{state_file: /no/where/state.json}}")).await;
    assert_eq!(state.code, Some(0), "{state:?}");
    assert!(
        state.stdout.contains("  warning  alerts.state_file /no/where/state.json cannot be written: No such file or directory (os error 2)\n"),
        "{state:?}"
    );
    let writable =
        ConfigFile::new(&format!("targets: [{{url: '{url}'}}]\nalerts: {{state_file: state.json}}"));
    let finished = writable.command("check").run().await;
    assert!(!finished.stdout.contains("state_file"), "{finished:?}");
    let excluded = check(&format!(
        "targets: [{{url: '{url}'}}]\nmetrics: {{exclude: [redis_stream_grup_lag, 'redis_*', 'streamgauge_tasks', up]}}"
    ))
    .await;
    assert_eq!(
        from(&excluded, "\nmetrics\n").split("\n\n").next(),
        Some(
            "\nmetrics
  warning  metrics.exclude[0]: \"redis_stream_grup_lag\" matches no metric; did you mean redis_stream_group_lag?
  warning  metrics.exclude[3]: \"up\" matches no metric
  warning  metrics.exclude leaves no metric of a stream or group"
        )
    );
    let password = check(&format!("targets: [{{url: '{url}', password: $REDIS_PASSWORD}}]")).await;
    assert!(
        password.stdout.contains("the password looks like a variable that is not replaced"),
        "{password:?}"
    );
    assert!(!format!("{password:?}").contains("REDIS_PASSWORD"), "{password:?}");
    let texts = check(&format!("targets: [{{url: '{url}', streams: [orders, 'inv*']}}]")).await;
    assert!(texts.stdout.contains("streams  2 (invoices, orders)"), "{texts:?}");
}

#[tokio::test]
async fn errors_of_a_wrong_setting_tell_what_to_do() {
    let server = Server::start(newest(), &[]).await;
    let address = server.address();
    for (target, told) in [
        (format!("url: 'redis://{address}/99'"), "the server has fewer databases"),
        (format!("url: 'redis://{address}', topology: cluster"), "leave out topology: cluster"),
        (
            format!("topology: sentinel, sentinel: {{master_name: m, urls: ['redis://{address}']}}"),
            "expected a sentinel, usually at port 26379",
        ),
    ] {
        let finished = check(&format!("targets: [{{{target}}}]")).await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stdout.contains(told), "{told} in {finished:?}");
    }
}

#[tokio::test]
async fn leaks_are_listed_and_are_no_warnings() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        let (seconds, _): (u64, u64) = client.ask(&["TIME"]).await;
        let old = format!("{}-0", (seconds - 3 * 86_400) * 1_000);
        client.run(&format!("XADD s {old} f v\nXADD log {old} f v\nXADD log * f v\nXADD trimmed {old} f v")).await;
        client.run("XADD trimmed * f v\nXTRIM trimmed MAXLEN 1\nXGROUP CREATE s forgotten 0\nXGROUP CREATE s used 0").await;
        client.run("XGROUP CREATECONSUMER s forgotten gone").await;
        client.age_consumer("s", "gone", Duration::from_secs(2 * 86_400)).await;
        // No time of the server shows that these groups were read and created a moment ago.
        for key in ["back", "aged"] {
            client.run(&format!("XADD {key} {old} f v\nXADD {key} {old}1 f v\nXGROUP CREATE {key} g 0")).await;
        }
        client.run("XREADGROUP GROUP g pod COUNT 1 NOACK STREAMS back >\nXGROUP DELCONSUMER back g pod").await;
        client.run("XREADGROUP GROUP used holds STREAMS s >").await;
        for name in ["idle-1", "idle-2"] {
            client.run(&format!("XGROUP CREATECONSUMER s used {name}")).await;
        }
        let yaml = format!("metrics: {{consumer_max_idle: 1s}}\nalerts: {{recommended: false}}\ntargets: [{{name: t, url: '{}'}}]", server.url());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let finished = ConfigFile::new(&yaml).command("check").args(["--strict"]).run().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let counts_entries = server.program().kind != ServerKind::Redis || server.program().version >= (7, 0, 0);
        let mut expected = vec![
            "idle consumers (no attempt to read for 1.0 s, nothing pending): 3 (s / used 2, s / forgotten 1); streamgauge tidy prints what deletes them",
            "stranded consumers (no attempt to read for 1.0 s, entries pending): 1 (s / used 1); these entries wait until another consumer claims them",
            "groups abandoned for a day: 1 (s 1); streamgauge tidy prints what deletes them",
        ];
        if counts_entries {
            expected.push("entries of streams that have grown for a day, without a group and never trimmed: 2 (log 2); readers without a group are not seen");
        }
        let found: Vec<_> = finished.stdout.lines().filter_map(|line| line.strip_prefix("  leaks    ")).collect();
        assert_eq!(found, expected, "{finished:?}");
    })
    .await;
}
