//! Standard output that cannot be written, and standard error that is not read.

use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::RedisClient;
use crate::support::http;
use crate::support::program::Streamgauge;
use crate::support::server::{Server, free_port};
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(15);

/// Returns the program started by a shell, with redirections.
fn redirected(run: Streamgauge, redirections: &str) -> Command {
    let run = run.into_command();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec \"$0\" \"$@\" {redirections}")).arg(run.get_program());
    command.args(run.get_args()).env("NO_COLOR", "1").stdin(Stdio::null());
    for (key, value) in run.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command
}

/// Returns the exit code and standard error.
async fn ended(mut command: Command) -> (Option<i32>, String) {
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("no panic").expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn consume(server: &Server, consumer: &str) -> Streamgauge {
    let group = ["--stream", "orders", "--group", "billing", "--consumer", consumer];
    let claim = ["--start-id", "0", "--claim-min-idle", "1s"];
    Streamgauge::command("consume").args(["--redis-url", &server.url()]).args(group).args(claim)
}

#[tokio::test]
async fn entries_that_cannot_be_written_are_not_acknowledged() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        for n in 1..=50 {
            client.run(&format!("XADD orders {n}-0 n {n}")).await;
        }
        for (redirection, code, problem) in [
            (">&-", 2, "standard output: it is closed"),
            ("1</dev/null", 2, "standard output: it is open for reading only"),
            (">/dev/full", 1, "No space left on device"),
        ] {
            let (found, stderr) = ended(redirected(consume(&server, "lost"), redirection)).await;
            assert_eq!(found, Some(code), "{redirection}: {stderr}");
            assert!(stderr.contains(problem), "{redirection}: {stderr}");
        }
        let consumer = consume(&server, "good").spawn();
        wait_until(SOON, "all entries are written", async || consumer.stdout().lines().count() >= 50).await;
        let finished = consumer.stop().await;
        let of_entry = |n: usize| finished.stdout.contains(&format!("\"id\":\"{n}-0\""));
        assert!((1..=50).all(of_entry), "{}", finished.stdout);
    })
    .await;
}

#[tokio::test]
async fn a_null_device_takes_entries_when_it_is_asked_for() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD orders 1-0 n 1").await;
    let mut command = consume(&server, "one").into_command();
    let null = OpenOptions::new().write(true).open("/dev/null").expect("there is a null device");
    let mut child = command.stdout(null).stderr(Stdio::null()).spawn().expect("the program starts");
    let mut client = RedisClient::to(&server).await;
    wait_until(SOON, "the entry is acknowledged", async || {
        let groups: Vec<redis::Value> = client.ask(&["XINFO", "GROUPS", "orders"]).await;
        let pending: (i64, redis::Value, redis::Value, redis::Value) = match groups.len() {
            0 => return false,
            _ => client.ask(&["XPENDING", "orders", "billing"]).await,
        };
        let consumers: Vec<redis::Value> = client.ask(&["XINFO", "CONSUMERS", "orders", "billing"]).await;
        pending.0 == 0 && !consumers.is_empty()
    })
    .await;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[tokio::test]
async fn a_result_that_cannot_be_printed_is_an_error_and_a_reader_that_is_gone_is_not() {
    let server = Server::start(newest(), &[]).await;
    let url = server.url();
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s 1-0 n 1\nXGROUP CREATE s g 0\nXREADGROUP GROUP g c STREAMS s >").await;
    let from = ["--redis-url", &url];
    let runs = || {
        [
            Streamgauge::command("check").args(from),
            Streamgauge::command("status").args(from),
            Streamgauge::command("status").args(from).args(["--json"]),
            Streamgauge::command("pending").args(from).args(["--stream", "s", "--group", "g"]),
            Streamgauge::command("produce").args(from).args(["--stream", "s", "--count", "1"]),
            Streamgauge::command("rules"),
            Streamgauge::command("completions").args(["bash"]),
        ]
    };
    for run in runs() {
        let command = redirected(run, ">/dev/full");
        let shown = format!("{command:?}");
        let (code, stderr) = ended(command).await;
        assert_eq!(code, Some(1), "{shown}: {stderr}");
        assert!(stderr.contains("cannot write to standard output: No space left"), "{shown}: {stderr}");
    }
    for run in runs() {
        let mut command = run.into_command();
        let shown = format!("{command:?}");
        let (reader, writer) = std::io::pipe().expect("there is a pipe");
        drop(reader);
        command.stdout(writer).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.spawn()?.wait_with_output()).await;
        let output = output.expect("no panic").expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{shown}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("standard output") && !stderr.contains("Broken pipe"), "{shown}: {stderr}");
    }
}

#[tokio::test]
async fn a_standard_error_that_is_not_read_stops_nothing() {
    let server = Server::start(newest(), &[]).await;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let listen = address.to_string();
    let arguments = ["--listen", &listen, "--redis-url", &server.url(), "--interval", "50ms"];
    let mut command =
        Streamgauge::command("serve").args(arguments).args(["--log-level", "trace"]).into_command();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    wait_until(SOON, "it listens", async || http::try_get(address, "/-/ready", &[]).await.is_ok()).await;
    // Each connection is logged: several times what a pipe holds.
    for _ in 0..3_000 {
        let healthy = http::try_get(address, "/-/healthy", &[]).await.expect("it is served");
        assert_eq!(healthy.status, 200);
    }
    assert_eq!(http::get(address, "/metrics").await.status, 200);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    wait_until(Duration::from_secs(8), "it ends", async || {
        child.try_wait().expect("a child can be asked").is_some()
    })
    .await;
    assert!(child.wait().expect("it has ended").success());
}

#[tokio::test]
async fn a_full_disk_under_the_log_stops_nothing() {
    let server = Server::start(newest(), &[]).await;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let listen = address.to_string();
    let full = File::options().write(true).open("/dev/full").expect("there is such a device");
    let arguments = ["--listen", &listen, "--redis-url", &server.url()];
    let mut command = Streamgauge::command("serve").args(arguments).into_command();
    let mut child = command.stdout(Stdio::null()).stderr(full).spawn().expect("the program starts");
    wait_until(SOON, "it listens", async || http::try_get(address, "/-/healthy", &[]).await.is_ok()).await;
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    wait_until(SOON, "it ends", async || child.try_wait().expect("a child can be asked").is_some()).await;
}

/// Returns a pipe that is full, so that every write to it blocks.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("there is a pipe");
    let flags = fcntl_getfl(&writer).expect("it is open");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("it is open");
    for chunk in [&[b'x'; 4096][..], b"x"] {
        while writer.write(chunk).is_ok() {}
    }
    fcntl_setfl(&writer, flags).expect("it is open");
    (reader, writer)
}

/// Returns true if a thread of the process is in a system call about standard output.
fn is_blocked_on_stdout(child: &Child) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
    let calls = tasks.filter_map(|task| fs::read_to_string(task.path().join("syscall")).ok());
    calls.into_iter().any(|call| call.split(' ').nth(1) == Some("0x1"))
}

/// Commands that print a result, which lies in the stream `s` with the group `g`.
fn printing(url: &str) -> Vec<Streamgauge> {
    let from = ["--redis-url", url];
    vec![
        Streamgauge::command("check").args(from),
        Streamgauge::command("status").args(from),
        Streamgauge::command("status").args(from).args(["--json"]),
        Streamgauge::command("init").args(from),
        Streamgauge::command("tidy").args(from),
        Streamgauge::command("pending").args(from).args(["--stream", "s", "--group", "g"]),
        Streamgauge::command("produce").args(from).args(["--stream", "p", "--count", "1"]),
        Streamgauge::command("dead-letters").args(["list"]).args(from).args(["--stream", "s"]),
        Streamgauge::command("rules"),
        Streamgauge::command("completions").args(["bash"]),
    ]
}

#[tokio::test]
async fn a_signal_ends_each_command_whose_result_is_not_read() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s 1-0 n 1\nXGROUP CREATE s g 0\nXREADGROUP GROUP g c STREAMS s >").await;
    let (_reader, writer) = full_pipe();
    let demo = Streamgauge::command("demo").args(["--listen", &format!("127.0.0.1:{}", free_port())]);
    let demo = demo.args(["--redis-server".as_ref(), newest().path.as_os_str()]);
    let mut children = Vec::new();
    for run in printing(&server.url()).into_iter().chain([demo]) {
        let mut command = run.into_command();
        let shown = format!("{command:?}");
        let output = writer.try_clone().expect("it is open");
        let child = command.stdout(output).stderr(Stdio::null()).spawn().expect("the program starts");
        children.push((shown, child));
    }
    for (shown, child) in &children {
        wait_until(SOON, shown, async || is_blocked_on_stdout(child)).await;
        kill_process(Pid::from_child(child), Signal::TERM).expect("it runs");
    }
    for (shown, child) in &mut children {
        let what = format!("its end: {shown}");
        wait_until(SOON, &what, async || child.try_wait().expect("a child can be asked").is_some()).await;
        let code = child.wait().expect("it has ended").code();
        // A demo without its text runs on, and ends in order.
        assert_eq!(code, Some(if shown.contains("demo") { 0 } else { 1 }), "{shown}");
    }
}

#[tokio::test]
async fn a_standard_error_that_is_not_read_keeps_no_command_from_its_end() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s 1-0 n 1\nXGROUP CREATE s g 0\nXREADGROUP GROUP g c STREAMS s >").await;
    let (_reader, writer) = full_pipe();
    let failing = [
        Streamgauge::command("check").args(["--redis-url", "redis://127.0.0.1:1"]),
        Streamgauge::command("status").args(["--redis-url", "redis://127.0.0.1:1", "--watch"]),
        Streamgauge::command("consume").args(["--redis-url", "127.0.0.1:x", "--stream", "s", "--group", "g"]),
        Streamgauge::command("healthcheck"),
    ];
    for run in printing(&server.url()).into_iter().chain(failing) {
        let mut command = run.args(["--log-level", "trace"]).into_command();
        let shown = format!("{command:?}");
        let output = writer.try_clone().expect("it is open");
        let mut child = command.stdout(Stdio::null()).stderr(output).spawn().expect("the program starts");
        wait_until(SOON, &shown, async || child.try_wait().expect("a child can be asked").is_some()).await;
        assert!(child.wait().expect("it has ended").code().is_some_and(|code| code < 3), "{shown}");
    }
}
