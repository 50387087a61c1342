//! A consumer of a group: reads entries, writes each as one [line](super::line), acknowledges what was
//! written.
//!
//! First come its own unfinished entries, which an earlier run of the same name was given and did not
//! acknowledge; then new ones. An entry is written at least once: it is acknowledged after its line was
//! written and flushed, and what was read but not acknowledged stays pending. A lost connection is made
//! again, a lost group is created again (from [`Membership::start_id`]), and after both the unfinished
//! entries come first again, because the reply that held them may be the one that was lost.

use std::io::{self, Write};
use std::time::Duration;

use redis::{Cmd, RedisError, Value, cmd};
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::connection::{Connection, Progress};
use super::endpoint::Endpoint;
use super::entry::{self, Entry, Fields};
use super::error::{WorkloadError, is_group_gone};
use super::line::{LineFormat, escape};
use super::sink::write_out;
use super::stop::Stop;

/// Longest wait of one XREADGROUP: how long an idle consumer takes to notice that it shall end.
const BLOCK: Duration = Duration::from_secs(1);
/// IDs in one XACK.
const ACK_CHUNK: usize = 1_000;
/// A consumer that works on each entry acknowledges at least this often.
const ACK_PACE: Duration = Duration::from_millis(200);

/// Who consumes what, and how.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The server.
    pub endpoint: Endpoint,
    /// Key of the stream. It is created, empty, where it is missing.
    pub stream: Vec<u8>,
    /// The group. It is created where it is missing.
    pub group: Vec<u8>,
    /// The consumer's name in the group; a consumer of the same name goes on with its pending entries.
    pub consumer: Vec<u8>,
    /// Where a group that is created starts: `0` for all entries, `$` for new ones only, or an ID.
    pub start_id: String,
    /// Most entries that one XREADGROUP takes; at least 1.
    pub batch: u32,
    /// Time spent on each entry before its line is written. Zero: lines are written a batch at a time.
    pub work_time: Duration,
}

/// What a consumer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// Lines written.
    pub written: u64,
    /// Entries acknowledged, as counted by the server; deleted ones are among them.
    pub acknowledged: u64,
    /// Pending entries that had been deleted from the stream: acknowledged, and no line written.
    pub deleted: u64,
}

/// Consumes until `stop` resolves, or until nobody reads `sink` any more (a broken pipe, which is a success).
///
/// When `stop` resolves, the entry in hand is finished if that takes no longer than 2 s, what was written is
/// acknowledged, and the rest stays pending. Writing to `sink` blocks.
///
/// # Errors
///
/// What waiting cannot mend: see [`WorkloadError`]. What was written until then is acknowledged where the
/// server allows it.
pub async fn run(
    membership: &Membership,
    sink: impl Write + Send,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Consumed, WorkloadError> {
    check(membership)?;
    let connection = Connection::new(membership.endpoint.clone(), Stop::new(stop));
    let format = LineFormat::new(&membership.stream, &membership.group, &membership.consumer);
    let mut consumer =
        Consumer { membership, connection, sink, format, written: Vec::new(), consumed: Consumed::default() };
    let [stream, group, name] =
        [&membership.stream, &membership.group, &membership.consumer].map(|b| escape(b));
    let span = info_span!("consume", %stream, %group, consumer = %name);
    consumer.run().instrument(span.clone()).await?;
    let Consumed { written, acknowledged, deleted } = consumer.consumed;
    span.in_scope(|| info!(written, acknowledged, deleted, "consumer ended"));
    Ok(consumer.consumed)
}

fn check(membership: &Membership) -> Result<(), WorkloadError> {
    if membership.batch == 0 {
        return Err(WorkloadError::Setting("a batch has at least 1 entry".to_owned()));
    }
    Ok(())
}

/// Why a session, the time from one connection to the next, ended.
enum Failure {
    Redis(RedisError),
    Sink(io::Error),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// What XREADGROUP is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    /// Own pending entries above this ID.
    Pending(String),
    /// Entries that no consumer of the group was given.
    New,
}

impl Position {
    fn first() -> Self {
        Self::Pending("0".to_owned())
    }

    /// Where to read after a page: pending entries page by page until there are no more, then new ones.
    fn after(self, page: &[Entry]) -> Self {
        match (self, page.last()) {
            (Self::Pending(_), Some(last)) => Self::Pending(last.id.clone()),
            (Self::Pending(_), None) | (Self::New, _) => Self::New,
        }
    }
}

struct Consumer<'a, W> {
    membership: &'a Membership,
    connection: Connection,
    sink: W,
    format: LineFormat,
    /// Written (or found deleted), and not acknowledged yet. Outlives a lost connection, so that what is
    /// only not acknowledged is not written twice.
    written: Vec<String>,
    consumed: Consumed,
}

impl<W: Write + Send> Consumer<'_, W> {
    async fn run(&mut self) -> Result<(), WorkloadError> {
        while self.connection.connect().await? == Progress::Ready {
            match self.session().await {
                Ok(()) => return Ok(()),
                Err(Failure::Redis(error)) => self.connection.lost(error)?,
                Err(Failure::Sink(error)) => return self.closed(error).await,
            }
        }
        Ok(())
    }

    async fn session(&mut self) -> Result<(), Failure> {
        self.create_group().await?;
        self.connection.works();
        self.acknowledge().await?;
        let mut position = Position::first();
        while !self.connection.is_stopped() {
            let page = match self.read(&position).await {
                Err(error) if is_group_gone(&error) => {
                    warn!(error = error.code(), "stream or group is gone, creating it again");
                    self.create_group().await?;
                    continue;
                }
                page => page?,
            };
            position = position.after(&page);
            self.write(page).await?;
        }
        Ok(())
    }

    async fn create_group(&mut self) -> Result<(), RedisError> {
        let Membership { stream, group, start_id, .. } = self.membership;
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(stream).arg(group).arg(start_id).arg("MKSTREAM");
        match self.connection.query(&create, Duration::ZERO).await {
            // It is there already: the usual case.
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            created => created.map(drop),
        }
    }

    async fn read(&mut self, position: &Position) -> Result<Vec<Entry>, RedisError> {
        let Membership { stream, group, consumer, batch, .. } = self.membership;
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(*batch);
        let reply = match position {
            Position::Pending(after) => {
                read.arg("STREAMS").arg(stream).arg(after);
                self.connection.query(&read, Duration::ZERO).await?
            }
            Position::New => {
                let block = u64::try_from(BLOCK.as_millis()).expect("one second fits");
                read.arg("BLOCK").arg(block).arg("STREAMS").arg(stream).arg(">");
                self.connection.query(&read, BLOCK).await?
            }
        };
        entry::decode(reply)
    }

    async fn write(&mut self, page: Vec<Entry>) -> Result<(), Failure> {
        let read = page.len();
        let mut present = Vec::with_capacity(read);
        for Entry { id, fields } in page {
            match fields {
                Some(fields) => present.push((id, fields)),
                // Nothing is left to work on; only XACK frees the PEL of it.
                None => self.written.push(id),
            }
        }
        let deleted = read - present.len();
        if deleted > 0 {
            warn!(deleted, "pending entries were deleted from the stream, acknowledged without a line");
            self.consumed.deleted += deleted as u64;
        }
        if self.membership.work_time.is_zero() {
            self.write_lines(&present)?;
        } else {
            self.work(&present).await?;
        }
        Ok(self.acknowledge().await?)
    }

    /// Spends the time of work on each entry, and acknowledges as it goes.
    async fn work(&mut self, entries: &[Fielded]) -> Result<(), Failure> {
        let work_time = self.membership.work_time;
        let most = entries_per_ack(work_time);
        for (done, entry) in entries.iter().enumerate() {
            if self.connection.is_stopped() || self.connection.work(work_time).await == Progress::Stopped {
                info!(left = entries.len() - done, "consumer ends, the rest of its batch stays pending");
                break;
            }
            self.write_lines(std::slice::from_ref(entry))?;
            if self.written.len() >= most {
                self.acknowledge().await?;
            }
        }
        Ok(())
    }

    fn write_lines(&mut self, entries: &[Fielded]) -> Result<(), Failure> {
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(entries.len());
        for (id, fields) in entries {
            self.format.write(id, fields, &mut text);
            ends.push(text.len());
        }
        let (accepted, outcome) = write_out(&mut self.sink, &text);
        let whole = ends.partition_point(|end| *end <= accepted);
        self.written.extend(entries[..whole].iter().map(|(id, _)| id.clone()));
        self.consumed.written += whole as u64;
        outcome.map_err(Failure::Sink)
    }

    async fn acknowledge(&mut self) -> Result<(), RedisError> {
        while !self.written.is_empty() {
            let chunk = self.written.len().min(ACK_CHUNK);
            let ack = self.ack(&self.written[..chunk]);
            let reply = self.connection.query(&ack, Duration::ZERO).await?;
            self.written.drain(..chunk);
            if let Value::Int(count) = reply {
                self.consumed.acknowledged += u64::try_from(count).unwrap_or(0);
            }
        }
        Ok(())
    }

    fn ack(&self, ids: &[String]) -> Cmd {
        let mut ack = cmd("XACK");
        ack.arg(&self.membership.stream).arg(&self.membership.group).arg(ids);
        ack
    }

    /// The sink took what it took: that much is acknowledged.
    async fn closed(&mut self, error: io::Error) -> Result<(), WorkloadError> {
        if let Err(error) = self.acknowledge().await {
            warn!(%error, "entries were written and could not be acknowledged");
        }
        if error.kind() == io::ErrorKind::BrokenPipe {
            debug!("nobody reads the entries any more");
            return Ok(());
        }
        Err(WorkloadError::Sink(error))
    }
}

/// An entry that is still in the stream: its ID and its fields.
type Fielded = (String, Fields);

/// How many entries fit in between two acknowledgements; at least 1.
fn entries_per_ack(work_time: Duration) -> usize {
    let entries = ACK_PACE.as_nanos() / work_time.as_nanos().max(1);
    usize::try_from(entries).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry { id: id.to_owned(), fields: None }
    }

    #[test]
    fn own_pending_entries_are_read_page_by_page_and_then_new_ones() {
        let second = Position::first().after(&[entry("1-0"), entry("2-0")]);
        assert_eq!(second, Position::Pending("2-0".to_owned()));
        assert_eq!(second.after(&[]), Position::New);
        assert_eq!(Position::New.after(&[entry("3-0")]), Position::New);
    }

    #[test]
    fn slow_work_is_acknowledged_one_by_one_and_quick_work_together() {
        let counts = [1, 50, 200, 5_000].map(|ms| entries_per_ack(Duration::from_millis(ms)));
        assert_eq!(counts, [200, 4, 1, 1]);
    }
}
