//! The program from outside: exit codes, what goes where, and that no secret goes anywhere.

use std::net::TcpListener;
use std::time::Duration;

mod support;

use support::client::RedisClient;
use support::config::{ConfigFile, QUICK};
use support::metrics::named;
use support::program::{Finished, Streamgauge};
use support::series::{TARGET_UP, errors};
use support::server::{Server, free_port};
use support::servers::{for_each_server, newest};
use support::wait::wait_until;

const SOON: Duration = Duration::from_secs(15);

fn assert_end(finished: &Finished, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(
        (finished.code, finished.stdout.as_str(), finished.stderr.as_str()),
        (Some(code), stdout, stderr)
    );
}

#[tokio::test]
async fn an_address_in_use_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let finished = Streamgauge::command("serve")
        .args(["--redis-url", "redis://127.0.0.1:1", "--listen", &address.to_string()])
        .run()
        .await;
    let said = format!(
        "cannot listen on {address}: address already in use; choose another with --listen or web.listen\n"
    );
    assert_end(&finished, 1, "", &said);
}

#[tokio::test]
async fn a_bad_configuration_exits_2_with_all_its_faults() {
    let config = ConfigFile::new(
        "web: {listen: here}
poll: {interval: 1s, timeout: 2s, pace: 3}
targets:
  - {name: a, url: 'redis://:hunter2@cache:99999'}
  - {name: a, url: 'redis://cache', password: '${STREAMGAUGE_TEST_UNSET}', role: boss}
",
    );
    for command in ["serve", "check", "rules"] {
        let finished = config.command(command).run().await;
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{}", finished.stderr);
        let lines: Vec<_> = finished.stderr.lines().collect();
        let path = config.path().display().to_string();
        assert!(lines.iter().all(|line| line.starts_with(&path)), "{lines:#?}");
        for key in [
            "web.listen",
            "poll.timeout",
            "poll: unknown key, number 3 in the map",
            "targets[0].url",
            "targets[1].name",
            "targets[1].password",
            "targets[1].role",
        ] {
            assert_eq!(lines.iter().filter(|line| line.contains(key)).count(), 1, "{key}: {lines:#?}");
        }
        assert_eq!(lines.len(), 7, "{lines:#?}");
        assert!(!finished.stderr.contains("hunter2"), "{lines:#?}");
    }
}

#[tokio::test]
async fn what_is_asked_for_wrongly_exits_2() {
    for (command, args, said) in [
        ("serve", &["--no-such-flag"][..], "unexpected argument '--no-such-flag'"),
        (
            "serve",
            &["--config", "/nowhere/streamgauge.yaml"],
            "/nowhere/streamgauge.yaml: cannot read the file",
        ),
        ("serve", &["--redis-url", "http://cache"], "--redis-url: not the URL of a Redis server"),
        ("serve", &["--redis-url", "redis://cache", "--config", "a"], "expected one of them"),
        ("check", &["--redis-url"], "a value is required"),
        ("consume", &["--redis-url", "redis://127.0.0.1:1"], "--stream"),
        ("produce", &["--redis-url", "cache/2", "--stream", "s"], "--redis-url: not a URL"),
        ("produce", &["--redis-url", "redis://127.0.0.1:1"], "--stream <KEY>"),
        ("produce", &["--stream", "s", "--maxlen", "1", "--max-age", "1s"], "cannot be used with"),
        ("produce", &["--stream", "s", "--pattern", "square"], "possible values: steady, bursts, sine"),
        (
            "produce",
            &["--redis-url", "redis://127.0.0.1:1", "--stream", "s", "--stream", "s"],
            "the stream s is named twice",
        ),
        (
            "produce",
            &["--redis-url", "redis://127.0.0.1:1", "--stream", "s", "--rate", "0", "--pattern", "sine"],
            "rate 0 has no pattern",
        ),
        (
            "produce",
            &["--redis-url", "redis://127.0.0.1:1", "--stream", "s", "--field", "n={{x}}"],
            "unknown function",
        ),
        ("produce", &["--stream", "s", "--field", "n=1", "--json-lines"], "cannot be used with"),
        ("dead-letters", &["list", "--redis-url", "redis://127.0.0.1:1"], "--stream <KEY>"),
        ("dead-letters", &["burn", "--stream", "s"], "possible values: list, show, replay, drop"),
        ("dead-letters", &["replay", "--stream", "s", "--execute", "--dry-run"], "cannot be used with"),
        (
            "dead-letters",
            &["list", "--redis-url", "redis://127.0.0.1:1", "--stream", "s", "--execute"],
            "--execute is for replay and drop only",
        ),
        ("no-such-command", &[], "unrecognized subcommand 'no-such-command'"),
    ] {
        let finished = Streamgauge::command(command).args(args).run().await;
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{command} {args:?}");
        assert!(finished.stderr.contains(said), "{command} {args:?}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn a_wrong_url_is_said_in_the_same_words_by_every_command() {
    let form = "expected redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]";
    let stream = ["--stream", "s"];
    let group = ["--stream", "s", "--group", "g"];
    for (command, others) in [("serve", &[][..]), ("check", &[]), ("consume", &group), ("produce", &stream)] {
        for (url, said) in [
            ("redis://hunter2%40cache", format!("the host is not a name or an address; {form}")),
            ("redis+tls://:hunter2@cache", "redis+tls:// is not understood; expected rediss://".to_owned()),
            ("unix://hunter2", format!("unix:// without a path that begins with /; {form}")),
            ("redis://hunter2@cache", "a user without a password; expected a password too".to_owned()),
            ("http://:hunter2@cache", format!("not the URL of a Redis server; {form}")),
        ] {
            let finished = Streamgauge::command(command).args(["--redis-url", url]).args(others).run().await;
            assert_end(&finished, 2, "", &format!("--redis-url: {said}\n"));
            let finished = Streamgauge::command(command).args(others).env("REDIS_URL", url).run().await;
            assert_end(&finished, 2, "", &format!("REDIS_URL: {said}\n"));
        }
        let twice = ["--redis-url", "redis://me:hunter2@cache", "--redis-username", "me"];
        let finished = Streamgauge::command(command).args(twice).args(others).run().await;
        let said = "--redis-username: --redis-url has credentials too; expected them in one place\n";
        assert_end(&finished, 2, "", said);
    }
}

#[tokio::test]
async fn a_url_in_a_wrong_place_is_not_shown() {
    const URL: &str = "redis://:hunter2@cache";
    let tip = "use --redis-url";
    let unknown_flag = format!("--redis-ur={URL}");
    for command in
        ["serve", "check", "init", "rules", "consume", "dead-letters", "produce", "demo", "healthcheck"]
    {
        for (argument, named, tip) in [
            (URL, "unexpected argument 'redis://[hidden]' found", tip),
            (":hunter2@cache", "unexpected argument '[hidden]' found", tip),
            (&unknown_flag, "unexpected argument '--redis-ur", ""),
        ] {
            let action = (command == "dead-letters").then_some("list");
            let arguments = action.into_iter().chain([argument]);
            let finished = Streamgauge::command(command).args(arguments).run().await;
            assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{command} {argument}");
            assert!(finished.stderr.contains(named) && finished.stderr.contains(tip), "{}", finished.stderr);
            assert!(!finished.stderr.contains("hunter2"), "{command} {argument}: {}", finished.stderr);
        }
    }
    let finished = Streamgauge::command(URL).run().await;
    assert!(finished.stderr.contains("unrecognized subcommand 'redis://[hidden]'"), "{}", finished.stderr);
    assert!(finished.stderr.contains(tip) && !finished.stderr.contains("hunter2"), "{}", finished.stderr);

    for (command, flag) in [
        ("serve", "--config"),
        ("serve", "--interval"),
        ("check", "--log-level"),
        ("produce", "--count"),
        ("produce", "--rate"),
        ("consume", "--batch"),
        ("consume", "--work-time"),
        ("consume", "--redis-password-file"),
        ("demo", "--listen"),
        ("demo", "--redis-server"),
        ("healthcheck", "--listen"),
    ] {
        let others: &[&str] = match command {
            "serve" if flag != "--config" => &["--redis-url", "redis://127.0.0.1:1"],
            "produce" => &["--stream", "s", "--redis-url", "redis://127.0.0.1:1"],
            "consume" => &["--stream", "s", "--group", "g", "--redis-url", "redis://127.0.0.1:1"],
            _ => &[],
        };
        let finished = Streamgauge::command(command).args([flag, URL]).args(others).run().await;
        assert_ne!(finished.code, Some(0), "{command} {flag}");
        assert!(finished.stderr.contains("redis://[hidden]"), "{command} {flag}: {}", finished.stderr);
        assert!(!finished.stderr.contains("hunter2"), "{command} {flag}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn a_variable_that_looks_misspelled_is_a_warning() {
    let url = ["--redis-url", "redis://127.0.0.1:1"];
    for (variable, is_told) in [("STREAMGAUGE_INTERVALL", true), ("STREAMGAUGE_PORT", false)] {
        let finished = Streamgauge::command("check").args(url).env(variable, "5s").run().await;
        let meant = "unknown environment variable; did you mean STREAMGAUGE_INTERVAL?";
        assert_eq!(finished.stderr.contains(meant), is_told, "{}", finished.stderr);
    }
}

#[tokio::test]
async fn errors_of_flags_have_one_style() {
    for (flag, value, begins) in [
        ("--log-level", "verbose", "invalid value 'verbose' for"),
        ("--listen", "foo", "--listen: found \"foo\""),
    ] {
        let args = ["--redis-url", "redis://127.0.0.1:1", flag, value];
        let finished = Streamgauge::command("serve").args(args).run().await;
        assert_eq!(finished.code, Some(2));
        assert!(finished.stderr.starts_with(begins), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn help_and_version_go_to_standard_output() {
    for command in ["serve", "check", "init", "rules", "consume", "dead-letters", "produce", "demo"] {
        let finished = Streamgauge::command(command)
            .args(["--help"])
            .env("STREAMGAUGE_REDIS_URL", "redis://:hunter2@cache")
            .run()
            .await;
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{command}");
        assert!(finished.stdout.contains(&format!("Usage: streamgauge {command}")), "{}", finished.stdout);
        assert!(!finished.stdout.contains("hunter2"), "{}", finished.stdout);
    }
    let finished = Streamgauge::command("--help").run().await;
    for command in ["serve", "check", "init", "rules", "consume", "dead-letters", "produce", "demo"] {
        assert!(finished.stdout.contains(&format!("\n  {command} ")), "{}", finished.stdout);
    }
    let finished = Streamgauge::command("--version").run().await;
    assert_end(&finished, 0, concat!("streamgauge ", env!("CARGO_PKG_VERSION"), "\n"), "");
}

const GAPS_BEFORE_7: &str = "  warning  entries_lost is never known here (servers before 7.0 do not report how many entries were added), so these rules never fire: 1 (RedisStreamEntriesLost)
  warning  retention_used_ratio is never known here (servers before 7.0 do not report trimming), so these rules never fire: 1 (RedisStreamRetentionNearlyUsed)
";

#[tokio::test]
async fn check_says_what_it_found() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD a * f v\nXADD b * f v\nXGROUP CREATE a g 0\nXGROUP CREATE b g 0\nSET text value").await;
        let info: String = client.ask(&["INFO", "server"]).await;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("it has one");
        let (name, version) = match info.lines().find_map(|line| line.strip_prefix("valkey_version:")) {
            Some(valkey) => ("valkey", valkey),
            None => ("redis", version),
        };
        let config = ConfigFile::new(&format!(
            "targets: [{{name: t, url: '{}', streams: [
                {{key: absent}}, {{key: text}}, {{key: a, groups: {{include: [g, missing]}}}}, {{key: '*'}}]}}]",
            server.url()
        ));
        let finished = config.command("check").run().await;
        let (cost, rest): (Vec<_>, Vec<_>) =
            finished.stdout.split_inclusive('\n').partition(|line| line.starts_with("  cost     "));
        check_cost(&cost);
        let said = format!(
            "{path} is valid

target \"t\" at {address}
  server   {name} {version}, master
  streams  2 (a, b)
  warning  missing, of another type: 2 (absent, text)
  groups   2 (lag known for all)
  warning  groups that are missing: 1 (missing)
{gaps}  note     alert rules that need 2m of history after a start: 4 (RedisStreamGroupStalled, RedisStreamGroupAbandoned, RedisStreamGroupNoConsumers, RedisStreamGroupLagging)

alerts
  rules    15
",
            path = config.path().display(),
            address = server.address(),
            gaps = if server.program().version < (7, 0, 0) { GAPS_BEFORE_7 } else { "" },
        );
        assert_eq!((finished.code, rest.concat()), (Some(0), said), "{}", finished.stderr);
    })
    .await;
}

/// Checks the line about the cost of a poll of two streams with two groups, at the default interval.
fn check_cost(lines: &[&str]) {
    let [line] = lines else { panic!("{lines:?}") };
    let (poll, day) = line.split_once(" of replies a poll, or ").expect("a poll and a day");
    assert!(day.ends_with(" of replies a day at an interval of 10 s, not counting SCAN\n"), "{line}");
    let commands = |text: &str| {
        let number = text.split_once(" commands and ").map(|(number, _)| number.replace(',', ""));
        number.and_then(|number| number.parse::<u64>().ok()).expect("a number of commands")
    };
    let a_poll = commands(poll.trim_start_matches("  cost     "));
    assert!((6..20).contains(&a_poll), "HELLO, TIME, XINFO of two streams and of two other keys: {line}");
    assert_eq!(commands(day), a_poll * 8_640, "{line}");
}

#[tokio::test]
async fn check_fails_where_a_target_cannot_be_polled() {
    let server = Server::start(newest(), &["--requirepass", "right"]).await;
    let (closed, open) = (free_port(), server.address());
    let config = ConfigFile::new(&format!(
        "targets:
  - {{name: nobody, url: 'redis://127.0.0.1:{closed}'}}
  - {{name: wrong, url: 'redis://:hunter2@{open}'}}
  - {{name: good, url: 'redis://:right@{open}'}}
  - {{name: replica, url: 'redis://:right@{open}', role: replica}}
"
    ));
    let finished = config.command("check").run().await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.ends_with("cannot poll 3 of 4 targets: nobody, wrong, replica\n"),
        "{}",
        finished.stderr
    );
    for said in [
        format!(
            "target \"nobody\" at 127.0.0.1:{closed}\n  error    cannot connect to 127.0.0.1:{closed}: Connection refused"
        ),
        format!("target \"wrong\" at {open}\n  error    {open} refuses the login: WRONGPASS"),
        format!("target \"good\" at {open}\n  server "),
        format!("target \"replica\" at {open}\n  error    {open} is a master, not a replica\n"),
    ] {
        assert!(finished.stdout.contains(&said), "{said} in {}", finished.stdout);
    }
    assert!(!format!("{finished:?}").contains("hunter2"), "{finished:?}");
}

#[tokio::test]
async fn a_password_appears_nowhere() {
    let server = Server::start(newest(), &["--requirepass", "hunter2 &/"]).await;
    let address = server.address();
    let in_url = |password: &str| format!("redis://:{password}@{address}");
    RedisClient::at(&in_url("hunter2%20%26%2F")).await.run("XADD s * f v\nXGROUP CREATE s g 0").await;
    let trace = ["--log-level", "trace"];
    for (is_right, encoded, plain) in
        [(true, "hunter2%20%26%2F", "hunter2 &/"), (false, "hunter2wrong", "hunter2wrong")]
    {
        let from_url = ConfigFile::new(&format!("{QUICK}targets: [{{name: t, url: '{}'}}]", in_url(encoded)));
        let from_file = ConfigFile::new(&format!(
            "{QUICK}targets: [{{name: t, url: 'redis://{address}', password_file: pw}}]"
        ));
        from_file.put("pw", &format!("{plain}\n"));
        let from_variable = ConfigFile::new(&format!(
            "{QUICK}targets: [{{name: t, url: 'redis://{address}', password: '${{SECRET}}'}}]"
        ));
        let by_flag = ["--redis-url", &in_url(encoded), "--interval", "300ms"];
        let runs = [
            from_url.serve(),
            from_file.serve(),
            from_variable.serve().env("SECRET", plain),
            Streamgauge::serve().args(by_flag),
            Streamgauge::serve().args(["--interval", "300ms"]).env("STREAMGAUGE_REDIS_URL", in_url(encoded)),
            Streamgauge::serve().args(["--interval", "300ms"]).env("REDIS_URL", in_url(encoded)),
        ];
        for run in runs {
            let exporter = run.args(trace).serving().await;
            wait_until(SOON, "it was polled, or refused", async || {
                let metrics = exporter.metrics().await;
                let wanted = if is_right { TARGET_UP.to_owned() } else { errors("auth") };
                let (name, _) = wanted.split_once('{').expect("it has labels");
                let reason = if is_right { "" } else { "reason=\"auth\"" };
                named(&metrics, name).iter().any(|(series, value)| series.contains(reason) && *value > 0.0)
            })
            .await;
            let mut seen = exporter.get("/").await.text();
            for page in ["/metrics", "/-/ready", "/nowhere"] {
                seen += &exporter.get(page).await.text();
            }
            let finished = exporter.stop().await;
            seen += &(finished.stdout + &finished.stderr);
            assert!(finished.stderr.contains("DEBUG"), "the log is as detailed as it gets");
            assert!(!seen.contains("hunter2"), "{seen}");
        }
        let from_flag = Streamgauge::command("check").args(by_flag);
        for run in [from_url.command("check"), from_file.command("check"), from_flag] {
            let finished = run.args(trace).run().await;
            assert_eq!(finished.code, Some(if is_right { 0 } else { 1 }), "{finished:?}");
            assert!(!format!("{finished:?}").contains("hunter2"), "{finished:?}");
        }
        let produce = ["--redis-url", &in_url(encoded), "--stream", "new", "--count", "2", "--rate", "0"];
        let finished = Streamgauge::command("produce").args(produce).args(trace).run().await;
        assert_eq!(finished.code, Some(if is_right { 0 } else { 1 }), "{finished:?}");
        assert!(!format!("{finished:?}").contains("hunter2"), "{finished:?}");
    }
}

#[tokio::test]
async fn what_is_produced_is_consumed_line_by_line() {
    for_each_server(async |server| {
        let url = server.url();
        let produce = ["--redis-url", &url, "--stream", "orders", "--count", "50", "--rate", "0", "--payload-bytes", "3"];
        let finished = Streamgauge::command("produce").args(produce).run().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");

        let consume = ["--redis-url", &url, "--stream", "orders", "--group", "billing", "--consumer", "one"];
        let consumer = Streamgauge::command("consume").args(consume).spawn();
        wait_until(SOON, "all are there", async || consumer.stdout().lines().count() >= 50).await;
        let finished = consumer.stop().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let entries: Vec<(String, Vec<(String, String)>)> =
            RedisClient::to(&server).await.ask(&["XRANGE", "orders", "-", "+"]).await;
        let lines: Vec<_> = entries
            .iter()
            .enumerate()
            .map(|(at, (id, _))| {
                let n = at + 1;
                format!(
                    r#"{{"id":"{id}","stream":"orders","group":"billing","consumer":"one","deliveries":1,"fields":{{"n":"{n}","payload":"xxx"}}}}"#
                )
            })
            .collect();
        assert_eq!(finished.stdout.lines().collect::<Vec<_>>(), lines);
        let pending: (i64, redis::Value, redis::Value, redis::Value) =
            RedisClient::to(&server).await.ask(&["XPENDING", "orders", "billing"]).await;
        assert_eq!(pending.0, 0, "each was acknowledged");
    })
    .await;
}
