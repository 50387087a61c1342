//! The consumer: owns the parts, and runs what is due, from the first connection to the end.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::ack::Acknowledger;
use super::autoclaim::Autoclaim;
use super::breaker::{Breaker, Counting};
use super::claims::ClaimKeeper;
use super::corrections::DeliveryCorrections;
use super::dead_letter::DetectError;
use super::group_client::{GroupClient, ReleaseMode};
use super::handler::{Handler, HandlerError};
use super::in_flight::{CLAIM_IDS, InFlight, RenewalScope, claim_batches};
use super::metrics::Metrics;
use super::reader::{ReadResult, ReaderHandle};
use super::recovery::Recovery;
use super::retries::{self, Failure, Retries, RetryMode};
use super::worker_pool::{self, HandlerOutcome, WorkQueue};
use super::{ConsumeStats, ConsumerConfig};
use crate::connection::{Connection, Progress};
use crate::entry::{Entry, ReadEntries};
use crate::error::{InvalidConfig, RunError, is_group_gone};
use redis_stream_core::clock::now;
use tokio_util::sync::CancellationToken;

/// The two stages of the end of a run.
pub(super) struct Stops {
    /// Nothing new is begun.
    pub(super) soft: CancellationToken,
    /// The grace is over.
    pub(super) hard: CancellationToken,
}

pub(super) struct Consumer {
    client: GroupClient,
    reader: ReaderHandle,
    queue: Arc<WorkQueue>,
    workers: JoinSet<()>,
    in_flight: InFlight,
    acks: Acknowledger,
    claims: ClaimKeeper,
    recovery: Recovery,
    autoclaim: Autoclaim,
    retries: Retries,
    corrections: DeliveryCorrections,
    breaker: Breaker,
    metrics: Metrics,
    stops: Stops,
    /// An error that ends the run once handled entries are acknowledged.
    failure: Option<RunError>,
}

impl Consumer {
    /// Starts the workers; the first connection follows in [`Consumer::run`].
    pub(super) fn start(
        config: &ConsumerConfig,
        handler: impl Handler,
        metrics: Metrics,
        stops: Stops,
    ) -> Self {
        let connect =
            || Connection::new(config.connect.clone(), stops.hard.clone()).with_timeouts(config.timeouts);
        let (at, queue) = (now(), Arc::new(WorkQueue::default()));
        let claims = ClaimKeeper::new(config.claim_min_idle, at, metrics.clone());
        Self {
            client: GroupClient::new(connect(), config),
            reader: ReaderHandle::new(config, connect().further(), metrics.clone(), stops.soft.clone()),
            workers: worker_pool::start(config.concurrency, handler, &queue, &metrics, &stops.soft),
            queue,
            in_flight: InFlight::default(),
            acks: Acknowledger::new(metrics.clone()),
            corrections: DeliveryCorrections::new(claims.spread()),
            claims,
            recovery: Recovery::new(config.block),
            autoclaim: Autoclaim::new(config, at, metrics.clone()),
            retries: Retries::new(config, metrics.clone()),
            breaker: Breaker::new(config.breaker_threshold as usize, retries::backoff(config)),
            metrics,
            stops,
            failure: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<ConsumeStats, RunError> {
        self.run_sessions().await?;
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.metrics.stats()),
        }
    }

    /// Connects again until a session ends in order.
    async fn run_sessions(&mut self) -> Result<(), RunError> {
        loop {
            self.take_outcomes();
            if self.is_stopping() && !self.has_unfinished_work() {
                return Ok(());
            }
            let soft = self.stops.soft.clone();
            let was_stopping = self.is_stopping();
            let connected = tokio::select! {
                connected = self.client.connection().connect() => connected?,
                () = soft.cancelled(), if !was_stopping => continue,
            };
            if connected == Progress::Stopped {
                return Ok(());
            }
            match self.run_session().await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.client.connection().lost(error)?;
                    self.recovery.restart(now());
                    self.metrics.reconnects.inc();
                }
            }
        }
    }

    async fn run_session(&mut self) -> RedisResult<()> {
        self.handshake().await?;
        self.client.connection().works();
        self.recovery.connected(now());
        let mut was_recreated = false;
        loop {
            let is_recreated = match self.tick().await {
                Err(error) if is_group_gone(&error) && self.client.creates_group() => {
                    warn!(error = error.code(), "stream or group is gone, creating it again");
                    self.client.create_group().await?;
                    true
                }
                tick => tick.map(|()| false)?,
            };
            if self.is_over() {
                break;
            }
            // A group that was created again is read at once, unless it keeps disappearing.
            if !is_recreated || was_recreated {
                self.wait().await;
            }
            was_recreated = is_recreated;
        }
        self.workers.abort_all();
        self.take_outcomes();
        self.acks.acknowledge(&mut self.client, &mut self.in_flight).await?;
        self.corrections.send(&mut self.client, &mut self.in_flight).await?;
        self.release().await?;
        if self.reader.is_reading() || !self.recovery.is_complete(now()) {
            info!("a read may still run on the server, keeping the consumer's name");
            return Ok(());
        }
        self.client.deregister().await
    }

    /// Releases what is left by XNACK, so that other consumers get it at once. Before Redis 8.8, and without permission, it
    /// stays pending until they claim it.
    async fn release(&mut self) -> RedisResult<()> {
        let Self { client, reader, in_flight, queue, claims, .. } = self;
        // XNACK is younger than CLAIM.
        if !reader.may_claim() {
            return Ok(());
        }
        // XNACK takes entries from other consumers, too.
        let batches = claim_batches(in_flight.touched(), claims.spread(), CLAIM_IDS);
        let owned = match claims.reclaim(batches, client, in_flight, queue).await {
            Err(error) if is_group_gone(&error) => return Ok(()),
            owned => owned?,
        };
        let not_handled = queue.queued_ids();
        let (not_handled, handled): (Vec<_>, Vec<_>) =
            owned.into_iter().partition(|id| not_handled.contains(id));
        for (ids, mode) in [(not_handled, ReleaseMode::NotCounted), (handled, ReleaseMode::Counted)] {
            for ids in ids.chunks(CLAIM_IDS) {
                match client.release(ids, mode).await {
                    Ok(()) => debug!(entries = ids.len(), ?mode, "released entries"),
                    Err(error) if error.is_io_error() => return Err(error),
                    Err(error) => {
                        debug!(error = error.code(), "server releases no entries, they stay pending");
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn handshake(&mut self) -> RedisResult<()> {
        self.client.create_group().await?;
        self.client.read_clock().await?;
        match self.retries.detect_dead_letters(&mut self.client).await {
            Ok(()) => Ok(()),
            Err(DetectError::Redis(error)) => Err(error),
            Err(DetectError::Config(text)) => {
                self.fail(InvalidConfig::new(text).into());
                Ok(())
            }
        }
    }

    /// Does everything that is due.
    async fn tick(&mut self) -> RedisResult<()> {
        self.take_outcomes();
        let Self { client, in_flight, queue, .. } = self;
        self.acks.acknowledge(client, in_flight).await?;
        // While this consumer handles nothing, another one may.
        let scope = if self.breaker.is_open() { RenewalScope::Buffered } else { RenewalScope::All };
        self.claims.renew(client, in_flight, queue, scope).await?;
        self.corrections.send(client, in_flight).await?;
        if !self.stops.soft.is_cancelled() {
            self.recovery.begin_if_due(now());
            if !self.reader.is_reading() {
                self.recovery.scan(client, in_flight).await?;
            }
            if self.breaker.is_open() {
                self.tick_open().await?;
            } else {
                self.tick_closed().await?;
            }
        }
        self.metrics.in_flight.set(i64::try_from(self.in_flight.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Delivers what is due, and reads.
    async fn tick_closed(&mut self) -> RedisResult<()> {
        let Self { client, in_flight, queue, .. } = self;
        if !self.recovery.is_active() {
            self.autoclaim.step(client, in_flight).await?;
        }
        self.retries.run(client, in_flight, queue, &self.claims, RetryMode::Due).await?;
        // Older entries go first.
        if !self.recovery.is_active() && !in_flight.is_due(now()) && !in_flight.is_full() {
            self.reader.request(in_flight);
        }
        Ok(())
    }

    /// Lets workers take one entry if it is time for a trial: the queued one, or one that waits for its next delivery. If
    /// none is queued, a new one is read for the next trial, so that entries which always fail do not stay the only ones
    /// that are tried.
    async fn tick_open(&mut self) -> RedisResult<()> {
        let Self { client, in_flight, queue, corrections, .. } = self;
        let at = now();
        let put_back = queue.keep_one();
        if !put_back.is_empty() {
            for id in put_back {
                in_flight.put_back(id, at);
                retries::take_back(id, 1, in_flight, corrections);
            }
            corrections.send(client, in_flight).await?;
        }
        if queue.is_shut() && self.breaker.next_trial().is_some_and(|trial| trial <= at) {
            queue.admit_trial();
        }
        let mode = if queue.wants_trial() { RetryMode::Trial } else { RetryMode::Paused };
        self.retries.run(client, in_flight, queue, &self.claims, mode).await?;
        if mode == RetryMode::Trial && !self.recovery.is_active() && !in_flight.is_full() {
            self.reader.request_one();
        }
        Ok(())
    }

    /// Sleeps until something happens or is due.
    async fn wait(&mut self) {
        let is_stopping = self.is_stopping();
        let due = self.next_due();
        tokio::select! {
            Some(result) = self.reader.result() => self.take_read(result),
            () = self.queue.outcome_ready() => {}
            () = self.stops.soft.cancelled(), if !is_stopping => {
                let (buffered, waiting) = (self.in_flight.buffered(), self.in_flight.waiting());
                debug!(buffered, waiting, "consumer ends, starting no further entry");
                self.queue.close();
            }
            () = self.stops.hard.cancelled(), if is_stopping => {}
            () = sleep_until(due) => {}
        }
    }

    fn next_due(&self) -> Instant {
        let renewal = self.claims.next_renewal();
        if self.is_stopping() {
            return renewal;
        }
        let autoclaim = || self.autoclaim.next_step(&self.in_flight).filter(|_| !self.recovery.is_active());
        let due = match self.breaker.next_trial() {
            None => [self.retries.next_due(&self.in_flight, &self.queue), autoclaim()],
            Some(trial) if self.queue.is_shut() => [Some(trial), None],
            // The trial waits for an entry.
            Some(_) if self.queue.wants_trial() => {
                [self.retries.next_due(&self.in_flight, &self.queue), None]
            }
            Some(_) => [None, None],
        };
        due.into_iter().chain([self.recovery.next_scan()]).flatten().fold(renewal, Instant::min)
    }

    fn is_stopping(&self) -> bool {
        self.stops.soft.is_cancelled()
    }

    /// Returns whether entries are being handled, or handled and not acknowledged.
    fn has_unfinished_work(&self) -> bool {
        !self.acks.is_empty() || self.queue.is_busy()
    }

    fn is_over(&self) -> bool {
        if !self.is_stopping() {
            return false;
        }
        self.queue.close();
        self.stops.hard.is_cancelled() || (!self.reader.is_reading() && !self.has_unfinished_work())
    }

    /// Ends the run in order, with an error.
    fn fail(&mut self, failure: RunError) {
        self.failure.get_or_insert(failure);
        self.stops.soft.cancel();
    }

    fn take_outcomes(&mut self) {
        for HandlerOutcome { id, result, finished } in self.queue.take_outcomes() {
            match result {
                Ok(()) => {
                    self.metrics.handled.inc();
                    self.acks.add(id, finished);
                    self.close_breaker();
                }
                Err(HandlerError::Failed { reason, delay }) => {
                    self.failed(Failure { id, finished, reason, delay, counting: Counting::Counted });
                }
                Err(HandlerError::Unavailable(reason)) => {
                    let (delay, counting) = (Duration::ZERO, Counting::NotCounted);
                    self.failed(Failure { id, finished, reason, delay, counting });
                }
                Err(HandlerError::Rejected(reason)) => {
                    self.retries.rejected(id, finished, reason, &mut self.in_flight);
                    if self.queue.is_trial(id) {
                        self.queue.shut();
                        self.breaker.trial_inconclusive(finished);
                    }
                }
                Err(HandlerError::Closed) => {
                    debug!("the reader of the results is gone");
                    self.stops.soft.cancel();
                }
                Err(HandlerError::Broken(error)) => self.fail(RunError::Output(error)),
            }
        }
    }

    fn failed(&mut self, failure: Failure) {
        let Self { in_flight, corrections, breaker, queue, .. } = self;
        let (id, finished, counting) = (failure.id, failure.finished, failure.counting);
        if breaker.is_open() {
            let mut failure = Failure { counting: Counting::NotCounted, ..failure };
            if queue.is_trial(id) {
                queue.shut();
                breaker.trial_failed(id, finished, fastrand::f64());
                // Else the last entry of a broken consumer would never be idle for long enough to be claimed.
                failure.delay = failure.delay.max(self.claims.min_idle() * 2);
            }
            self.retries.failed(failure, in_flight, corrections);
            return;
        }
        let error = failure.reason.clone();
        let separate_failures = in_flight.note_failure(id, self.metrics.handled.get());
        self.retries.failed(failure, in_flight, corrections);
        if let Some(failed) = breaker.failed(id, separate_failures, counting, finished) {
            queue.shut();
            self.metrics.breaker_open.set(1);
            error!(
                entries = failed.len(),
                error,
                "circuit breaker opened: different entries failed one after the other and none succeeded; reading stops, \
                 and one entry is tried at a time; check the handler and the services that it depends on"
            );
            for (id, deliveries) in failed {
                retries::take_back(id, deliveries, in_flight, corrections);
            }
        }
    }

    fn close_breaker(&mut self) {
        if let Some(tried) = self.breaker.succeeded() {
            let at = now();
            tried.into_iter().for_each(|id| self.in_flight.postpone(id, at));
            self.queue.open();
            self.metrics.breaker_open.set(0);
            info!("circuit breaker closed: an entry was handled, reading again");
        }
    }

    fn take_read(&mut self, result: ReadResult) {
        match result {
            ReadResult::Entries(entries, at) => {
                if self.is_stopping() {
                    self.queue.close();
                }
                self.buffer(entries, at);
            }
            ReadResult::Skipped => {}
            ReadResult::GroupGone(error) => {
                debug!(error = error.code(), "cannot read");
                self.recovery.group_gone();
            }
            ReadResult::ConnectionLost => self.recovery.restart(now()),
            ReadResult::Failed(failure) => self.fail(failure),
        }
    }

    fn buffer(&mut self, read: ReadEntries, at: Instant) {
        if !read.claimed.is_empty() {
            // Older entries go first.
            self.queue.hold_new();
            self.autoclaim.add_claimed(read.claimed, at, &mut self.in_flight, &mut self.corrections);
        }
        let mut new = Vec::with_capacity(read.new.len());
        for (id, fields) in read.new {
            if self.in_flight.buffer(id, 1, at) {
                new.push(Entry { id, fields, deliveries: 1, member: Arc::clone(self.client.member()) });
            }
        }
        self.queue.add_new(new);
    }
}
