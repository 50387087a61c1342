//! A private Redis or Valkey server on a free loopback port, with its data in a temporary folder. Dropping it stops
//! the server and removes the data.
//!
//! It sends PING and INFO over a plain socket, only to learn whether the server is up.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use redis_stream_core::secret::redact;

/// Programs to look for on PATH, in this order.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// Attempts with another port, as another program may take a free port before the server binds it.
const PORT_TRIES: usize = 5;
const START_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// Lines of the server's log in an error.
const LOG_LINES: usize = 10;

/// The reason why the server could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// No server program is installed.
    #[error(
        "no redis-server or valkey-server on PATH: install one (package redis-server on Debian and Ubuntu, \
         redis or valkey on Fedora, Alpine, Arch and Homebrew), run `make demo`, which finds or installs one, \
         or give --redis-server PROGRAM"
    )]
    NotFound,
    /// The program cannot be executed.
    #[error("cannot run {}", redact(&program.to_string_lossy()))]
    Run {
        /// The program as given or found.
        program: PathBuf,
        source: io::Error,
    },
    /// No temporary folder or loopback port is available.
    #[error("cannot prepare a private server")]
    Prepare(#[source] io::Error),
    /// Another program took the port.
    #[error("port {0} was taken by another program")]
    PortTaken(u16),
    /// The server started and did not answer.
    #[error("{} {what}; the end of its log:\n{log}", program.display())]
    Silent {
        /// The program.
        program: PathBuf,
        /// The way it ended, or that it timed out.
        what: String,
        /// The last lines of its log.
        log: String,
    },
}

/// A running server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct PrivateServer {
    // Fields are dropped in this order: the server is killed before its folder is removed.
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// Returns the program to start: `given`, or the first of redis-server and valkey-server on PATH.
///
/// # Errors
///
/// [`StartError::NotFound`] if neither is installed.
pub fn find_program(given: Option<&Path>) -> Result<PathBuf, StartError> {
    if let Some(program) = given {
        return Ok(program.to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    PROGRAMS
        .iter()
        .flat_map(|program| env::split_paths(&path).map(move |folder| folder.join(program)))
        .find(|program| is_executable(program))
        .ok_or(StartError::NotFound)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl PrivateServer {
    /// Starts `program` on a free loopback port and waits until it answers. `extra_args` come last, so that they
    /// override the others.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; the server is stopped then.
    pub async fn start(program: &Path, extra_args: &[&str]) -> Result<Self, StartError> {
        for _ in 1..PORT_TRIES {
            match Self::start_on(program, free_port()?, extra_args).await {
                Err(StartError::PortTaken(_)) => {}
                started => return started,
            }
        }
        Self::start_on(program, free_port()?, extra_args).await
    }

    /// Starts `program` on this loopback port and waits until it answers.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; the server is stopped then.
    pub async fn start_on(program: &Path, port: u16, extra_args: &[&str]) -> Result<Self, StartError> {
        let folder =
            tempfile::Builder::new().prefix("streamgauge-").tempdir().map_err(StartError::Prepare)?;
        let log = File::create(folder.path().join("server.log")).map_err(StartError::Prepare)?;
        let mut command = Command::new(program);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder.path())
            .args(extra_args)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().map_err(StartError::Prepare)?))
            // The server prints errors of its command line here, whatever its log settings are.
            .stderr(Stdio::from(log))
            // A process group of its own, so that Ctrl-C reaches this program only and the server can stop last.
            .process_group(0)
            .kill_on_drop(true);
        let child =
            command.spawn().map_err(|source| StartError::Run { program: program.to_owned(), source })?;
        let mut server = Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), folder };
        match timeout(START_TIMEOUT, server.wait()).await {
            Ok(Waited::Ready) => Ok(server),
            Ok(Waited::Taken) => Err(StartError::PortTaken(port)),
            Ok(Waited::Exited(what)) => Err(server.silent(program, what)),
            Err(_) => {
                let what = format!("did not answer PING within {} s", START_TIMEOUT.as_secs());
                Err(server.silent(program, what))
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Stops the server and waits for its end.
    pub async fn stop(mut self) {
        // It may have ended already.
        let _ = self.child.kill().await;
    }

    async fn wait(&mut self) -> Waited {
        let Some(pid) = self.child.id() else {
            return Waited::Exited("exited".to_owned());
        };
        let address = self.address;
        tokio::select! {
            status = self.child.wait() => match status {
                _ if self.log().contains("Address already in use") => Waited::Taken,
                Ok(status) => Waited::Exited(format!("ended at its start ({status})")),
                Err(error) => Waited::Exited(format!("cannot be waited for ({error})")),
            },
            answered = answered(address, pid) => answered,
        }
    }

    fn silent(&self, program: &Path, what: String) -> StartError {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        StartError::Silent { program: program.to_owned(), what, log }
    }

    fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The result of waiting for the server's first reply.
#[derive(Debug, PartialEq, Eq)]
enum Waited {
    Ready,
    /// Another server listens on the port.
    Taken,
    /// The process ended.
    Exited(String),
}

async fn answered(address: SocketAddr, pid: u32) -> Waited {
    loop {
        if let Ok(Ok(Some(waited))) = timeout(PROBE_TIMEOUT, probe(address, pid)).await {
            return waited;
        }
        sleep(PROBE_PAUSE).await;
    }
}

/// Asks whether the server is up, and whether it is the process that was started.
async fn probe(address: SocketAddr, pid: u32) -> io::Result<Option<Waited>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PING\r\nINFO server\r\n").await?;
    let mut reply = Vec::new();
    while stream.read_buf(&mut reply).await? > 0 {
        if let Some(waited) = judge(&String::from_utf8_lossy(&reply), pid) {
            return Ok(Some(waited));
        }
    }
    Ok(None)
}

/// Interprets the reply to PING and INFO once it is complete; a server that is loading has not answered yet.
fn judge(reply: &str, pid: u32) -> Option<Waited> {
    // A server that demands a password is up, but is not the one that was started.
    if reply.starts_with("-NOAUTH") {
        return Some(Waited::Ready);
    }
    if !reply.starts_with("+PONG") {
        return None;
    }
    let (_, rest) = reply.split_once("process_id:")?;
    let (theirs, _) = rest.split_once("\r\n")?;
    Some(if theirs == pid.to_string() { Waited::Ready } else { Waited::Taken })
}

fn free_port() -> Result<u16, StartError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(StartError::Prepare)?;
    Ok(listener.local_addr().map_err(StartError::Prepare)?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_tells_our_server_from_another_and_from_one_that_loads() {
        let info = "+PONG\r\n$30\r\n# Server\r\nprocess_id:42\r\n";
        assert_eq!(judge(info, 42), Some(Waited::Ready));
        assert_eq!(judge(info, 43), Some(Waited::Taken));
        assert_eq!(judge("+PONG\r\n$30\r\n# Server\r\nprocess_id:4", 42), None);
        assert_eq!(judge("-NOAUTH Authentication required.\r\n", 42), Some(Waited::Ready));
        assert_eq!(judge("-LOADING Redis is loading\r\n", 42), None);
    }

    #[test]
    fn a_given_program_is_taken_as_it_is() {
        assert_eq!(find_program(Some(Path::new("my-redis"))).unwrap(), Path::new("my-redis"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = PrivateServer::start(Path::new("/nowhere/redis-server"), &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot run /nowhere/redis-server");
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_shows_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("broken-server");
        fs::write(&program, "#!/bin/sh\necho 'no such option'\nexit 1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let error = PrivateServer::start(&program, &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} ended at its start (exit status: 1); the end of its log:\nno such option",
                program.display()
            )
        );
    }
}
