//! Files of the configuration that block, never end, are too large, or hold something else.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::config::{ConfigFile, QUICK};
use crate::support::fake_server::{Behavior, FakeServer};
use crate::support::program::Streamgauge;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_until;
use crate::support::watch::{RECOVERY, is_up, keeps_failing, until_within};

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("the folder is ours");
}

/// Checks a configuration in a folder with odd files, and returns its error.
async fn refused(yaml: &str) -> String {
    let config = ConfigFile::new(yaml);
    let folder = config.path().parent().expect("it is in a folder").to_owned();
    fifo(&folder.join("fifo"));
    fs::create_dir(folder.join("folder")).expect("the folder is ours");
    fs::File::create(folder.join("large")).and_then(|file| file.set_len(100 << 20)).expect("it is sparse");
    config.put("two-lines", "hunter2\nhunter3\n");
    let mut errors = Vec::new();
    for command in [config.command("check"), config.serve()] {
        let finished = command.run().await;
        assert_eq!(finished.code, Some(2), "{yaml}: {finished:?}");
        assert!(finished.took < Duration::from_secs(5), "{yaml}: {finished:?}");
        assert!(!finished.stderr.contains("hunter"), "{yaml}: {finished:?}");
        errors.push(finished.stderr);
    }
    assert_eq!(errors[0], errors[1]);
    errors.swap_remove(0)
}

#[tokio::test]
async fn a_file_that_is_no_regular_file_or_too_large_is_refused_at_once() {
    let target = |more: &str| format!("targets: [{{url: 'rediss://127.0.0.1:1', {more}}}]\n");
    let notifier =
        |receiver: &str| format!("{}alerts: {{notifiers: [{{name: n, {receiver}}}]}}\n", target("name: t"));
    let url = "url: 'https://127.0.0.1:1'";
    let odd = [
        ("fifo", "a FIFO, not a regular file"),
        ("folder", "a directory, not a regular file"),
        ("/dev/zero", "a device, not a regular file"),
        ("large", "larger than "),
    ];
    for (name, problem) in odd {
        for yaml in [
            target(&format!("password_file: '{name}'")),
            target(&format!("tls: {{ca_file: '{name}'}}")),
            target(&format!("tls: {{cert_file: '{name}', key_file: '{name}'}}")),
            notifier(&format!("webhook: {{url_file: '{name}'}}")),
            notifier(&format!("webhook: {{{url}, bearer_token_file: '{name}'}}")),
            notifier(&format!("webhook: {{{url}, basic_auth: {{username: u, password_file: '{name}'}}}}")),
            notifier(&format!("webhook: {{{url}, tls: {{ca_file: '{name}'}}}}")),
            notifier(&format!("slack: {{webhook_url_file: '{name}'}}")),
            notifier(&format!("pagerduty: {{routing_key_file: '{name}'}}")),
            format!(
                "{}web: {{tls_server_config: {{cert_file: '{name}', key_file: '{name}'}}}}\n",
                target("name: t")
            ),
        ] {
            let error = refused(&yaml).await;
            assert!(error.contains(problem), "{yaml}: {error}");
        }
    }
    for receiver in [
        format!("webhook: {{{url}, bearer_token_file: two-lines}}"),
        "pagerduty: {routing_key_file: two-lines}".to_owned(),
    ] {
        let error = refused(&notifier(&receiver)).await;
        assert!(error.contains("in the file: a control character"), "{receiver}: {error}");
    }
}

#[tokio::test]
async fn the_authorities_of_the_system_are_a_regular_file_too() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = |name: &str| folder.path().join(name);
    fifo(&path("fifo"));
    fs::File::create(path("large")).and_then(|file| file.set_len(100 << 20)).expect("it is sparse");
    let listening = FakeServer::new(Behavior::NoReply).await;
    let url = format!("rediss://{}", listening.address);
    for (file, problem) in [
        (path("fifo"), "a FIFO, not a regular file"),
        (folder.path().to_owned(), "a directory, not a regular file"),
        ("/dev/zero".into(), "a device, not a regular file"),
        (path("large"), "larger than 16 MiB, the limit of such a file"),
    ] {
        let run = Streamgauge::command("check").args(["--redis-url", &url]).env("SSL_CERT_FILE", &file);
        let finished = run.run().await;
        let said = format!("SSL_CERT_FILE: cannot read {}: {problem}", file.display());
        assert!(finished.code == Some(1) && finished.stdout.contains(&said), "{said}: {finished:?}");
        assert!(finished.took < Duration::from_secs(5), "{finished:?}");
    }
}

#[tokio::test]
async fn a_configuration_may_come_from_a_pipe_that_is_written_in_time() {
    let config = ConfigFile::new("");
    let folder = config.path().parent().expect("it is in a folder").to_owned();
    fifo(&folder.join("fifo"));
    for (path, problem) in [
        (folder.join("fifo"), "nothing was written to the pipe"),
        (folder.clone(), "a directory, not a regular file"),
        ("/dev/urandom".into(), "a device, not a regular file"),
    ] {
        let finished = Streamgauge::serve().args(["--config".as_ref(), path.as_os_str()]).run().await;
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(problem), "{finished:?}");
    }

    let server = Server::start(newest(), &[]).await;
    let run = Streamgauge::command("check").args(["--config", "/dev/stdin"]).into_command();
    let yaml = format!("targets: [{{name: t, url: '{}'}}]\n", server.url());
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("printf %s \"$YAML\" | \"$0\" \"$@\"").env("YAML", yaml);
    shell.arg(run.get_program()).args(run.get_args());
    let output = tokio::task::spawn_blocking(move || shell.output()).await;
    let output = output.expect("no panic").expect("there is a shell");
    assert!(output.status.success(), "{output:?}");

    // Held open and not written: SIGTERM ends it.
    let mut command = Streamgauge::serve().args(["--config", "/dev/stdin"]).into_command();
    let (reader, writer) = std::io::pipe().expect("there is a pipe");
    let mut child = command
        .stdin(reader)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    wait_until(Duration::from_secs(5), "it catches SIGTERM", async || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
        caught.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & (1 << 14) != 0)
    })
    .await;
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    wait_until(Duration::from_secs(3), "it ends", async || {
        child.try_wait().expect("a child can be asked").is_some()
    })
    .await;
    drop(writer);
}

#[tokio::test]
async fn a_password_file_that_becomes_a_fifo_fails_polls_until_it_is_a_file_again() {
    let server = Server::start(newest(), &["--requirepass", "right"]).await;
    let config = ConfigFile::new(&format!(
        "{QUICK}web: {{enable_reload: true}}
targets:
  - {{name: t, url: '{url}', password_file: password}}
  - {{name: good, url: 'redis://:right@{address}'}}
",
        url = server.url(),
        address = server.address()
    ));
    let password = config.put("password", "wrong\n");
    let exporter = config.serve().serving().await;
    keeps_failing(&exporter, "auth").await;
    fs::remove_file(&password).expect("it was there");
    fifo(&password);
    keeps_failing(&exporter, "password_file").await;
    let reload = crate::support::http::post(exporter.address, "/-/reload").await;
    assert_eq!(reload.status, 500);
    assert!(reload.text().contains("a FIFO, not a regular file"), "{}", reload.text());
    fs::remove_file(&password).expect("it was there");
    config.put("password", "right\n");
    until_within(RECOVERY, &exporter, "a poll again", is_up).await;
    let finished = exporter.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.took < Duration::from_secs(8), "{:?}", finished.took);
}

#[tokio::test]
async fn many_targets_do_not_delay_the_end_and_too_many_are_refused() {
    let targets = |count: usize| {
        let items = (0..count).map(|n| format!("- {{name: t{n}, url: 'redis://127.0.0.1:1'}}\n"));
        format!("targets:\n{}", items.collect::<String>())
    };
    let finished = ConfigFile::new(&targets(10_001)).command("check").run().await;
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("targets: 10001 targets; expected 10000 at most"),
        "{}",
        finished.stderr
    );

    let config = ConfigFile::new(&targets(5_000));
    let exporter = config.serve().serving().await;
    let finished = exporter.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.took < Duration::from_secs(8), "{:?}", finished.took);
}

#[tokio::test]
async fn deep_nesting_and_many_faults_are_refused_at_once() {
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
    let many = (0..50_000).map(|n| format!("k{n}: 1\n")).collect();
    for (yaml, problem) in [
        (nested("{a: ", "}"), "more than 1000 brackets are open"),
        (nested("[", "]"), "more than 1000 brackets are open"),
        (nested("- ", ""), "recursion limit exceeded"),
        (nested("? ", ""), "recursion limit exceeded"),
        (many, "and 49001 more"),
    ] {
        let finished = ConfigFile::new(&yaml).command("check").run().await;
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(problem), "{problem} in {}", finished.stderr);
        assert!(finished.took < Duration::from_secs(8), "{problem}: {:?}", finished.took);
    }
}

#[tokio::test]
async fn a_key_that_resembles_no_known_one_is_not_quoted() {
    let yaml = "targets: [{url: 'redis://127.0.0.1:1', hunter2: x, usernme: y}]\nhunter3: x\n";
    let finished = ConfigFile::new(yaml).command("check").run().await;
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(!finished.stderr.contains("hunter"), "{}", finished.stderr);
    for part in [
        "config.yaml:1: targets[0]: unknown key, number 2 in the map; expected ",
        "config.yaml:1: targets[0].usernme: unknown key; did you mean username?",
        "config.yaml:2: unknown key, number 2 in the map; expected ",
    ] {
        assert!(finished.stderr.contains(part), "{part} in {}", finished.stderr);
    }
}
