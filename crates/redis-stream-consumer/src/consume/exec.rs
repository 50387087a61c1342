//! A handler that runs a child process for each entry: `--exec`.
//!
//! The child reads the entry from standard input, as one [JSON line](crate::json_line), and inherits standard output and
//! standard error. Exit code 0 acknowledges. The child leads its own process group: processes that it starts are killed
//! with it, and Ctrl-C in a terminal only reaches the consumer, which lets the child finish.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::handler::{Handler, HandlerError};
use crate::entry::{Entry, GroupMember};
use crate::error::InvalidConfig;
use crate::json_line::LineFormat;

/// Runs a program for each entry.
#[derive(Clone, Debug)]
pub struct Exec {
    program: String,
    args: Vec<String>,
    timeout: Duration,
    format: LineFormat,
}

impl Exec {
    /// Splits a command line into words like a shell, without its other features. A child that runs for longer than
    /// `timeout` is killed, and its entry failed.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for a command line without a program, or with a quote that is not closed.
    pub fn new(command: &str, timeout: Duration, member: &GroupMember) -> Result<Self, InvalidConfig> {
        let words = shlex::split(command)
            .ok_or_else(|| InvalidConfig::new(format!("--exec {command}: a quote is not closed")))?;
        let mut words = words.into_iter();
        let program =
            words.next().ok_or_else(|| InvalidConfig::new("--exec: expected a program and its arguments"))?;
        Ok(Self { program, args: words.collect(), timeout, format: LineFormat::new(member) })
    }

    fn spawn(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

impl Handler for Exec {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let mut line = Vec::new();
        self.format.write(entry.id, &entry.fields, &mut line);
        let mut child = self
            .spawn()
            .map_err(|error| HandlerError::failed(format!("cannot run {}: {error}", self.program)))?;
        let mut group = ProcessGroup::of(&child);
        let ended = timeout(self.timeout, feed(&mut child, &line)).await;
        if ended.is_err() {
            drop(group);
            // Reaps the child, so that no zombie remains.
            let _ = child.wait().await;
            let limit = humantime::format_duration(self.timeout);
            return Err(HandlerError::failed(format!("{} killed after {limit}", self.program)));
        }
        group.0 = None;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(HandlerError::failed(format!("{}: {status}", self.program))),
            Ok(Err(error)) => Err(HandlerError::failed(format!("{}: {error}", self.program))),
            Err(_) => Ok(()),
        }
    }
}

/// Writes the child's input and waits for its end. A child that does not read all of it is no failure.
async fn feed(child: &mut Child, input: &[u8]) -> io::Result<ExitStatus> {
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        status = child.wait() => status,
        never = write => never,
    }
}

/// The process group of a running child, which is killed on drop.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails if all of them have ended.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entry::StreamId;

    fn entry(payload: Vec<u8>) -> Entry {
        let member =
            GroupMember { stream: b"orders".to_vec(), group: b"g".to_vec(), consumer: b"c".to_vec() };
        Entry {
            id: StreamId { ms: 1, seq: 0 },
            fields: vec![(b"n".to_vec(), payload)],
            deliveries: 1,
            member: Arc::new(member),
        }
    }

    async fn outcome(command: &str, payload: Vec<u8>) -> Result<(), String> {
        let entry = entry(payload);
        let exec = Exec::new(command, Duration::from_secs(10), &entry.member).unwrap();
        exec.handle(&entry).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_exit_code_decides() {
        let json = r#"{"id":"1-0","stream":"orders","group":"g","consumer":"c","fields":{"n":"1"}}"#;
        let reads = format!("sh -c 'read -r line; test \"$line\" = \"$0\"' '{json}'");
        for (command, expected) in [
            ("true", Ok(())),
            (reads.as_str(), Ok(())),
            ("sh -c 'exit 3'", Err("sh: exit status: 3")),
            ("sh -c 'kill -9 $$'", Err("sh: signal: 9 (SIGKILL)")),
            ("/nowhere/program", Err("cannot run /nowhere/program: No such file or directory (os error 2)")),
        ] {
            assert_eq!(outcome(command, b"1".to_vec()).await, expected.map_err(str::to_owned), "{command}");
        }
    }

    #[tokio::test]
    async fn a_child_that_does_not_read_a_large_entry_is_no_failure() {
        assert_eq!(outcome("true", vec![b'x'; 4 * 1024 * 1024]).await, Ok(()));
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

    #[test]
    fn an_invalid_command_line_is_refused() {
        for (command, text) in [
            ("", "--exec: expected a program and its arguments"),
            ("sh -c 'exit", "--exec sh -c 'exit: a quote is not closed"),
        ] {
            let error = Exec::new(command, Duration::ZERO, &entry(Vec::new()).member).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }
}
