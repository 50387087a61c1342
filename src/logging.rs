//! Logs to standard error, as text or JSON. Standard output is for the result of a command.

use std::env;
use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, dispatcher};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

use crate::cli::{LogFormat, LogLevel, Logging};

/// Crates logged at the requested level.
const OWN_CRATES: [&str; 4] =
    [env!("CARGO_CRATE_NAME"), "redis_stream_consumer", "redis_stream_core", "redis_stream_lag"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Ansi,
    Plain,
}

/// Starts logging for the process. Later calls have no effect.
pub fn start(logging: &Logging) {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = if io::stderr().is_terminal() && !no_color { Colour::Ansi } else { Colour::Plain };
    let started = dispatcher::set_global_default(subscriber(logging, colour, io::stderr).into());
    // Fails only if logging was started before.
    drop(started);
}

fn subscriber<W>(logging: &Logging, colour: Colour, writer: W) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = level(logging.log_level);
    // Dependencies log details of their implementation below warnings.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(OWN_CRATES.map(|name| (name, level)));
    let layer = fmt::layer().with_writer(writer);
    let layer = match logging.log_format {
        LogFormat::Text => layer.with_ansi(colour == Colour::Ansi).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter))
}

fn level(level: LogLevel) -> LevelFilter {
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

    use tracing::{debug, info, subscriber, warn};

    use super::{Colour, subscriber as ours};
    use crate::cli::{LogFormat, LogLevel, Logging};

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

    fn logged(log_level: LogLevel, log_format: LogFormat, colour: Colour) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = ours(&Logging { log_level, log_format }, colour, move || writer.clone());
        subscriber::with_default(subscriber, || {
            debug!("our debug");
            info!(target_name = "orders", "our info");
            warn!("our warning");
            debug!(target: "redis_stream_consumer::consume", "library debug");
            info!(target: "redis", "their info");
            warn!(target: "redis", "their warning");
        });
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
}
