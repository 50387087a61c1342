//! Runs the commands that README.md and docs/ print, as they stand, against a real server. A command that is not run is
//! listed with the reason.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use support::client::RedisClient;
use support::config::ConfigFile;
use support::peers;
use support::program::Exporter;
use support::repository::user_documents;
use support::server::Server;
use support::servers::newest;
use support::wait::wait_until;

/// Beginnings or parts of commands that are not run, each with the reason.
const NOT_RUN: [(&str, &str); 11] = [
    ("make ", "takes minutes; documentation.rs looks for the recipe, and tests/demo.rs runs the demo"),
    ("docker ", "needs a Docker daemon"),
    ("kubectl ", "needs a cluster; tests/deploy.rs checks the manifests"),
    ("helm ", "needs a cluster; tests/deploy.rs renders the chart"),
    ("systemctl ", "needs systemd; tests/deploy.rs checks the unit"),
    ("cargo install ", "builds for minutes"),
    ("install ", "writes to folders of the system"),
    ("streamgauge serve ", "runs until it is stopped; tests/serve.rs runs it"),
    ("streamgauge consume ", "runs until it is stopped; tests/consumer runs it"),
    (" --watch", "needs a terminal; tests/terminal runs it"),
    ("date -u -d @", "is GNU's; elsewhere date -r"),
];

/// Commands of `status --fail-on` may find what they look for.
const FOUND: i32 = 3;

const SLOWEST: Duration = Duration::from_secs(60);

/// Returns the commands that a document prints, each with its continuation lines.
fn printed(text: &str) -> Vec<String> {
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let joined: String = blocks.collect::<String>().replace("\\\n", " ");
    joined.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

fn reason(command: &str) -> Option<&'static str> {
    let is_meant = |part: &str| match part.starts_with(' ') {
        true => command.contains(part),
        false => command.split(" && ").any(|one| one.starts_with(part)),
    };
    NOT_RUN.iter().find(|(part, _)| is_meant(part)).map(|(_, reason)| *reason)
}

/// A folder with the programs and files that the commands name.
fn folder(server: &Server) -> Option<tempfile::TempDir> {
    let redis_cli = peers::find("redis-cli")?;
    let curl = peers::find("curl")?;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    symlink(env!("CARGO_BIN_EXE_streamgauge"), at("streamgauge")).expect("a link");
    symlink(curl, at("curl")).expect("a link");
    let script = format!("#!/bin/sh\nexec '{}' -p {} \"$@\"\n", redis_cli.display(), server.port());
    fs::write(at("redis-cli"), script).expect("a script");
    fs::set_permissions(at("redis-cli"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::write(at("orders.jsonl"), "{\"user\":\"ann\"}\n").expect("a file");
    Some(folder)
}

/// Streams that the documents name: with pending entries, and with dead letters.
async fn fill(server: &Server) {
    let mut client = RedisClient::to(server).await;
    for stream in ["orders", "jobs"] {
        client
            .run(&format!("XADD {stream} 1795378608218-0 n 1\nXADD {stream} * n 2\nXADD {stream} * n 3"))
            .await;
    }
    client.run("XGROUP CREATE orders mail 0\nXREADGROUP GROUP mail worker COUNT 1 STREAMS orders >").await;
    client.run("XGROUP CREATE jobs workers 0").await;
    for stream in ["orders:dead", "failed"] {
        client
            .run(&format!("XADD {stream} 1795378721680-0 streamgauge-stream orders x-stream orders n 1"))
            .await;
    }
}

/// Starts an exporter whose target has the name that the documents use, and waits until it has polled.
async fn exporter(server: &Server) -> Exporter {
    let config = ConfigFile::new(&format!("targets: [{{name: orders, url: '{}'}}]\n", server.url()));
    let exporter = config.serve().serving().await;
    wait_until(SLOWEST, "the server is polled", async || {
        exporter.metrics().await.keys().any(|series| series.starts_with("redis_stream_group_lag{"))
    })
    .await;
    exporter
}

/// Runs a command and returns what is wrong with its end; `None` if nothing is.
async fn problem(command: &str, folder: &Path) -> Option<String> {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).env("PATH", path).env_remove("REDIS_URL");
    shell.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(SLOWEST, shell.output()).await else {
        return Some(format!("{command}: runs for longer than {SLOWEST:?}"));
    };
    let output = output.expect("there is a shell");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let [stdout, stderr] = &text;
    let code = output.status.code();
    let has_succeeded = code == Some(0) || (command.contains(" --fail-on ") && code == Some(FOUND));
    // redis-cli exits with 0 all the same.
    let is_refused = ["ERR ", "NOGROUP ", "WRONGTYPE "].iter().any(|start| stdout.starts_with(start));
    let is_empty = command.starts_with("curl ") && stdout.is_empty();
    let is_fine = has_succeeded && !is_refused && !is_empty;
    (!is_fine).then(|| format!("{command}: {code:?}\n{stdout}\n{stderr}"))
}

#[tokio::test]
async fn every_printed_command_runs_or_is_listed_with_a_reason() {
    let (mut run, mut problems) = (0, Vec::new());
    for (path, text) in user_documents() {
        let commands: Vec<_> =
            printed(&text).into_iter().filter(|command| reason(command).is_none()).collect();
        if commands.is_empty() {
            continue;
        }
        let server = Server::start(newest(), &[]).await;
        let Some(folder) = folder(&server) else { return };
        // That page fills its own stream.
        if path != "docs/lag.md" {
            fill(&server).await;
        }
        let mut exporter = None;
        for command in commands {
            if command.contains("localhost:10121") && exporter.is_none() {
                exporter = Some(self::exporter(&server).await);
            }
            let mut here = command.replace("redis://localhost:6379", &server.url());
            if let Some(exporter) = &exporter {
                here = here.replace("localhost:10121", &exporter.address.to_string());
            }
            run += 1;
            problems.extend(problem(&here, folder.path()).await.map(|problem| format!("{path}: {problem}")));
        }
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    assert!(run > 30, "{run}");
}

#[test]
fn each_reason_is_still_needed() {
    let commands: Vec<_> = user_documents().iter().flat_map(|(_, text)| printed(text)).collect();
    for (part, _) in NOT_RUN {
        let is_used = commands.iter().any(|command| reason(command).is_some() && command.contains(part));
        assert!(is_used, "no printed command has {part:?}");
    }
}
