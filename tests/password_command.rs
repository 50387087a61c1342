//! Passwords that a command prints: each login runs it, expiring logins are renewed, and no failure shows a password.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

mod support;

use support::client::RedisClient;
use support::config::{ConfigFile, QUICK};
use support::program::{Exporter, Finished};
use support::series::{errors, polls};
use support::server::Server;
use support::servers::{for_each_program, newest};
use support::wait::wait_until;

const SOON: Duration = Duration::from_secs(20);

/// Writes an executable script beside the configuration.
fn script(config: &ConfigFile, name: &str, body: &str) -> PathBuf {
    let path = config.put(name, &format!("#!/bin/sh\n{body}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    path
}

fn runs(config: &ConfigFile) -> usize {
    let log = config.path().with_file_name("runs");
    fs::read_to_string(log).map_or(0, |text| text.lines().count())
}

async fn value(exporter: &Exporter, series: &str) -> f64 {
    exporter.metrics().await.get(series).copied().unwrap_or(0.0)
}

async fn polled(exporter: &Exporter) {
    let before = value(exporter, &polls("ok")).await;
    wait_until(SOON, "a poll", async || value(exporter, &polls("ok")).await > before).await;
}

#[tokio::test]
async fn each_login_runs_it_and_one_that_ends_soon_is_renewed_on_the_open_connection() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        let mut client = RedisClient::to(&server).await;
        client.run("ACL SETUSER mon reset on >first ~* +@all").await;
        let config = ConfigFile::new(&format!(
            "{QUICK}targets: [{{name: t, url: '{}', username: mon, password_command: [./token, 'of orders'], login_lifetime: 5s}}]",
            server.url()
        ));
        let body = r#"echo run >>"$(dirname "$0")/runs"; [ "$1" = "of orders" ] && cat "$(dirname "$0")/password""#;
        script(&config, "token", body);
        config.put("password", "first\n");
        let exporter = config.serve().serving().await;
        polled(&exporter).await;
        assert_eq!(runs(&config), 1, "{}", exporter.stderr());
        let connections = client.ask::<String>(&["CLIENT", "LIST"]).await;

        client.run("ACL SETUSER mon >second <first").await;
        config.put("password", "second\n");
        wait_until(SOON, "the login is renewed", async || runs(&config) >= 2).await;
        polled(&exporter).await;
        let id = |list: &str| {
            let line = list.lines().find(|line| line.contains("user=mon")).map(str::to_owned);
            line.and_then(|line| line.split(' ').next().map(str::to_owned))
        };
        let now = client.ask::<String>(&["CLIENT", "LIST"]).await;
        assert!(id(&now).is_some(), "{now}");
        assert_eq!(id(&now), id(&connections));

        // What fails leaves the old login in use.
        fs::remove_file(config.path().with_file_name("password")).expect("it was there");
        let reason = errors("password_command");
        wait_until(SOON, "a failure is counted", async || value(&exporter, &reason).await > 0.0).await;
        polled(&exporter).await;
        assert_eq!(value(&exporter, &polls("failed")).await, 0.0);
        assert!(exporter.stderr().contains("cannot renew the login"), "{}", exporter.stderr());

        // A closed connection needs a new login.
        config.put("password", "second\n");
        let before = runs(&config);
        client.run("CLIENT KILL USER mon").await;
        wait_until(SOON, "another run", async || runs(&config) > before).await;
        polled(&exporter).await;
        assert_eq!(exporter.stop().await.code, Some(0));
    })
    .await;
}

async fn check(server: &Server, body: &str) -> Finished {
    let config = ConfigFile::new(&format!(
        "poll: {{interval: 2s, timeout: 1500ms}}\ntargets: [{{name: t, url: '{}', password_command: [./token]}}]",
        server.url()
    ));
    script(&config, "token", body);
    config.command("check").run().await
}

#[tokio::test]
async fn a_failure_is_told_without_a_password() {
    let server = Server::start(newest(), &["--requirepass", "hunter2secret"]).await;
    for (body, said) in [
        ("echo 'no such profile' >&2; exit 3", "token ended with exit status: 3: no such profile"),
        ("kill -9 $$", "token ended with signal: 9"),
        ("exit 0", "token printed no password"),
        (
            "echo hunter2secret; echo 'cannot cache hunter2secret' >&2; exit 1",
            "token ended with exit status: 1",
        ),
        ("printf 'hunter2secret\\377'", "token printed a password that is not UTF-8"),
        ("printf 'hunter2\\377'; echo hunter2secret >&2; exit 1", "token ended with exit status: 1"),
        ("printf 'warning\\nhunter2secret\\n'; echo bad hunter2secret >&2; exit 1", "bad [hidden]"),
        ("yes hunter2secret | head -c 100000", "token printed 65536 bytes or more; expected a password"),
        ("echo hunter2secretX", "WRONGPASS"),
        ("sleep 1000", "no password within the timeout of the poll"),
    ] {
        let finished = check(&server, body).await;
        let all = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.code, Some(1), "{body}: {all}");
        assert!(all.contains(said), "{body}: {all}");
        assert!(!all.contains("hunter2"), "{body}: {all}");
    }
    let finished = check(&server, "echo hunter2secret").await;
    assert_eq!(finished.code, Some(0), "{}{}", finished.stdout, finished.stderr);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_with_all_that_it_started() {
    let server = Server::start(newest(), &["--requirepass", "right"]).await;
    let config = ConfigFile::new(&format!(
        "{QUICK}targets: [{{name: t, url: '{}', password_command: [./token]}}]",
        server.url()
    ));
    script(&config, "token", r#"sleep 1000 & echo $! >>"$(dirname "$0")/runs"; wait"#);
    let exporter = config.serve().serving().await;
    wait_until(SOON, "it was run twice", async || runs(&config) >= 2).await;
    assert_eq!(exporter.stop().await.code, Some(0));
    let log = fs::read_to_string(config.path().with_file_name("runs")).expect("it was run");
    for id in log.lines() {
        let is_gone = || {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z ") || !stat.contains("(sleep)"))
        };
        wait_until(SOON, "its child is gone", async || is_gone()).await;
    }
}

#[tokio::test]
async fn wrong_keys_are_refused_before_anything_is_polled() {
    for (keys, said) in [
        ("password_command: [./missing]", "targets[0].password_command: "),
        (
            "password_command: []",
            "targets[0].password_command: an empty list; expected a program and its arguments",
        ),
        ("password_command: token", "targets[0].password_command: found text; expected a list"),
        ("password_command: [sh], password: x", "targets[0].password is there too; expected one of them"),
        ("password_command: [sh], password_file: config.yaml", "targets[0].password_file is there too"),
        (
            "password: x, login_lifetime: 1h",
            "targets[0].login_lifetime: goes with password_command or password_file",
        ),
        (
            "password_command: [sh], login_lifetime: 1s",
            "targets[0].login_lifetime: too short; expected at least 5s",
        ),
    ] {
        let config = ConfigFile::new(&format!("targets: [{{url: 'redis://127.0.0.1:1', {keys}}}]"));
        let finished = config.command("check").run().await;
        assert_eq!(finished.code, Some(2), "{keys}: {}", finished.stderr);
        assert!(finished.stderr.contains(said), "{keys}: {}", finished.stderr);
    }
}
