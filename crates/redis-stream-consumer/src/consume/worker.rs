//! A handler that passes entries to a program that keeps running: `--worker`.
//!
//! The program reads entries from standard input, one [JSON line](crate::json_line) each, and answers each with a line on
//! standard output, in any order:
//!
//! | answer | the entry |
//! | --- | --- |
//! | `ok ID` | is acknowledged |
//! | `retry ID [DELAY] [REASON]` | is retried, not before the delay (`30s`, `5m`), and the delivery counts |
//! | `dead ID REASON` | moves to the dead-letter stream at once |
//!
//! Up to `concurrency` entries are unanswered at a time. A program that ends, or whose output is none of these lines, is
//! started again with backoff, and its unanswered entries are retried without counting. An answer is due within the
//! timeout, times the number of entries that were unanswered when the entry was sent. The program that misses it is
//! killed, and for the entry that was due the delivery counts.
//!
//! At the end of a run its standard input is closed, and it has a moment to end by itself.

use std::collections::HashMap;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument as _, info, warn};

use super::handler::{Handler, HandlerError};
use super::pipe_lines::{Line, PipeLines, StderrLog};
use super::program::Program;
use crate::entry::{Entry, GroupMember, StreamId};
use crate::error::InvalidConfig;
use crate::json_line::LineFormat;
use redis_stream_core::backoff::Backoff;
use redis_stream_core::clock::now;
use redis_stream_core::program::ProcessGroup;

/// Longest answer.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// Longest part of an answer that an error shows.
const MAX_SHOWN_CHARS: usize = 100;
/// While so many bytes wait to be written, no further entry is taken.
const MAX_UNSENT_BYTES: usize = 64 * 1024;
/// Longest delay that an answer may ask for.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);
const RESTART: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
/// Time to end by itself after standard input was closed.
const END_TIME: Duration = Duration::from_secs(2);
/// Longest time to read what an ended program wrote, if another process holds its pipes open.
const REST_TIME: Duration = Duration::from_millis(200);

/// Passes entries to a program that keeps running.
#[derive(Debug)]
pub struct Worker {
    format: LineFormat,
    jobs: mpsc::Sender<Job>,
    _running: DropGuard,
}

/// The task that runs the program. It ends after its [`Worker`] was dropped.
#[derive(Debug)]
pub struct WorkerTask(JoinHandle<()>);

impl WorkerTask {
    /// Waits until the program has ended.
    pub async fn ended(self) {
        // It fails only while the runtime shuts down, which kills the program.
        let _ = self.0.await;
    }
}

impl Worker {
    /// Looks the program of a command line up and starts it; [`Exec::new`](super::exec::Exec::new) explains the words.
    /// `answer_time` is the longest time for one answer.
    ///
    /// # Errors
    ///
    /// The errors of [`Exec::new`](super::exec::Exec::new).
    pub fn start(
        command: &str,
        answer_time: Duration,
        member: &GroupMember,
    ) -> Result<(Self, WorkerTask), InvalidConfig> {
        let program = Program::find("--worker", command, member)?;
        let (jobs, receiver) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let supervisor = Supervisor { program, answer_time, jobs: receiver, stop: stop.clone() };
        let task = tokio::spawn(supervisor.run().in_current_span());
        Ok((Self { format: LineFormat::new(member), jobs, _running: stop.drop_guard() }, WorkerTask(task)))
    }
}

impl Handler for Worker {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let mut line = Vec::with_capacity(256);
        self.format.write(entry, &mut line);
        let (outcome, answer) = oneshot::channel();
        // Both fail only while the runtime shuts down.
        let gone = || HandlerError::Unavailable("the worker is gone".to_owned());
        self.jobs.send(Job { id: entry.id, line, outcome }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

type Outcome = oneshot::Sender<Result<(), HandlerError>>;

#[derive(Debug)]
struct Job {
    id: StreamId,
    line: Vec<u8>,
    outcome: Outcome,
}

struct Supervisor {
    program: Program,
    answer_time: Duration,
    jobs: mpsc::Receiver<Job>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Starts the program again until the worker is dropped.
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let fault = match WorkerProcess::start(&self.program) {
                Ok(mut process) => {
                    let fault = process.run(&mut self.jobs, self.answer_time, &self.stop).await;
                    if process.answers > 0 {
                        failures = 0;
                    }
                    let Some(fault) = fault else { return process.end().await };
                    process.fail(&fault);
                    fault
                }
                Err(error) => format!("cannot be started: {error}"),
            };
            failures += 1;
            let delay = RESTART.delay(failures, 0.5 + fastrand::f64() / 2.0);
            warn!(
                worker = self.program.name(),
                error = fault,
                delay_ms = delay.as_millis(),
                "starting the worker again"
            );
            tokio::select! {
                () = sleep(delay) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }
}

/// One run of the program.
struct WorkerProcess {
    name: String,
    child: Child,
    group: ProcessGroup,
    stdin: Option<ChildStdin>,
    /// Lines for standard input, and how much of them is written.
    unsent: Vec<u8>,
    sent: usize,
    stdout: PipeLines<ChildStdout>,
    stderr: StderrLog,
    unanswered: HashMap<StreamId, Unanswered>,
    answers: u64,
}

struct Unanswered {
    outcome: Outcome,
    due: Instant,
}

impl WorkerProcess {
    fn start(program: &Program) -> io::Result<Self> {
        let mut child = program.command().stdout(Stdio::piped()).spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let stdout = PipeLines::new(child.stdout.take().ok_or_else(missing)?, MAX_ANSWER_BYTES);
        let stderr = StderrLog::new(child.stderr.take().ok_or_else(missing)?);
        info!(worker = program.name(), pid = child.id(), "worker started");
        Ok(Self {
            name: program.name().to_owned(),
            group: ProcessGroup::of(&child),
            stdin: child.stdin.take(),
            child,
            unsent: Vec::new(),
            sent: 0,
            stdout,
            stderr,
            unanswered: HashMap::new(),
            answers: 0,
        })
    }

    /// Sends entries and takes answers. Returns what is wrong with the program, or `None` at the end of the run.
    async fn run(
        &mut self,
        jobs: &mut mpsc::Receiver<Job>,
        answer_time: Duration,
        stop: &CancellationToken,
    ) -> Option<String> {
        let mut has_stderr = true;
        loop {
            let due = self.unanswered.values().map(|entry| entry.due).min();
            let only = self.only_unanswered();
            let Self { child, stdin, unsent, sent, stdout, stderr, .. } = self;
            let is_full = unsent.len() >= MAX_UNSENT_BYTES;
            tokio::select! {
                Some(job) = jobs.recv(), if !is_full => self.ask(job, answer_time),
                written = write(stdin.as_mut(), &unsent[*sent..]), if *sent < unsent.len() => self.wrote(written.ok()),
                line = stdout.next() => match line {
                    Ok(Some(line)) => if let Err(fault) = self.answer(line) {
                        return Some(fault);
                    },
                    Ok(None) | Err(_) => return Some(self.ended(None).await),
                },
                is_open = stderr.forward(only), if has_stderr => has_stderr = is_open,
                status = child.wait() => return Some(self.ended(status.ok()).await),
                () = sleep_until(due.unwrap_or_else(now)), if due.is_some() => return Some(self.overdue(answer_time)),
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Returns the entry that the program works on, if there is one only.
    fn only_unanswered(&self) -> Option<StreamId> {
        if self.unanswered.len() == 1 { self.unanswered.keys().next().copied() } else { None }
    }

    fn ask(&mut self, job: Job, answer_time: Duration) {
        self.unsent.extend_from_slice(&job.line);
        // A program that handles one entry after the other comes to this one after the others.
        let turn = u32::try_from(self.unanswered.len() + 1).unwrap_or(u32::MAX);
        let due = now() + answer_time.saturating_mul(turn).min(MAX_DELAY);
        self.unanswered.insert(job.id, Unanswered { outcome: job.outcome, due });
    }

    /// Notes bytes that were written; `None` if the program does not read any more, so that it ends or is overdue.
    fn wrote(&mut self, written: Option<usize>) {
        match written {
            Some(count) => self.sent += count,
            None => (self.stdin, self.sent) = (None, self.unsent.len()),
        }
        if self.sent == self.unsent.len() {
            self.unsent.clear();
            self.sent = 0;
        }
    }

    /// Takes an answer. Returns what is wrong with it.
    fn answer(&mut self, line: Line) -> Result<(), String> {
        let line = match line {
            Line::Whole(line) if line.trim().is_empty() => return Ok(()),
            Line::Whole(line) => line,
            Line::TooLong(line) => {
                return Err(format!("wrote a line of more than {MAX_ANSWER_BYTES} bytes: {}", shown(&line)));
            }
        };
        let Some((id, result)) = parse(&line) else {
            return Err(format!(
                "wrote {}; expected ok ID, retry ID [DELAY] [REASON] or dead ID REASON",
                shown(&line)
            ));
        };
        let Some(entry) = self.unanswered.remove(&id) else {
            return Err(format!("wrote {}, and this entry is answered or was never sent", shown(&line)));
        };
        self.answers += 1;
        self.stderr.allow_more();
        // The handler may have been dropped.
        let _ = entry.outcome.send(result);
        Ok(())
    }

    /// Takes the last answers of a program that ended, or closed its output, and describes its end.
    async fn ended(&mut self, status: Option<ExitStatus>) -> String {
        let rest = async {
            while let Ok(Some(line)) = self.stdout.next().await {
                self.answer(line)?;
            }
            Ok(())
        };
        if let Ok(Err(fault)) = timeout(REST_TIME, rest).await {
            return fault;
        }
        let status = match status {
            Some(status) => Some(status),
            None => timeout(REST_TIME, self.child.wait()).await.ok().and_then(Result::ok),
        };
        let only = self.only_unanswered();
        let _ = timeout(REST_TIME, async { while self.stderr.forward(only).await {} }).await;
        let how = status
            .map_or_else(|| "closed its standard output".to_owned(), |status| format!("ended, {status}"));
        match self.stderr.last() {
            "" => how,
            last => format!("{how}: {last}"),
        }
    }

    /// Fails the entries that are overdue.
    fn overdue(&mut self, answer_time: Duration) -> String {
        let at = now();
        let fault = format!("did not answer within {}", humantime::format_duration(answer_time));
        let overdue: Vec<_> =
            self.unanswered.iter().filter(|(_, entry)| entry.due <= at).map(|(id, _)| *id).collect();
        for id in overdue {
            if let Some(entry) = self.unanswered.remove(&id) {
                let _ = entry.outcome.send(Err(HandlerError::failed(format!("{} {fault}", self.name))));
            }
        }
        fault
    }

    /// Kills the program and returns its unanswered entries, which are not at fault.
    fn fail(self, fault: &str) {
        let Self { name, unanswered, .. } = self;
        for entry in unanswered.into_values() {
            let _ = entry.outcome.send(Err(HandlerError::Unavailable(format!("{name} {fault}"))));
        }
    }

    /// Closes standard input, and waits for the program to end unless it works on something that was given up.
    async fn end(mut self) {
        drop(self.stdin.take());
        if !self.unanswered.is_empty() {
            return;
        }
        let Self { child, stdout, stderr, .. } = &mut self;
        let pipes = async {
            tokio::join!(async { while let Ok(Some(_)) = stdout.next().await {} }, async {
                while stderr.forward(None).await {}
            });
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = child.wait() => ended.is_ok(),
            () = sleep(END_TIME) => false,
            () = pipes => false,
        };
        if ended {
            self.group.release();
        } else {
            warn!(worker = self.name, "worker did not end after its standard input was closed, killing it");
        }
    }
}

async fn write(stdin: Option<&mut ChildStdin>, bytes: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

fn shown(line: &str) -> String {
    format!("{:?}", line.chars().take(MAX_SHOWN_CHARS).collect::<String>())
}

/// Returns the ID and the outcome of an answer; `None` if it is none.
fn parse(line: &str) -> Option<(StreamId, Result<(), HandlerError>)> {
    let line = line.trim();
    let (word, rest) = line.split_once(' ')?;
    let (id, text) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
    let (id, text) = (id.parse().ok()?, text.trim());
    let reason = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let result = match word {
        "ok" if text.is_empty() => Ok(()),
        "retry" => {
            let (first, others) = text.split_once(' ').unwrap_or((text, ""));
            let (delay, text) = match humantime::parse_duration(first) {
                Ok(delay) => (delay.min(MAX_DELAY), others.trim()),
                Err(_) => (Duration::ZERO, text),
            };
            Err(HandlerError::Failed { reason: reason(text, "the worker asked for a retry"), delay })
        }
        "dead" => Err(HandlerError::Rejected(reason(text, "rejected by the worker"))),
        _ => return None,
    };
    Some((id, result))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;

    use super::*;

    fn entry(ms: u64) -> Entry {
        let member =
            GroupMember { stream: b"orders".to_vec(), group: b"g".to_vec(), consumer: b"c".to_vec() };
        let fields = vec![(b"n".to_vec(), ms.to_string().into_bytes())];
        Entry { id: StreamId { ms, seq: 0 }, fields, deliveries: 1, member: Arc::new(member) }
    }

    fn describe(result: Result<(), HandlerError>) -> String {
        match result {
            Ok(()) => "handled".to_owned(),
            Err(HandlerError::Failed { reason, delay }) if delay.is_zero() => format!("failed: {reason}"),
            Err(HandlerError::Failed { reason, delay }) => format!("failed, {}s: {reason}", delay.as_secs()),
            Err(HandlerError::Unavailable(reason)) => format!("unavailable: {reason}"),
            Err(HandlerError::Rejected(reason)) => format!("rejected: {reason}"),
            Err(error) => error.to_string(),
        }
    }

    fn started(script: &str, answer_time: Duration) -> (Worker, WorkerTask) {
        let command = format!("sh -c {}", shlex::try_quote(script).unwrap());
        Worker::start(&command, answer_time, &entry(1).member).unwrap()
    }

    /// The outcomes of entries that are handled at the same time by a shell script.
    async fn outcomes(script: &str, entries: u64) -> Vec<String> {
        let (worker, task) = started(script, Duration::from_secs(10));
        let entries: Vec<_> = (1..=entries).map(entry).collect();
        let results = join_all(entries.iter().map(|entry| worker.handle(entry))).await;
        drop(worker);
        timeout(Duration::from_secs(10), task.ended()).await.expect("the worker ends");
        results.into_iter().map(describe).collect()
    }

    #[test]
    fn an_answer_is_a_word_an_id_and_a_reason() {
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(MAX_DELAY, day);
        for (line, expected) in [
            ("ok 5-1", Some("handled")),
            (" ok  5-1 ", Some("handled")),
            ("retry 5-1", Some("failed: the worker asked for a retry")),
            ("retry 5-1 service is down", Some("failed: service is down")),
            ("retry 5-1 30s", Some("failed, 30s: the worker asked for a retry")),
            ("retry 5-1 5m rate limited", Some("failed, 300s: rate limited")),
            ("retry 5-1 404 not found", Some("failed: 404 not found")),
            ("retry 5-1 999years later", Some("failed, 86400s: later")),
            ("dead 5-1 no amount", Some("rejected: no amount")),
            ("dead 5-1", Some("rejected: rejected by the worker")),
            ("ok", None),
            ("ok 5-x", None),
            ("ok 5-1 indeed", None),
            ("done 5-1", None),
            ("hello", None),
        ] {
            let found = parse(line).map(|(id, result)| (id.to_string(), describe(result)));
            let expected = expected.map(|text| ("5-1".to_owned(), text.to_owned()));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[tokio::test]
    async fn answers_come_in_any_order() {
        // Answers the second line before the first.
        let script = r#"while read -r a && read -r b; do
            for line in "$b" "$a"; do id=${line#*\"id\":\"}; id=${id%%\"*}
                case $id in 3-0) echo "dead $id no amount";; 4-0) echo "retry $id later";; *) echo "ok $id";; esac
            done
        done"#;
        let expected = ["handled", "handled", "rejected: no amount", "failed: later"];
        assert_eq!(outcomes(script, 4).await, expected);
    }

    #[tokio::test]
    async fn a_worker_that_ends_or_breaks_the_protocol_is_no_failure_of_its_entries() {
        let flood = "read -r line; head -c 100000 /dev/zero | tr '\\0' x; echo; sleep 60";
        for (script, expected) in [
            ("read -r line; exit 3", "unavailable: sh ended, exit status: 3"),
            (
                "read -r line; echo Traceback >&2; echo bad >&2; exit 1",
                "unavailable: sh ended, exit status: 1: bad",
            ),
            ("read -r line; kill -9 $$", "unavailable: sh ended, signal: 9 (SIGKILL)"),
            ("read -r line; exec >&-; sleep 60", "unavailable: sh closed its standard output"),
            (
                "read -r line; echo hello; sleep 60",
                "unavailable: sh wrote \"hello\"; expected ok ID, retry ID [DELAY] [REASON] or dead ID REASON",
            ),
            (
                "read -r line; echo ok 7-0; sleep 60",
                "unavailable: sh wrote \"ok 7-0\", and this entry is answered or was never sent",
            ),
        ] {
            assert_eq!(outcomes(script, 1).await, [expected], "{script}");
        }
        let long = outcomes(flood, 1).await.remove(0);
        assert!(long.starts_with("unavailable: sh wrote a line of more than 16384 bytes: \"xxx"), "{long}");
        assert!(long.len() < 300, "{long}");
    }

    #[tokio::test]
    async fn a_worker_that_ended_is_started_again_and_its_last_answers_count() {
        let script = r#"read -r line; id=${line#*\"id\":\"}; echo "ok ${id%%\"*}"; exit 1"#;
        let (worker, task) = started(script, Duration::from_secs(10));
        for ms in 1..=3 {
            let entry = entry(ms);
            // It may still be sent to the one that is about to end.
            let handled = async {
                while let Err(error) = worker.handle(&entry).await {
                    assert_eq!(describe(Err(error)), "unavailable: sh ended, exit status: 1");
                }
            };
            timeout(Duration::from_secs(10), handled).await.expect("it is handled");
        }
        drop(worker);
        task.ended().await;
    }

    #[tokio::test]
    async fn an_entry_without_an_answer_has_failed_and_the_others_have_not() {
        let (worker, task) = started("while read -r line; do sleep 60; done", Duration::from_millis(300));
        let (first, second) = (entry(1), entry(2));
        let results = tokio::join!(worker.handle(&first), worker.handle(&second));
        assert_eq!(describe(results.0), "failed: sh did not answer within 300ms");
        assert_eq!(describe(results.1), "unavailable: sh did not answer within 300ms");
        drop(worker);
        task.ended().await;
    }

    #[tokio::test]
    async fn an_entry_that_is_larger_than_a_pipe_is_written_whole() {
        let script = r#"while read -r line; do echo "retry 1-0 ${#line}"; done"#;
        let (worker, task) = started(script, Duration::from_secs(10));
        let mut large = entry(1);
        large.fields[0].1 = vec![b'x'; 1024 * 1024];
        let mut line = Vec::new();
        worker.format.write(&large, &mut line);
        let result = describe(worker.handle(&large).await);
        assert_eq!(result, format!("failed: {}", line.len() - 1));
        drop(worker);
        task.ended().await;
    }
}
