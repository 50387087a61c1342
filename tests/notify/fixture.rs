//! Notifiers inside the test, and what they counted and logged.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamgauge::alert::notification::Notification;
use streamgauge::config::Config;
use streamgauge::config::load::from_text;
use streamgauge::notify::{Handle, Notifiers};
use streamgauge::self_metrics::SelfMetrics;
use tokio_util::sync::CancellationToken;
use tracing::subscriber::DefaultGuard;

use crate::support::metrics::{Metrics, parse};
use crate::support::wait::wait_for;

/// Deadline of everything that is not delayed on purpose.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Notifiers that run in this test.
pub(crate) struct Running {
    notifiers: Notifiers,
    handle: Handle,
    metrics: SelfMetrics,
    trigger: CancellationToken,
    log: Log,
    _log_guard: DefaultGuard,
}

/// A configuration with the notifiers of this YAML list, without its brackets.
pub(crate) fn config(list: &str) -> Config {
    let text = format!(
        "web: {{external_url: 'https://gauge.example.com'}}\n\
         targets: [{{url: 'redis://cache'}}]\nalerts: {{notifiers: [{list}]}}"
    );
    from_text("test", &text, Path::new("/"), &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

/// Starts the notifiers of this YAML list, without its brackets.
pub(crate) fn notifying(list: &str) -> Running {
    let config = config(list);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    // Tasks of a test run on its own thread.
    let guard = tracing::subscriber::set_default(subscriber.finish());
    let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
    let shutdown = CancellationToken::new();
    let trigger = shutdown.clone();
    let external_url = config.web.external_url.as_deref();
    let notifiers = Notifiers::start(&config.alerts.notifiers, external_url, &metrics, &shutdown, None);
    Running { handle: notifiers.handle(), notifiers, metrics, trigger, log, _log_guard: guard }
}

impl Running {
    /// Queues notifications.
    pub(crate) fn send(&self, notifications: &[Notification]) {
        self.handle.send(notifications);
    }

    /// Applies the notifiers of this YAML list, without its brackets.
    pub(crate) fn follow(&mut self, list: &str) {
        let config = config(list);
        self.notifiers.apply_config(&config.alerts.notifiers, config.web.external_url.as_deref());
    }

    /// All that is counted.
    pub(crate) fn metrics(&self) -> Metrics {
        parse(&String::from_utf8(self.metrics.render(None, |_| false).unwrap()).unwrap())
    }

    /// Returns the number of alerts with one result that a notifier has counted.
    pub(crate) fn counted(&self, notifier: &str, result: &str) -> f64 {
        self.metrics()
            [&format!("streamgauge_notifications_total{{notifier=\"{notifier}\",result=\"{result}\"}}")]
    }

    /// Returns the length of a notifier's queue.
    pub(crate) fn waiting(&self, notifier: &str) -> f64 {
        self.metrics()[&format!("streamgauge_notification_queue_length{{notifier=\"{notifier}\"}}")]
    }

    /// Waits until a notifier counts at least so many alerts of one result.
    pub(crate) async fn until_counted(&self, notifier: &str, result: &str, least: f64) {
        self.until_counted_within(SOON, notifier, result, least).await;
    }

    /// The same, with more time.
    pub(crate) async fn until_counted_within(
        &self,
        deadline: Duration,
        notifier: &str,
        result: &str,
        least: f64,
    ) {
        wait_for(deadline, &format!("{notifier} counts {least} {result}"), async || {
            let counted = self.counted(notifier, result);
            if counted >= least { Ok(()) } else { Err(format!("{counted} are; it logged:\n{}", self.log())) }
        })
        .await;
    }

    /// All that was logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    /// Ends the program, and returns all that was counted in the end.
    pub(crate) async fn end(self) -> Metrics {
        self.trigger.cancel();
        self.notifiers.drain().await;
        parse(&String::from_utf8(self.metrics.render(None, |_| false).unwrap()).unwrap())
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
