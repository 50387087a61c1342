//! A handler that runs a child process for each entry: `--exec`.
//!
//! The child reads the entry from standard input, as one [JSON line](crate::json_line), inherits standard output, and its
//! standard error is logged with the entry's ID. Its environment has `STREAM`, `GROUP`, `CONSUMER`, `ID` and
//! `DELIVERIES`. The child leads its own process group: processes that it starts are killed with it, and Ctrl-C in a
//! terminal only reaches the consumer, which lets the child finish.
//!
//! # Outcome
//!
//! | the child | the entry |
//! | --- | --- |
//! | exits with 0 | is acknowledged |
//! | exits with 65 (EX_DATAERR) | moves to the dead-letter stream at once |
//! | exits with 75 (EX_TEMPFAIL) | is retried, and the delivery does not count |
//! | cannot be started, exits with 126 or 127 as a shell does then, or ends by SIGHUP, SIGINT or SIGTERM | the same |
//! | exits with another code, takes too long, ends by another signal | is retried, and the delivery counts |
//!
//! After SIGKILL the delivery counts, so that an entry for which the program always runs out of memory ends as a dead
//! letter. If memory is short for all entries, the circuit breaker opens instead.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin};
use tokio::time::timeout;

use super::handler::{Handler, HandlerError};
use super::pipe_lines::StderrLog;
use super::program::Program;
use crate::entry::{Entry, GroupMember, StreamId};
use crate::error::InvalidConfig;
use crate::json_line::LineFormat;
use redis_stream_core::program::ProcessGroup;

/// Exit codes of sysexits.h, and of a shell that cannot run a program.
const EX_DATAERR: i32 = 65;
const EX_TEMPFAIL: i32 = 75;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Longest time to read what an ended child wrote to standard error, if another process holds the pipe open.
const STDERR_TIME: Duration = Duration::from_millis(200);

/// Runs a program for each entry.
#[derive(Clone, Debug)]
pub struct Exec {
    program: Program,
    timeout: Duration,
    format: LineFormat,
}

impl Exec {
    /// Splits a command line into words like a shell, without its other features, and looks the program up. A child that
    /// runs for longer than `timeout` is killed, and its entry failed.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for a command line without a program, with a quote that is not closed, or with a program that is
    /// missing or not executable.
    pub fn new(command: &str, timeout: Duration, member: &GroupMember) -> Result<Self, InvalidConfig> {
        let program = Program::find("--exec", command, member)?;
        Ok(Self { program, timeout, format: LineFormat::new(member) })
    }

    fn spawn(&self, entry: &Entry) -> io::Result<Child> {
        let mut command = self.program.command();
        command.env("ID", entry.id.to_string()).env("DELIVERIES", entry.deliveries.to_string());
        command.spawn()
    }

    fn outcome(&self, status: ExitStatus, last_line: &str) -> Result<(), HandlerError> {
        let reason = match last_line.is_empty() {
            true => format!("{}: {status}", self.program.name()),
            false => last_line.to_owned(),
        };
        let is_asked_to_end =
            |signal| [Signal::HUP, Signal::INT, Signal::TERM].iter().any(|known| known.as_raw() == signal);
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(EX_DATAERR), _) => Err(HandlerError::Rejected(reason)),
            (Some(EX_TEMPFAIL | NOT_EXECUTABLE | NOT_FOUND), _) => Err(HandlerError::Unavailable(reason)),
            (_, Some(signal)) if is_asked_to_end(signal) => Err(HandlerError::Unavailable(reason)),
            _ => Err(HandlerError::failed(reason)),
        }
    }
}

impl Handler for Exec {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let name = self.program.name();
        let mut line = Vec::new();
        self.format.write(entry, &mut line);
        let unavailable = |error: io::Error| HandlerError::Unavailable(format!("cannot run {name}: {error}"));
        let mut child = self.spawn(entry).map_err(unavailable)?;
        let group = ProcessGroup::of(&child);
        let stdin = child.stdin.take();
        let mut stderr = child.stderr.take().map(StderrLog::new);
        let Ok(ended) = timeout(self.timeout, run(&mut child, stdin, stderr.as_mut(), &line, entry.id)).await
        else {
            drop(group);
            // Reaps the child, so that no zombie remains.
            let _ = child.wait().await;
            let limit = humantime::format_duration(self.timeout);
            return Err(HandlerError::failed(format!("{name} killed after {limit}")));
        };
        group.release();
        let rest = forward_all(stderr.as_mut(), entry.id);
        let _ = timeout(STDERR_TIME, rest).await;
        self.outcome(ended.map_err(unavailable)?, stderr.as_ref().map_or("", StderrLog::last))
    }
}

/// Writes the child's input, logs its standard error, and waits for its end. A child that does not read all of its input
/// is no failure.
async fn run(
    child: &mut Child,
    stdin: Option<ChildStdin>,
    stderr: Option<&mut StderrLog>,
    input: &[u8],
    entry: StreamId,
) -> io::Result<ExitStatus> {
    let write = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input).await;
        }
    };
    let pipes = async {
        tokio::join!(write, forward_all(stderr, entry));
        std::future::pending().await
    };
    tokio::select! {
        status = child.wait() => status,
        never = pipes => never,
    }
}

async fn forward_all(stderr: Option<&mut StderrLog>, entry: StreamId) {
    if let Some(stderr) = stderr {
        while stderr.forward(Some(entry)).await {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn entry(payload: Vec<u8>) -> Entry {
        let member =
            GroupMember { stream: b"orders".to_vec(), group: b"g".to_vec(), consumer: b"c".to_vec() };
        Entry {
            id: StreamId { ms: 1, seq: 0 },
            fields: vec![(b"n".to_vec(), payload)],
            deliveries: 3,
            member: Arc::new(member),
        }
    }

    /// The kind of an outcome and its text.
    async fn outcome(command: &str, payload: Vec<u8>) -> String {
        let entry = entry(payload);
        let exec = Exec::new(command, Duration::from_secs(10), &entry.member).unwrap();
        match exec.handle(&entry).await {
            Ok(()) => "handled".to_owned(),
            Err(HandlerError::Failed { reason, .. }) => format!("failed: {reason}"),
            Err(HandlerError::Unavailable(reason)) => format!("unavailable: {reason}"),
            Err(HandlerError::Rejected(reason)) => format!("rejected: {reason}"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn the_exit_code_decides() {
        let json =
            r#"{"id":"1-0","stream":"orders","group":"g","consumer":"c","deliveries":3,"fields":{"n":"1"}}"#;
        let reads = format!("sh -c 'read -r line; test \"$line\" = \"$0\"' '{json}'");
        let variables = r#"sh -c 'test "$STREAM $GROUP $CONSUMER $ID $DELIVERIES" = "orders g c 1-0 3"'"#;
        for (command, expected) in [
            ("true", "handled"),
            (reads.as_str(), "handled"),
            (variables, "handled"),
            ("sh -c 'exit 3'", "failed: sh: exit status: 3"),
            ("sh -c 'echo Traceback >&2; echo \"no amount\" >&2; echo >&2; exit 1'", "failed: no amount"),
            ("sh -c 'exit 65'", "rejected: sh: exit status: 65"),
            ("sh -c 'echo bad >&2; exit 65'", "rejected: bad"),
            ("sh -c 'echo down >&2; exit 75'", "unavailable: down"),
            ("sh -c 'exec 2>&-; no-such-program'", "unavailable: sh: exit status: 127"),
            ("sh -c 'exec 2>&-; exec /'", "unavailable: sh: exit status: 126"),
            ("sh -c 'kill -9 $$'", "failed: sh: signal: 9 (SIGKILL)"),
            ("sh -c 'kill -11 $$'", "failed: sh: signal: 11 (SIGSEGV)"),
            ("sh -c 'kill $$'", "unavailable: sh: signal: 15 (SIGTERM)"),
            ("sh -c 'sleep 5 & echo ended >&2; exit 1'", "failed: ended"),
        ] {
            assert_eq!(outcome(command, b"1".to_vec()).await, expected, "{command}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_gone_is_no_failure_of_the_entry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handler");
        std::fs::copy("/bin/true", &path).unwrap();
        let entry = entry(b"1".to_vec());
        let command = path.display().to_string();
        let exec = Exec::new(&command, Duration::from_secs(10), &entry.member).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = exec.handle(&entry).await.unwrap_err();
        assert!(matches!(error, HandlerError::Unavailable(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("cannot run {command}: No such file or directory (os error 2)")
        );
    }

    #[tokio::test]
    async fn a_child_that_does_not_read_a_large_entry_is_no_failure() {
        assert_eq!(outcome("true", vec![b'x'; 4 * 1024 * 1024]).await, "handled");
    }

    #[tokio::test]
    async fn a_child_that_writes_a_lot_to_standard_error_is_read_to_the_end() {
        let flood = "sh -c 'head -c 3000000 /dev/zero | tr \"\\\\0\" x >&2; echo >&2; yes | head -n 50000 >&2; echo end >&2; exit 1'";
        assert_eq!(outcome(flood, b"1".to_vec()).await, "failed: end");
    }

    #[tokio::test]
    async fn a_child_that_takes_too_long_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let command = format!("sh -c 'sleep 60 & echo $! > {}; wait'", path.display());
        let entry = entry(b"1".to_vec());
        let exec = Exec::new(&command, Duration::from_secs(1), &entry.member).unwrap();
        let error = exec.handle(&entry).await.unwrap_err();
        assert_eq!(error.to_string(), "sh killed after 1s");
        let pid: u32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        let is_gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            // Its new parent may not have reaped it yet.
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let gone = async {
            while !is_gone() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.expect("the grandchild is killed");
    }
}
