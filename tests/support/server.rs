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

/// Time limit for a server to start or stop.
const DEADLINE: Duration = Duration::from_secs(15);

/// Time limit for a reply in [`Server::command`] and [`Server::connection`].
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of ports to try, if a free port is taken before the server listens on it.
const PORT_TRIES: usize = 10;

/// A server that a test started. Its methods panic with the end of its log if they fail.
#[derive(Debug)]
pub struct Server {
    program: &'static Program,
    args: Vec<String>,
    port: u16,
    folder: TempDir,
    /// `None` while it is stopped.
    child: Option<Child>,
    /// Offset in the log at which the present run begins.
    log_start: usize,
}

enum NotReady {
    Ended,
    /// It is still starting, or loading its data.
    Starting,
}

impl Server {
    /// Starts the program on a free loopback port without persistence; `args` come last and may override that
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

    pub fn program(&self) -> &'static Program {
        self.program
    }

    /// Returns its port, which stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its address: `127.0.0.1` and the port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `redis://127.0.0.1:PORT`, to which a path (`/3`) may be added.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Returns the process ID. Panics while the server is stopped.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Returns its working folder, which contains its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its log, including that of earlier runs.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Starts the process without waiting until it accepts commands: with much data it replies LOADING for a while.
    /// [`Server::ready`] waits.
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

    /// Stops the process with SIGSTOP: connections stay open, the kernel accepts new ones, and the server does not
    /// reply. Returns once the process has stopped.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        waitpid(Some(Pid::from_child(self.child())), WaitOptions::UNTRACED)
            .expect("a paused child reports so");
    }

    /// Continues the process with SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Restarts it on the same port and folder, after stopping it if it runs.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.stop().await;
        }
        self.launch();
        self.ready().await;
    }

    /// Opens a connection, as the default user without a password.
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

    /// Kills it and starts it with other arguments, without waiting until it accepts commands.
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

    /// Waits until it accepts commands (true) or has ended (false). It reads the log rather than connecting, since
    /// another process may have taken the port and would reply.
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

    /// Returns the log since it was last launched.
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
            // Fails if it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test failed, and this may show why")]
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

/// Returns the last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Returns a loopback port that is free now and that this process has not returned before. It is below the range from
/// which the kernel assigns local ports (32768 on Linux), so that no connection occupies it while a server restarts.
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
