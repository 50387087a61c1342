//! What is done when: turn by turn, from the first connection to the end.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisResult, cmd};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, debug, warn};

use super::dead_letter::DeadLetterStream;
use super::group_client::Group;
use super::handler::{Handler, HandlerError};
use super::in_flight::InFlight;
use super::metrics::Metrics;
use super::reader::{Read, Reader};
use super::recovery::Timers;
use super::worker_pool::{self, HandlerOutcome, WorkQueue};
use super::{ConsumeStats, ConsumerConfig};
use crate::connection::{Connection, Progress, server_clock};
use crate::entry::{Entry, Fields, GroupMember, StreamId};
use crate::error::{WorkloadError, is_group_gone};
use crate::stop::Stop;
use redis_stream_core::clock::now;
use redis_stream_core::server_clock::ServerClock;
use tokio_util::sync::CancellationToken;

/// IDs in one XACK, and outcomes taken at a time.
pub(super) const ACK_IDS: usize = 1_000;
/// While so many entries wait to be tried again, none are read.
pub(super) const MOST_WAITING: usize = 1_000;

/// How the run is asked to end.
pub(super) struct Stops {
    /// Begin nothing any more.
    pub(super) soft: CancellationToken,
    /// The grace is over.
    pub(super) hard: CancellationToken,
}

/// The consumer, but for its reader and its workers.
pub(super) struct Consumer {
    pub(super) membership: ConsumerConfig,
    pub(super) member: Arc<GroupMember>,
    pub(super) connection: Connection,
    pub(super) hand: InFlight,
    pub(super) queue: Arc<WorkQueue>,
    pub(super) schedule: Timers,
    pub(super) metrics: Metrics,
    pub(super) consumed: ConsumeStats,
    pub(super) burial: Option<DeadLetterStream>,
    /// Whether a request to read is not answered yet.
    pub(super) is_reading: bool,
    group: Group,
    pub(super) clock: Option<ServerClock>,
    stops: Stops,
    outcomes: mpsc::UnboundedReceiver<HandlerOutcome>,
    /// Keeps the channel open when all workers have ended.
    _outcomes_open: mpsc::UnboundedSender<HandlerOutcome>,
    /// Outcomes taken: equals the entries that workers took once none is being handled.
    finished: u64,
    requests: mpsc::Sender<usize>,
    reads: mpsc::Receiver<Read>,
    workers: JoinSet<()>,
    reader: JoinSet<()>,
    /// What ends the run with an error, once it has ended in order.
    failure: Option<WorkloadError>,
    /// What failed last, so that only a change is logged.
    logged: Option<String>,
}

impl Consumer {
    /// Starts reader and workers; nothing is connected yet.
    pub(super) fn start(
        membership: &ConsumerConfig,
        handler: impl Handler,
        metrics: Metrics,
        stops: Stops,
    ) -> Self {
        let member = Arc::new(membership.member());
        let connect = || {
            Connection::new(membership.endpoint.clone(), Stop::new(stops.hard.clone().cancelled_owned()))
                .with_timeouts(membership.timeouts)
        };
        let (requests, asked) = mpsc::channel(1);
        let (answered, reads) = mpsc::channel(1);
        let reader = Reader {
            membership: membership.clone(),
            member: Arc::clone(&member),
            connection: connect().further(),
            metrics: metrics.clone(),
            stop: stops.soft.clone(),
        };
        let mut readers = JoinSet::new();
        readers.spawn(reader.run(asked, answered).in_current_span());
        let queue = Arc::new(WorkQueue::default());
        // Bounded by what is in hand.
        let (sender, outcomes) = mpsc::unbounded_channel();
        let workers =
            worker_pool::start(membership.concurrency, handler, &queue, &sender, &metrics, &stops.soft);
        Self {
            connection: connect(),
            group: Group::new(&membership.start_id),
            membership: membership.clone(),
            member,
            hand: InFlight::default(),
            queue,
            schedule: Timers::new(now()),
            metrics,
            consumed: ConsumeStats::default(),
            burial: None,
            is_reading: false,
            clock: None,
            stops,
            outcomes,
            _outcomes_open: sender,
            finished: 0,
            requests,
            reads,
            workers,
            reader: readers,
            failure: None,
            logged: None,
        }
    }

    /// Consumes to the end.
    pub(super) async fn run(mut self) -> Result<ConsumeStats, WorkloadError> {
        let ended = self.sessions().await;
        self.workers.abort_all();
        self.reader.abort_all();
        ended?;
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.consumed),
        }
    }

    /// From one connection to the next.
    async fn sessions(&mut self) -> Result<(), WorkloadError> {
        loop {
            self.take_outcomes();
            if self.is_stopping() && !self.has_duties() {
                return Ok(());
            }
            let soft = self.stops.soft.clone();
            let was_stopping = self.is_stopping();
            let connected = tokio::select! {
                connected = self.connection.connect() => connected?,
                () = soft.cancelled(), if !was_stopping => continue,
            };
            if connected == Progress::Stopped {
                return Ok(());
            }
            match self.session().await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.connection.lost(error)?;
                    self.schedule.look_again(now(), self.membership.block);
                    self.metrics.reconnects.inc();
                }
            }
        }
    }

    async fn session(&mut self) -> RedisResult<()> {
        self.greet().await?;
        self.connection.works();
        self.schedule.connected(now(), self.membership.block);
        let mut was_recreated = false;
        loop {
            let is_recreated = match self.turn().await {
                Err(error) if is_group_gone(&error) => {
                    self.recreate(error.code()).await?;
                    true
                }
                turn => turn.map(|()| false)?,
            };
            if self.is_over() {
                break;
            }
            // A group that was made anew is read at once; one that is gone again at once is not worth the haste.
            if !is_recreated || was_recreated {
                self.wait().await;
            }
            was_recreated = is_recreated;
        }
        self.workers.abort_all();
        self.take_outcomes();
        self.acknowledge().await?;
        self.leave().await
    }

    /// What has to be known of a server before anything else.
    async fn greet(&mut self) -> RedisResult<()> {
        self.group.create(&mut self.connection, &self.member).await?;
        self.clock = match self.connection.query(&cmd("TIME"), Duration::ZERO).await {
            Ok(time) => server_clock(time, now()).ok(),
            Err(error) if error.is_io_error() => return Err(error),
            // An ACL may refuse it; there is no end-to-end latency then.
            Err(_) => None,
        };
        if self.burial.is_none() && self.membership.max_deliveries > 0 {
            match DeadLetterStream::learn(&mut self.connection, &self.membership).await? {
                Ok(burial) => self.burial = Some(burial),
                Err(failure) => self.fail(failure),
            }
        }
        Ok(())
    }

    async fn recreate(&mut self, code: Option<&str>) -> RedisResult<()> {
        warn!(error = code, "stream or group is gone, creating it again");
        self.group.create(&mut self.connection, &self.member).await
    }

    /// All that is due.
    async fn turn(&mut self) -> RedisResult<()> {
        self.take_outcomes();
        self.acknowledge().await?;
        self.keep().await?;
        if !self.is_stopping() {
            self.look_for_own().await?;
            self.take_over().await?;
            self.retry().await?;
            self.ask_for_more();
        }
        let in_hand = self.hand.held() + self.hand.waiting();
        self.metrics.in_hand.set(i64::try_from(in_hand).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Sleeps until something happens or is due.
    async fn wait(&mut self) {
        let is_stopping = self.is_stopping();
        let due = self.next_due();
        let mut outcomes = Vec::new();
        tokio::select! {
            Some(read) = self.reads.recv() => self.take_read(read),
            _ = self.outcomes.recv_many(&mut outcomes, ACK_IDS) => {
                outcomes.into_iter().for_each(|outcome| self.take(outcome));
            }
            () = self.stops.soft.cancelled(), if !is_stopping => {
                let (held, waiting) = (self.hand.held(), self.hand.waiting());
                debug!(held, waiting, "consumer ends, what is not begun stays pending");
                self.queue.close();
            }
            () = self.stops.hard.cancelled(), if is_stopping => {}
            () = sleep_until(due) => {}
        }
    }

    fn next_due(&self) -> Instant {
        let keep = self.schedule.keep;
        if self.is_stopping() {
            return keep;
        }
        let retry = self.hand.next_due().filter(|_| self.retry_room() > 0);
        let takeover = Some(self.schedule.takeover);
        let takeover = takeover.filter(|_| self.takeover_room() > 0 && !self.schedule.is_looking());
        [retry, takeover, self.schedule.next_look()].into_iter().flatten().fold(keep, Instant::min)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stops.soft.is_cancelled()
    }

    /// Whether something is being handled, or is handled and not acknowledged.
    fn has_duties(&self) -> bool {
        !self.hand.to_acknowledge(1).is_empty() || self.at_work() > 0
    }

    /// How many entries are being handled, as far as is known here: not less than there are.
    pub(super) fn at_work(&self) -> usize {
        usize::try_from(self.queue.taken() - self.finished).unwrap_or(usize::MAX)
    }

    fn is_over(&mut self) -> bool {
        if !self.is_stopping() {
            return false;
        }
        self.queue.close();
        self.stops.hard.is_cancelled() || (!self.is_reading && !self.has_duties())
    }

    /// Ends the run with an error, in order.
    fn fail(&mut self, failure: WorkloadError) {
        self.failure.get_or_insert(failure);
        self.stops.soft.cancel();
    }

    pub(super) fn take_outcomes(&mut self) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            self.take(outcome);
        }
    }

    fn take(&mut self, HandlerOutcome { id, result, finished }: HandlerOutcome) {
        self.finished += 1;
        match result {
            Ok(()) => {
                self.consumed.handled += 1;
                self.metrics.handled.inc();
                self.hand.done(id, finished);
            }
            Err(HandlerError::Failed(reason)) => {
                self.consumed.failed += 1;
                self.metrics.failed.inc();
                if self.logged.as_ref() != Some(&reason) {
                    warn!(entry = %id, error = reason, "handler failed, the entry is tried again");
                    self.logged = Some(reason.clone());
                }
                let delay = self.retry_after(self.hand.deliveries(id).unwrap_or(1));
                self.hand.fail(id, finished + delay, reason);
            }
            Err(HandlerError::Closed) => {
                debug!("the reader of the results is gone");
                self.stops.soft.cancel();
            }
            Err(HandlerError::Broken(error)) => self.fail(WorkloadError::Sink(error)),
        }
    }

    fn take_read(&mut self, read: Read) {
        self.is_reading = false;
        match read {
            Read::Entries(entries, at) if !self.is_stopping() => self.admit(entries, at),
            // What was delivered stays pending.
            Read::Entries(..) | Read::Nothing => {}
            Read::Gone(error) => {
                debug!(error = error.code(), "cannot read");
                self.schedule.recreate = true;
            }
            Read::Lost => self.schedule.look_again(now(), self.membership.block),
            Read::Failed(failure) => self.fail(failure),
        }
    }

    fn admit(&mut self, entries: Vec<(StreamId, Fields)>, at: Instant) {
        let mut fresh = Vec::with_capacity(entries.len());
        for (id, fields) in entries {
            if self.hand.hold(id, 1, at) {
                fresh.push(Entry { id, fields, deliveries: 1, member: Arc::clone(&self.member) });
            }
        }
        if !fresh.is_empty() {
            self.queue.add(fresh);
        }
    }

    /// Lets the reader read, unless something older goes first.
    fn ask_for_more(&mut self) {
        let waits = self.hand.is_due(now()) || self.hand.waiting() >= MOST_WAITING;
        if self.is_reading || self.schedule.is_looking() || waits {
            return;
        }
        let batch = self.membership.batch as usize;
        let most = batch + self.membership.concurrency as usize;
        let room = batch.min(most.saturating_sub(self.hand.held()));
        // Half a batch: entry by entry the server would have more to do than we.
        if room * 2 >= batch && room > 0 && self.requests.try_send(room).is_ok() {
            self.is_reading = true;
        }
    }
}
