//! Logs to standard error, as text or JSON. Standard output is for the result of a command.
//!
//! Messages and fields are escaped here: a name from a server cannot begin a line or act on a
//! terminal.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber, dispatcher};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Ansi,
    Plain,
}

/// Starts logging for the process, from `level` up. Later calls have no effect.
pub fn start(level: LogLevel, format: LogFormat) {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    #[expect(clippy::disallowed_methods, reason = "the formatters escape")]
    let stderr = io::stderr;
    let colour = if stderr().is_terminal() && !no_color { Colour::Ansi } else { Colour::Plain };
    let started = dispatcher::set_global_default(subscriber(level, format, colour, stderr).into());
    // Fails only if logging was started before.
    drop(started);
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

    use tracing::{debug, error, info, subscriber, warn};

    use super::{Colour, subscriber as ours};
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
