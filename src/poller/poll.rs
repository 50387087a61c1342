//! Polls one target: finds its streams, reads them, and derives a report.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::{self, Target};
use crate::poller::error::PollError;
use crate::poller::list_pending::{PendingError, PendingList, PendingQuery};
use crate::poller::node::{Identity, NodeState};
use crate::poller::pace::{FullTurn, Pace, Rest};
use crate::poller::sample::{SampleLimits, SampleSchedule};
use crate::poller::servers::{MEMORY_REFUSED, Servers};
use crate::self_metrics::labels::{PollResult, Reason};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::name::Name;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_lag::budget::Budget;
use redis_stream_lag::derivation::Derivation;
use redis_stream_lag::poll_readings::{PollReadings, ReadCounts};
use redis_stream_lag::question::Answer;
use redis_stream_lag::report::Report;
use redis_stream_lag::state::{LagState, RememberedGroup};

/// Time without a command after which connections are kept alive: shorter than the idle timeouts of common proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Longest time that a sample takes.
const SAMPLE_TIMEOUT: Duration = Duration::from_millis(250);

/// Polls the servers behind one target. It has no schedule, and publishes nothing.
#[derive(Debug)]
pub struct Poller {
    target: Arc<Target>,
    poll: config::Poll,
    servers: Servers,
    /// True if the next poll waits until SCAN has walked all keys.
    needs_discovery: bool,
    lag: LagState,
    /// The origin of the times that [`LagState`] keeps.
    started: Instant,
    last_report: Option<Arc<Report>>,
    /// The deadline of the last poll, while pages of long lists of pending entries are left to be read.
    later_until: Option<Instant>,
    /// Time at which commands were last sent on all connections.
    last_used: Instant,
    samples: SampleSchedule,
    pace: Pace,
    metrics: TargetMetrics,
}

struct Derived {
    report: Arc<Report>,
    /// Streams that the report keeps the values of the last one for, as questions were answered too late.
    late: Vec<Name>,
    /// The first error that left questions unanswered.
    error: Option<PollError>,
}

/// The result of a poll that read anything.
#[derive(Debug)]
pub struct Polled {
    /// Everything that is known of the target's streams.
    pub report: Arc<Report>,
    /// When the streams had been read.
    pub read_at: Instant,
    /// The error that cut the poll short; `None` if the poll read everything.
    pub cut_off_by: Option<PollError>,
    /// True if every node was connected until the poll ended.
    pub has_answered: bool,
    /// Streams that no poll has read yet, since the budget for payload or the time was spent.
    pub unread_streams: usize,
    /// Streams that were not derived, since their readings repeat those of the poll before.
    pub unchanged_streams: usize,
    /// True if the report shows every stream there is.
    pub is_complete: bool,
    /// Why streams are not found though every node answered; `None` if all are found.
    pub warning: Option<String>,
    /// True if a node refused TIME, so that ages rest on this machine's clock.
    pub is_time_refused: bool,
    /// The warning if a node refused MEMORY USAGE; `None` if none did, or it was not asked.
    pub memory_warning: Option<&'static str>,
}

/// The result of a poll.
pub type PollOutcome = Result<Polled, PollError>;

impl Poller {
    /// Returns a poller that is not connected yet.
    pub fn new(target: Arc<Target>, poll: config::Poll, metrics: TargetMetrics) -> Self {
        Self {
            servers: Servers::new(Arc::clone(&target), &poll, metrics.clone()),
            target,
            poll,
            needs_discovery: true,
            lag: LagState::default(),
            started: now(),
            last_report: None,
            later_until: None,
            last_used: now(),
            samples: SampleSchedule::default(),
            pace: Pace::default(),
            metrics,
        }
    }

    /// Returns the groups of whose histories more is known than the last report shows.
    pub fn remembered_beyond_report(&self) -> impl Iterator<Item = RememberedGroup> {
        self.lag.remembered_beyond_report(now() - self.started)
    }

    /// Adds what was known of groups before a restart.
    pub fn restore(&mut self, groups: impl IntoIterator<Item = RememberedGroup>) {
        self.lag.restore(groups, now() - self.started);
    }

    /// Reconnects with another configuration of the same servers. Streams that both configurations select keep their
    /// state and history.
    pub fn reconfigure(&mut self, target: Arc<Target>, poll: config::Poll, metrics: TargetMetrics) {
        self.servers.reconfigure(&target, &poll, metrics.clone());
        (self.target, self.poll, self.metrics, self.needs_discovery) = (target, poll, metrics, true);
    }

    /// Polls once: connects where there is no connection, reads, asks what the derivation asks for, and reports. The
    /// first poll also waits for SCAN, for at most `poll.interval`.
    ///
    /// # Errors
    ///
    /// Nothing could be read.
    pub async fn poll(&mut self) -> PollOutcome {
        let began = now();
        let unreachable = self.servers.connect(began + self.poll.timeout).await?;
        let found = self.find_streams(began + self.poll.interval).await;
        found.inspect_err(|_| self.servers.disconnect())?;
        let began = now();
        let deadline = began + self.poll.timeout;
        let has_all_nodes = unreachable.is_none();
        let until = (self.pace.reading_deadline(began, deadline), deadline);
        let (at, previous) = (began - self.started, self.last_report.as_deref());
        let mut readings = PollReadings::begin(&mut self.lag, budget(&self.poll), at, previous);
        let read = self.servers.read(unreachable, until, (&mut readings, at)).await;
        let error = read.inspect_err(|_| self.servers.disconnect())?;
        let read_at = now();
        let ReadCounts { streams: tracked, unchanged: unchanged_streams } = readings.counts();
        let derivation = readings.derivation(self.servers.payload_left());
        let derived = derive(derivation, &mut self.servers, deadline).await;
        self.metrics.count_entries(derived.report.counted_entries);
        let is_cut_off = matches!(derived.error, Some(PollError::OutOfTime));
        let rest = if is_cut_off { Rest::CutOff } else { Rest::Done };
        self.pace.note(read_at - began, now() - read_at, rest);
        let takes = self.servers.note_report(&derived.late, now() - began);
        let cut_off_by = PollError::first(error, derived.error).map(|error| match error {
            PollError::OutOfTime => PollError::Behind(FullTurn::new(tracked, takes, &self.poll)),
            error => error,
        });
        self.later_until = self.lag.has_later_pages().then_some(deadline);
        let report = self.servers.without_stale(&derived.report);
        self.last_report = Some(derived.report);
        self.needs_discovery = false;
        self.last_used = now();
        self.samples.begin(self.lag.streams_in_danger().next().is_some());
        let node_warning = self.servers.node_warning();
        let shows_all_streams = node_warning.is_none();
        let warning = node_warning.or(self.servers.name_warning()).map(str::to_owned);
        let has_answered = has_all_nodes && self.servers.are_all_connected();
        let unread_streams = tracked.saturating_sub(report.streams.len());
        Ok(Polled {
            unread_streams,
            unchanged_streams,
            is_complete: has_answered
                && self.servers.has_found_streams()
                && shows_all_streams
                && unread_streams == 0,
            warning,
            report,
            read_at,
            cut_off_by,
            has_answered,
            is_time_refused: self.servers.is_time_refused(),
            memory_warning: self.servers.is_memory_refused().then_some(MEMORY_REFUSED),
        })
    }

    /// Reads pages of long lists of pending entries, which the report of the last poll did not have to wait for, until the
    /// deadline of that poll. Without an answer, the list is read on after the next poll.
    pub async fn read_later_pages(&mut self) {
        let Some(deadline) = self.later_until.take() else { return };
        while now() < deadline && self.lag.has_later_pages() {
            let questions = self.lag.later_questions();
            let (answers, error) = self.servers.ask(&questions, deadline).await;
            // The next poll connects again, so no report shows that a connection was lost here.
            if let Some(error) = error.filter(|error| !error.is_late()) {
                self.metrics.count_errors(error.reason(), 1);
            }
            self.lag.answer_later(answers);
            self.last_used = now();
        }
    }

    /// Returns the last report after a poll that failed, without streams whose values are older than `poll.stale_after`.
    pub fn fresh_report(&self) -> Option<Arc<Report>> {
        self.last_report.as_ref().map(|report| self.servers.without_stale(report))
    }

    /// Runs SCAN before the first report of a configuration until it has walked all keys, or until `until`. Later
    /// steps run between polls.
    async fn find_streams(&mut self, until: Instant) -> Result<(), PollError> {
        while self.needs_discovery && !self.servers.has_found_streams() {
            match self.servers.next_scan() {
                Some(due) if due < until => {
                    sleep_until(due).await;
                    self.servers.scan().await?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Returns true if SCAN has walked all keys at least once, or every stream is named.
    pub fn has_found_streams(&self) -> bool {
        self.servers.has_found_streams()
    }

    /// Returns when the next [`scan`](Self::scan) is due; `None` while no node is connected, or if every stream is
    /// named.
    pub fn next_scan(&self) -> Option<Instant> {
        self.servers.next_scan()
    }

    /// Runs the next SCAN, to find streams that appeared since the last poll.
    ///
    /// # Errors
    ///
    /// The target's only node does not answer. All connections are closed then.
    pub async fn scan(&mut self) -> Result<(), PollError> {
        let scanned = self.servers.scan().await;
        scanned.inspect_err(|_| self.servers.disconnect())
    }

    /// Returns when [`sample`](Self::sample) is due; `None` while no stream is in danger of losing entries.
    pub fn next_sample(&self) -> Option<Instant> {
        self.samples.due.filter(|_| self.servers.is_connected() && self.poll.loss_sample_streams > 0)
    }

    /// Reads the streams with a group that trimming is about to overtake, so that entries that the group loses and then
    /// reads past before the next poll are counted.
    pub async fn sample(&mut self) {
        // Bursts leave half of the payload to regular samples.
        let can_afford_bursts = self.servers.payload_left() >= self.poll.payload_budget / 2;
        let limits = SampleLimits::new(self.poll.loss_sample_streams, can_afford_bursts);
        let keys = self.samples.next(self.lag.streams_in_danger(), limits);
        let samples = self.servers.sample(&keys, now() + SAMPLE_TIMEOUT).await;
        for sample in samples {
            self.lag.note_sample(&sample.as_loss_sample());
        }
    }

    /// Returns when [`keep_alive`](Self::keep_alive) is due; `None` while no node is connected.
    pub fn next_keep_alive(&self) -> Option<Instant> {
        self.servers.is_connected().then(|| self.last_used + KEEP_ALIVE)
    }

    /// Sends a command on every connection, so that neither a server nor a proxy closes it as idle between long polls.
    pub async fn keep_alive(&mut self) {
        self.servers.keep_alive().await;
        self.last_used = now();
    }

    /// Lists pending entries of a group, over a connection of its own.
    ///
    /// # Errors
    ///
    /// The node does not answer, there is no such group, or the server refuses the command.
    pub async fn list_pending(&mut self, query: &PendingQuery) -> Result<PendingList, PendingError> {
        self.servers.connect(now() + self.poll.timeout).await?;
        self.servers.list_pending(query).await
    }

    /// Returns the nodes of the target.
    pub fn nodes(&self) -> impl Iterator<Item = NodeState<'_>> {
        self.servers.nodes()
    }

    /// Returns the address of a node: the first that is connected, or else the first that is known.
    pub fn node_address(&self) -> Option<&Endpoint> {
        self.servers.node_address()
    }

    /// Returns the addresses of all nodes that are known.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.servers.endpoints()
    }

    /// Returns the numbers of commands sent and of bytes received so far.
    pub fn traffic(&self) -> (u64, u64) {
        self.metrics.traffic()
    }

    /// Returns the reply to HELLO of the first node that is connected; `None` where it is refused.
    pub fn node_identity(&self) -> Option<&Identity> {
        self.servers.node_identity()
    }

    /// Returns why SCAN failed last; `None` if it succeeded, or was not needed.
    pub fn scan_problem(&self) -> Option<&str> {
        self.servers.scan_problem()
    }

    /// Returns why a stream could not be read last; `None` if it was read, or if no node that holds it answered.
    pub fn stream_problem(&self, key: &Name) -> Option<Reason> {
        self.servers.stream_problem(key)
    }
}

/// Returns the poll's error, or else its warning.
pub fn problem(outcome: &PollOutcome) -> Option<String> {
    let (_, error) = result_and_error(outcome);
    let warning = || outcome.as_ref().ok()?.warning.clone();
    error.map(PollError::to_string).or_else(warning)
}

/// Returns the number of streams that were not read yet and the reason; `None` if all were read in time.
pub fn describe_unread(polled: &Polled) -> Option<String> {
    let count = polled.unread_streams;
    let reason = match &polled.cut_off_by {
        Some(error) => error.to_string(),
        None => "poll.payload_budget is spent; raise it, or wait for later polls of serve".to_owned(),
    };
    let is_behind = matches!(polled.cut_off_by, Some(PollError::Behind(_)));
    match count {
        0 => is_behind.then_some(reason),
        _ => Some(format!("streams that are not read yet: {count}: {reason}")),
    }
}

/// Returns the label of a poll's result, and its error.
pub fn result_and_error(outcome: &PollOutcome) -> (PollResult, Option<&PollError>) {
    match outcome {
        Ok(Polled { cut_off_by: None, .. }) => (PollResult::Ok, None),
        Ok(Polled { cut_off_by: Some(error), .. }) => (PollResult::Partial, Some(error)),
        Err(error) => (PollResult::Failed, Some(error)),
    }
}

/// Returns true if every node answered until the poll ended.
pub fn has_answered(outcome: &PollOutcome) -> bool {
    outcome.as_ref().is_ok_and(|polled| polled.has_answered)
}

/// Returns the budget of each poll.
fn budget(poll: &config::Poll) -> Budget {
    Budget {
        entries: poll.count_budget,
        audit_entries: poll.audit_budget,
        audit_period: poll.audit_period,
        payload_bytes: poll.payload_budget,
        memory_interval: poll.memory_interval,
        timeout: poll.timeout,
    }
}

/// Asks the questions of a derivation, and returns its report.
async fn derive(mut derivation: Derivation<'_>, servers: &mut Servers, deadline: Instant) -> Derived {
    let mut first_error = None;
    loop {
        let questions = derivation.questions();
        if questions.is_empty() {
            break;
        }
        let (answers, error) = if now() < deadline {
            servers.ask(&questions, deadline).await
        } else {
            (vec![Answer::Late; questions.len()], Some(PollError::OutOfTime))
        };
        derivation.answer(answers);
        // The nodes that are still connected are asked all the same.
        first_error = PollError::first(first_error, error);
    }
    servers.spend_payload(derivation.payload_bytes_read());
    let limited = servers.export_counts();
    let late = derivation.late_streams().cloned().collect();
    let report = Report { limited, ..derivation.close() };
    Derived { report: Arc::new(report), late, error: first_error }
}
