//! Logs to standard error, as text or JSON. Standard output is for the result of a command.
//!
//! Messages and fields are escaped here: a name from a server cannot begin a line or act on a
//! terminal.
//!
//! Standard error may be a pipe that is not read. So a thread of its own writes the lines, from a queue that drops lines
//! when it is full instead of blocking the caller.

use std::collections::VecDeque;
use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber, dispatcher, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Json, Writer};
use tracing_subscriber::fmt::{self as log, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::cli::{LogFormat, LogLevel};
use crate::format::unicode::{printable, printable_json};

/// Crates logged at the requested level.
const OWN_CRATES: [&str; 4] =
    [env!("CARGO_CRATE_NAME"), "redis_stream_consumer", "redis_stream_core", "redis_stream_lag"];

/// The most bytes of lines that wait to be written.
const QUEUE_BYTES: usize = 1024 * 1024;

/// Longest time to write the waiting lines at the end of the program.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The lines for standard error, once logging has started.
static LINES: OnceLock<LineQueue> = OnceLock::new();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Ansi,
    Plain,
}

/// Starts logging for the process, from `level` up. Later calls have no effect.
pub fn start(level: LogLevel, format: LogFormat) {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = if stderr().is_terminal() && !no_color { Colour::Ansi } else { Colour::Plain };
    let started = match queue() {
        Ok(queue) => {
            let queue = move || queue.clone();
            dispatcher::set_global_default(subscriber(level, format, colour, queue).into())
        }
        // Without a thread, lines are written by their callers.
        Err(_) => dispatcher::set_global_default(subscriber(level, format, colour, stderr).into()),
    };
    // Fails only if logging was started before.
    drop(started);
}

fn stderr() -> io::Stderr {
    #[expect(clippy::disallowed_methods, reason = "the formatters escape")]
    io::stderr()
}

/// Writes lines to standard error, after those that were logged before. The caller escapes them.
pub fn print(lines: &str) {
    let line = format!("{lines}\n");
    match LINES.get().cloned().map_or_else(queue, Ok) {
        Ok(queue) => queue.push(line.as_bytes()),
        // A closed standard error must not end the program.
        Err(_) => drop(stderr().write_all(line.as_bytes())),
    }
}

/// Waits until all lines are written, for a second at most.
pub fn flush() {
    if let Some(queue) = LINES.get() {
        queue.wait_until_written(FLUSH_TIME);
    }
}

/// Counts lines that are dropped from now on.
pub(crate) fn count_dropped_lines(counter: IntCounter) {
    if let Some(queue) = LINES.get() {
        queue.lock().counter = Some(counter);
    }
}

/// Starts the thread that writes to standard error.
fn queue() -> io::Result<LineQueue> {
    // Not locked as `io::stderr` is, so that a write that blocks stops no other writer.
    let sink = File::from(stderr().as_fd().try_clone_to_owned()?);
    let queue = LineQueue::default();
    let lines = queue.clone();
    thread::Builder::new().name("log".to_owned()).spawn(move || lines.write_all_to(sink))?;
    Ok(LINES.get_or_init(|| queue).clone())
}

/// Lines that wait to be written. Cheap to clone.
#[derive(Clone, Default)]
struct LineQueue(Arc<(Mutex<QueuedLines>, Condvar)>);

#[derive(Default)]
struct QueuedLines {
    waiting: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Lines that were dropped since the last that was written.
    dropped: u64,
    counter: Option<IntCounter>,
    is_writing: bool,
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, QueuedLines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut lines = self.lock();
        // One line may be larger than the queue, such as the error of a command.
        if lines.bytes > 0 && lines.bytes + line.len() > QUEUE_BYTES {
            lines.dropped += 1;
            lines.counter.iter().for_each(IntCounter::inc);
            return;
        }
        lines.bytes += line.len();
        lines.waiting.push_back(line.into());
        self.0.1.notify_all();
    }

    /// Writes lines for the rest of the process.
    fn write_all_to(&self, mut sink: impl Write) {
        loop {
            let mut lines = self.lock();
            while lines.waiting.is_empty() {
                lines.is_writing = false;
                self.0.1.notify_all();
                lines = self.0.1.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            lines.is_writing = true;
            let Some(line) = lines.waiting.pop_front() else { continue };
            drop(lines);
            // A closed standard error must not end the program.
            let _ = sink.write_all(&line);
            let mut lines = self.lock();
            lines.bytes -= line.len();
            let dropped = std::mem::take(&mut lines.dropped);
            drop(lines);
            if dropped > 0 {
                warn!(lines = dropped, "log lines dropped, since standard error was not read");
            }
        }
    }

    fn wait_until_written(&self, longest: Duration) {
        let is_busy = |lines: &mut QueuedLines| lines.is_writing || !lines.waiting.is_empty();
        // The end of the program does not depend on the result.
        drop(self.0.1.wait_timeout_while(self.lock(), longest, is_busy));
    }
}

/// Each write is one line.
impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    colour: Colour,
    writer: W,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = filter(level);
    // Dependencies log details of their implementation below warnings.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(OWN_CRATES.map(|name| (name, level)));
    let layer = log::layer().with_writer(writer);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(colour == Colour::Ansi).fmt_fields(EscapedFields).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).map_event_format(EscapedJson).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter))
}

/// Formats the message and the fields of a line of text.
struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&printable(&text))
    }
}

/// Formats a line of JSON.
struct EscapedJson(Format<Json>);

impl<S, N> FormatEvent<S, N> for EscapedJson
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&printable_json(&line))
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::Duration;

    use prometheus::IntCounter;
    use tracing::{debug, error, info, subscriber, warn};

    use super::{Colour, LineQueue, QUEUE_BYTES, subscriber as ours};
    use crate::cli::{LogFormat, LogLevel};
    use crate::format::unicode::is_invisible;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat, colour: Colour) -> String {
        written(level, format, colour, || {
            debug!("our debug");
            info!(target_name = "orders", "our info");
            warn!("our warning");
            debug!(target: "redis_stream_consumer::consume", "library debug");
            info!(target: "redis", "their info");
            warn!(target: "redis", "their warning");
        })
    }

    fn written(level: LogLevel, format: LogFormat, colour: Colour, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = ours(level, format, colour, move || writer.clone());
        subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("log lines are UTF-8")
    }

    fn messages(log_level: LogLevel) -> Vec<&'static str> {
        let text = logged(log_level, LogFormat::Text, Colour::Plain);
        let all = ["our debug", "our info", "our warning", "library debug", "their info", "their warning"];
        all.into_iter().filter(|message| text.contains(message)).collect()
    }

    #[test]
    fn dependencies_log_warnings_at_most() {
        assert_eq!(
            messages(LogLevel::Debug),
            ["our debug", "our info", "our warning", "library debug", "their warning"]
        );
        assert_eq!(messages(LogLevel::Info), ["our info", "our warning", "their warning"]);
        assert_eq!(messages(LogLevel::Warn), ["our warning", "their warning"]);
        assert!(messages(LogLevel::Error).is_empty());
    }

    #[test]
    fn lines_that_do_not_fit_the_queue_are_dropped_and_nothing_waits() {
        let queue = LineQueue::default();
        let counter = IntCounter::new("dropped", "Dropped lines.").unwrap();
        queue.lock().counter = Some(counter.clone());
        let line = [b'x'; 1024];
        for _ in 0..QUEUE_BYTES / line.len() + 7 {
            queue.push(&line);
        }
        let counts = || {
            let lines = queue.lock();
            (lines.bytes, lines.dropped)
        };
        assert_eq!(counts(), (QUEUE_BYTES, 7));
        queue.wait_until_written(Duration::from_millis(1));
        let (lines, written) = (queue.clone(), Lines::default());
        let sink = written.clone();
        thread::spawn(move || lines.write_all_to(sink));
        queue.wait_until_written(Duration::from_secs(60));
        assert_eq!(written.0.lock().unwrap().len(), QUEUE_BYTES);
        assert_eq!((counts(), counter.get()), ((0, 0), 7));
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let escape = '\u{1b}';
        assert!(logged(LogLevel::Info, LogFormat::Text, Colour::Ansi).contains(escape));
        assert!(!logged(LogLevel::Info, LogFormat::Text, Colour::Plain).contains(escape));
        assert!(!logged(LogLevel::Info, LogFormat::Json, Colour::Ansi).contains(escape));
    }

    #[test]
    fn json_has_one_object_per_line_with_the_fields_beside_the_message() {
        let text = logged(LogLevel::Info, LogFormat::Json, Colour::Plain);
        let line: serde_json::Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!((&line["message"], &line["target_name"]), (&"our info".into(), &"orders".into()));
    }

    #[test]
    fn a_hostile_name_neither_begins_a_line_nor_reaches_the_terminal() {
        let hostile = "x\n2026-01-01T00:00:00Z ERROR owned \u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\u{2028}";
        let error = io::Error::other(hostile);
        for (format, colour) in [
            (LogFormat::Text, Colour::Plain),
            (LogFormat::Text, Colour::Ansi),
            (LogFormat::Json, Colour::Plain),
        ] {
            let text = written(LogLevel::Info, format, colour, || {
                error!(%error, stream = hostile, key = ?hostile, "{hostile}");
            });
            let line = text.strip_suffix('\n').expect("a line");
            let of_ours = ["\u{1b}[2m", "\u{1b}[0m", "\u{1b}[31m"];
            let rest = of_ours.iter().fold(line.to_owned(), |line, code| line.replace(code, ""));
            assert!(!rest.contains(is_invisible), "{format:?} {colour:?}: {rest:?}");
            if format == LogFormat::Json {
                let parsed: serde_json::Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(parsed["stream"], hostile);
            }
        }
    }
}
