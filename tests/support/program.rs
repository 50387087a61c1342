//! One run of the streamgauge program: its output, exit code and HTTP responses.
//!
//! ```ignore
//! let exporter = Streamgauge::serve().args(["--redis-url", &server.url(), "--interval", "200ms"]).serving().await;
//! assert_eq!(exporter.get("/-/healthy").await.status, 200);
//! let end = exporter.stop().await;
//! assert_eq!(end.code, Some(0));
//!
//! let end = Streamgauge::command("check").args(["--config", "missing.yaml"]).run().await;
//! assert_eq!((end.code, end.stdout.as_str()), (Some(2), ""));
//! ```

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::http::{self, Response};
use super::metrics::{self, Metrics};
use super::server::tail;
use super::wait::wait_for;

/// Time limit for the program to listen, and to end after a signal.
const DEADLINE: Duration = Duration::from_secs(20);

/// A run that is not started yet.
#[derive(Debug)]
pub struct Streamgauge {
    command: Command,
}

/// A running program, killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    stdout: Output,
    stderr: Output,
}

/// A running exporter.
#[derive(Debug)]
pub struct Exporter {
    pub address: SocketAddr,
    running: Running,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Time from the signal to the end, or from the start if there was no signal.
    pub took: Duration,
}

impl Streamgauge {
    /// Returns a subcommand: `Streamgauge::command("check")`. It does not inherit environment variables that
    /// streamgauge reads.
    pub fn command(name: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
        command.arg(name).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("REDIS_URL");
        for (key, _) in env::vars_os() {
            if key.to_string_lossy().starts_with("STREAMGAUGE_") {
                command.env_remove(key);
            }
        }
        Self { command }
    }

    /// Returns the subcommand `serve` on a free loopback port.
    pub fn serve() -> Self {
        Self::command("serve").args(["--listen", "127.0.0.1:0"])
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Returns the command, for a test that starts it itself.
    pub fn into_command(self) -> Command {
        self.command
    }

    pub fn spawn(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("cargo built the program that the tests run");
        let stdout = Output::of(child.stdout.take().expect("stdout is piped"));
        let stderr = Output::of(child.stderr.take().expect("stderr is piped"));
        Running { child, started: now(), stdout, stderr }
    }

    /// Starts it and waits until it ends by itself.
    pub async fn run(self) -> Finished {
        let running = self.spawn();
        let started = running.started;
        running.end(started).await
    }

    /// Starts it and waits until it listens.
    pub async fn serving(self) -> Exporter {
        let mut running = self.spawn();
        let address = running.listening().await;
        Exporter { address, running }
    }
}

impl Running {
    /// Returns the standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Returns the standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes it reload its configuration, with SIGHUP.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("the program runs");
    }

    /// Waits until it logs the address that it listens on.
    pub async fn listening(&mut self) -> SocketAddr {
        let address = wait_for(DEADLINE, "streamgauge listens", async || {
            let log = self.stderr.text();
            // The last line may not be complete.
            let lines = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(address) = listening_address(lines) {
                return Ok(Some(address));
            }
            let ended = self.child.try_wait().expect("a child can be asked").is_some();
            if ended { Ok(None) } else { Err(format!("it wrote:\n{log}")) }
        });
        let address = address.await;
        address.unwrap_or_else(|| {
            panic!("streamgauge ended before it listened; it wrote:\n{}", self.stderr.text())
        })
    }

    /// Sends SIGTERM and waits until it has ended.
    pub async fn stop(self) -> Finished {
        self.signal(Signal::TERM).await
    }

    /// Sends SIGINT, as Ctrl-C does, and waits until it has ended.
    pub async fn interrupt(self) -> Finished {
        self.signal(Signal::INT).await
    }

    /// Sends a signal.
    pub fn send(&self, signal: Signal) {
        // Fails if it has ended by itself, which the exit code shows.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    async fn signal(self, signal: Signal) -> Finished {
        let asked = now();
        self.send(signal);
        self.end(asked).await
    }

    /// Waits until it has ended by itself.
    pub async fn finished(self) -> Finished {
        let started = self.started;
        self.end(started).await
    }

    /// Waits until it has ended by itself (false) or a condition holds (true); then it is killed.
    pub async fn finished_or(mut self, mut other: impl AsyncFnMut() -> bool) -> bool {
        wait_for(DEADLINE, "streamgauge ends, or something else happens", async || {
            if other().await {
                return Ok(true);
            }
            let ended = self.child.try_wait().expect("a child can be asked").is_some();
            if ended { Ok(false) } else { Err(format!("it wrote:\n{}", tail(&self.stderr.text(), 40))) }
        })
        .await
    }

    /// Kills it with SIGKILL and returns its standard output.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("SIGKILL reaches a child");
        self.child.wait().expect("a killed child ends");
        self.stdout.rest()
    }

    async fn end(mut self, since: Instant) -> Finished {
        let status = wait_for(DEADLINE, "streamgauge ends", async || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("it wrote:\n{}", tail(&self.stderr.text(), 40))),
            Err(error) => Err(error.to_string()),
        })
        .await;
        let took = since.elapsed();
        Finished { code: status.code(), stdout: self.stdout.rest(), stderr: self.stderr.rest(), took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if the program has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test failed, and this may show why")]
            {
                eprintln!("streamgauge wrote:\n{}", tail(&self.stderr.text(), 40));
            }
        }
    }
}

impl Exporter {
    pub async fn get(&self, path: &str) -> Response {
        http::get(self.address, path).await
    }

    /// GETs /metrics as a map. Panics if the status is not 200.
    pub async fn metrics(&self) -> Metrics {
        let response = self.get("/metrics").await;
        assert_eq!(response.status, 200, "/metrics: {}", response.text());
        metrics::parse(&response.text())
    }

    /// Sends SIGTERM and waits until it has ended.
    pub async fn stop(self) -> Finished {
        self.running.stop().await
    }

    /// Sends SIGINT and waits until it has ended.
    pub async fn interrupt(self) -> Finished {
        self.running.interrupt().await
    }

    /// Kills it with SIGKILL.
    pub fn kill(self) {
        self.running.kill();
    }
}

impl Deref for Exporter {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

/// The output of a pipe so far. A thread reads it, so that the program never blocks on a full pipe.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..read]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Returns all output. Waits until the pipe is closed, which happens when the program ends.
    fn rest(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of a pipe does not panic");
        }
        self.text()
    }
}

/// Returns the address in the log line about listening, in either log format:
/// `INFO listening address=127.0.0.1:4242` or `"message":"listening","address":"127.0.0.1:4242"`.
pub fn listening_address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("listening") && line.contains("address"))?;
    let (_, after) = line.split_once("address")?;
    let after = after.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '[');
    let end = after.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(after.len());
    after[..end].parse().ok()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "measures a process from outside")]
    Instant::now()
}
