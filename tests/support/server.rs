//! One running Redis or Valkey server: private, on loopback, with its data in a temporary folder; killed on drop.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult, ToRedisArgs};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use super::servers::Program;
use super::wait::wait_for;

/// How long a server may take to start or to stop.
const DEADLINE: Duration = Duration::from_secs(15);

/// How long a reply may take before [`Server::command`] and [`Server::connection`] give up.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often another port is tried, when one that was free is taken before the server listens on it.
const PORT_TRIES: usize = 10;

/// A server that a test started. Its methods panic, with the end of its log, where it does not do as asked.
#[derive(Debug)]
pub struct Server {
    program: &'static Program,
    args: Vec<String>,
    port: u16,
    folder: TempDir,
    /// `None` while it is stopped.
    child: Option<Child>,
    /// Where the log of the present run begins.
    log_start: usize,
}

/// Why a server is not ready.
enum NotReady {
    /// Its process ended.
    Ended,
    /// It is still starting, or loading its data.
    Starting,
}

impl Server {
    /// Starts the program on a free loopback port without persistence; `args` come last and may say otherwise
    /// (`&["--appendonly", "yes"]`). Returns when it accepts commands.
    pub async fn start(program: &'static Program, args: &[&str]) -> Self {
        let folder =
            tempfile::Builder::new().prefix("streamgauge-test-").tempdir().expect("a temporary folder");
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut server = Self { program, args, port: 0, folder, child: None, log_start: 0 };
        for _ in 0..PORT_TRIES {
            server.port = free_port();
            server.launch();
            if server.became_ready().await {
                return server;
            }
            server.child = None;
            assert!(
                server.run_log().contains("Address already in use"),
                "{}",
                server.complaint("did not start")
            );
        }
        panic!("{}", server.complaint("found no free port"));
    }

    /// The program that runs.
    pub fn program(&self) -> &'static Program {
        self.program
    }

    /// What it listens on: stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it listens on: `127.0.0.1` and the port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `redis://127.0.0.1:PORT`, to which a path (`/3`) may be added.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The process. Panics while the server is stopped.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Its working folder, where its data lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that it logged, over restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Starts the process and does not wait until it accepts commands: with much data it answers LOADING for a
    /// while. [`Server::ready`] waits.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.program);
        self.log_start = self.log().len();
        let path = self.folder.path().join("log");
        let log =
            File::options().create(true).append(true).open(path).expect("the log of a test server opens");
        let child = Command::new(&self.program.path)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--daemonize", "no"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .args(&self.args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.path.display()));
        self.child = Some(child);
    }

    /// Waits until it accepts commands.
    pub async fn ready(&mut self) {
        assert!(self.became_ready().await, "{}", self.complaint("did not start"));
    }

    /// Stops it as an operator would, with SIGTERM, also while it is paused.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        let mut child = self.child.take().expect("signal() found it running");
        let stopped = async || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it runs still".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        wait_for(DEADLINE, &format!("{} ends on SIGTERM", self.program), stopped).await;
    }

    /// Kills it with SIGKILL, as the kernel does when memory is short.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.program));
        child.kill().expect("SIGKILL reaches a child");
        child.wait().expect("a killed child ends");
    }

    /// Stops its processing with SIGSTOP: connections stay open, the kernel takes new ones, nothing is answered.
    /// On return it stands still.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        waitpid(Some(Pid::from_child(self.child())), WaitOptions::UNTRACED)
            .expect("a paused child reports so");
    }

    /// Lets it go on with SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it anew on the same port and folder, after stopping it if it runs.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.stop().await;
        }
        self.launch();
        self.ready().await;
    }

    /// A new connection, as the default user without a password.
    pub async fn connection(&self) -> MultiplexedConnection {
        let connection = connect(&self.url()).await;
        connection
            .unwrap_or_else(|error| panic!("{}", self.complaint(&format!("took no connection: {error}"))))
    }

    /// Sends one command over a new connection; panics if it fails: `server.command::<i64>(&["XLEN", "s"]).await`.
    pub async fn command<T: FromRedisValue>(&self, args: &[impl ToRedisArgs]) -> T {
        let reply = self.try_command(args).await;
        reply.unwrap_or_else(|error| panic!("{}", self.complaint(&format!("refused a command: {error}"))))
    }

    /// Sends one command over a new connection.
    pub async fn try_command<T: FromRedisValue>(&self, args: &[impl ToRedisArgs]) -> RedisResult<T> {
        let mut connection = connect(&self.url()).await?;
        let mut command = Cmd::new();
        for arg in args {
            command.arg(arg);
        }
        command.query_async(&mut connection).await
    }

    /// Kills it and starts it anew with other arguments, and does not wait until it accepts commands.
    pub fn relaunch_with(&mut self, args: &[&str]) {
        self.kill();
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.launch();
    }

    fn child(&self) -> &Child {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.program))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child());
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{} takes no signal: {error}", self.program));
    }

    /// Waits until it accepts commands (true) or has ended (false). Its own log tells: on a port that another
    /// process took, that one would answer.
    async fn became_ready(&mut self) -> bool {
        let what = format!("{} is ready", self.program);
        wait_for(DEADLINE, &what, async || match self.readiness() {
            Ok(()) => Ok(true),
            Err(NotReady::Ended) => Ok(false),
            Err(NotReady::Starting) => Err(self.complaint("is starting")),
        })
        .await
    }

    fn readiness(&mut self) -> Result<(), NotReady> {
        let child = self.child.as_mut().expect("a launched server has a process");
        if child.try_wait().expect("a child can be asked").is_some() {
            return Err(NotReady::Ended);
        }
        if self.run_log().contains("Ready to accept connections") { Ok(()) } else { Err(NotReady::Starting) }
    }

    /// What it logged since it was last launched.
    fn run_log(&self) -> String {
        self.log().split_off(self.log_start)
    }

    fn complaint(&self, what: &str) -> String {
        format!(
            "{} on port {} {what}; the end of its log:\n{}",
            self.program,
            self.port,
            tail(&self.log(), 20)
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself: there is nobody left to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test failed, and this may tell why")]
            {
                eprintln!("{}", self.complaint("was there when the test failed"));
            }
        }
    }
}

/// Connects to a URL, which may hold a user, a password and a database.
pub async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(RESPONSE_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A loopback port that is free now and that this process has not given out yet. Below the range that the kernel
/// takes local ports from (32768 on Linux): no connection sits on it when a server comes back.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(fastrand::u16(0..PORTS.end - PORTS.start)));
    loop {
        let port = PORTS.start + next.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
