//! Dead letters that come back: lists the letters of a dead-letter stream, replays them into their streams, or drops
//! them.
//!
//! The letters are those of [`consume`](crate::consume), or of another program whose fields are [named](FieldNames).
//!
//! Each letter is replayed by a script, in one atomic step: the server looks for the letter, adds its entry, and deletes
//! the letter. So a process that is killed at any time and started again loses none and adds none twice. An entry that a
//! replay adds begins with these fields, and the entry's own follow:
//!
//! | field | value |
//! | --- | --- |
//! | `streamgauge-replay-stream` | key of the dead-letter stream |
//! | `streamgauge-replay-id` | ID of the letter there |
//! | `streamgauge-replay-attempt` | 1 for the first replay of an entry, 2 for the next |
//! | `streamgauge-replay-time` | milliseconds since the Unix epoch by the server's clock; absent if the server refuses `TIME` |
//! | `streamgauge-replay-first-id` | ID that the entry had before its first replay; absent if the letter does not hold it |
//!
//! They are removed from a letter that is replayed again, so that an entry has them once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use tokio::time::Instant;

use crate::connect_options::ConnectOptions;
use crate::connection::{Connection, moved_to, server_clock};
use crate::entry::{Fields, RedisId, StreamId, decode, decode_entries, id_args};
use crate::error::{InvalidConfig, RunError};
use crate::produce::rate::{Pattern, RateLimiter, RateSchedule};
use redis_stream_core::clock::now;
use redis_stream_core::escape::escape;
use redis_stream_core::server_clock::ServerClock;
use tokio_util::sync::CancellationToken;

pub(crate) mod letter;
pub(crate) mod slot;

pub use letter::{FieldNames, Letter};
use slot::{ServerMode, default_key, mode, slot};

/// Adds the entry of a letter and deletes the letter, if it is still there. Returns the new ID, [`GONE`] or [`NO_STREAM`].
///
/// A script is not rolled back. So the first XDEL, of an ID that no entry has, fails if XDEL is refused, before anything is
/// changed; and XADD goes before the deletion, which cannot fail any more.
const REPLAY: &str = "\
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('XDEL', KEYS[1], '0-0')
local id = redis.call('XADD', KEYS[2], 'NOMKSTREAM', '*', unpack(ARGV, 2))
if not id then return 1 end
redis.call('XDEL', KEYS[1], ARGV[1])
return id";
const GONE: Value = Value::Int(0);
const NO_STREAM: Value = Value::Int(1);

/// Lua's stack holds 8,000 values.
const MAX_FIELDS: usize = 3_900;
/// Letters that one XRANGE returns, and bytes after which it is asked for fewer.
const PAGE_LETTERS: usize = 100;
const FIRST_PAGE_LETTERS: usize = 10;
const PAGE_BYTES: usize = 1024 * 1024;
/// Letters in one pipeline of scripts.
const BATCH: usize = 25;
/// Redirects that are followed for one pipeline.
const MAX_REDIRECTS: usize = 5;

/// The dead-letter stream.
#[derive(Clone, Debug)]
pub struct DeadLettersConfig {
    /// The server; any node of a cluster.
    pub connect: ConnectOptions,
    /// Key of the stream that the letters belong to: letters that name another one are left out. `None` for all.
    pub stream: Option<Vec<u8>>,
    /// Key of the dead-letter stream. `None` is the default of [`consume`](crate::consume) for `stream`.
    pub dead_letter: Option<Vec<u8>>,
    /// The fields of letters of another program.
    pub names: FieldNames,
}

/// Selects letters: those that meet all conditions.
#[derive(Clone, Debug, Default)]
pub struct LetterSelection {
    /// IDs of letters; empty for all.
    pub ids: Vec<StreamId>,
    /// Only letters of this group.
    pub group: Option<Vec<u8>>,
    /// Only letters that were written at least this long ago, by the server's clock.
    pub older_than: Option<Duration>,
    /// Only letters that were written at most this long ago.
    pub newer_than: Option<Duration>,
    /// Most letters, the oldest first. `None` for all that were there at the start.
    pub limit: Option<u64>,
}

/// The mode of a run: a dry one writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// Nothing is written; the result is what would be done.
    DryRun,
    /// Letters are replayed or dropped.
    Execute,
}

/// Settings of a replay.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// The mode of a run: a dry one writes nothing.
    pub execution: Execution,
    /// Key of the stream that all entries go to, instead of their own.
    pub to: Option<Vec<u8>>,
    /// Letters per second; 0 is as fast as possible.
    pub rate: f64,
}

/// The numbers of selected letters by their outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Letters that were replayed or dropped; in a dry run those that would be.
    pub done: u64,
    /// Letters that were gone by then: another process was faster.
    pub gone: u64,
    /// Letters whose reply was lost with the connection: each was done, or is still there.
    pub unknown: u64,
    /// Letters that cannot be replayed and stay where they are, by reason.
    pub kept: BTreeMap<String, u64>,
    /// Entries added by stream; in a dry run those that would be.
    pub streams: BTreeMap<Vec<u8>, u64>,
    /// Of these in a dry run, those of which the server does not tell whether they exist.
    pub unchecked: BTreeSet<Vec<u8>>,
}

/// A position among the selected letters.
#[derive(Debug)]
pub struct LetterCursor {
    selection: LetterSelection,
    /// IDs that are to be read; `None` to read from `next` to `end`.
    ids: Option<VecDeque<StreamId>>,
    /// `None` after the end.
    next: Option<StreamId>,
    end: StreamId,
    /// IDs that letters of the selected age have.
    ages: RangeInclusive<StreamId>,
    left: u64,
    /// The limit was reached, and more letters follow.
    cut: bool,
    missing: Vec<StreamId>,
}

impl LetterSelection {
    fn is_by_age(&self) -> bool {
        self.older_than.is_some() || self.newer_than.is_some()
    }
}

impl LetterCursor {
    /// Returns true if the limit was reached, so that there may be more letters.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn has_more(&self) -> bool {
        match &self.ids {
            Some(ids) => !ids.is_empty(),
            None => self.next.is_some_and(|next| next <= self.end),
        }
    }

    /// Returns the IDs of the selection without a letter, as far as they were read.
    #[must_use]
    pub fn missing(&self) -> &[StreamId] {
        &self.missing
    }
}

/// A dead-letter stream, over one connection.
pub struct DeadLetters {
    connection: Connection,
    key: Vec<u8>,
    stream: Option<Vec<u8>>,
    names: FieldNames,
    mode: ServerMode,
    /// `None` if the server refuses TIME.
    clock: Option<ServerClock>,
    page: usize,
    /// Streams that entries may be added to.
    checked: HashSet<Vec<u8>>,
    /// The streams that a dry run has looked for.
    existing: HashMap<Vec<u8>, Existence>,
}

/// The type of the key that entries go to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Existence {
    Stream,
    /// Nothing, or something else, so that nothing can be added.
    Other(String),
    /// The server refuses to tell.
    Unchecked,
}

impl DeadLetters {
    /// Connects. It tries only once, as all further commands do: after an error, the caller may start again.
    ///
    /// # Errors
    ///
    /// [`RunError::Config`] if no stream is named; otherwise the error of the server or the connection.
    pub async fn open(config: &DeadLettersConfig) -> Result<Self, RunError> {
        let given = config.stream.as_ref().or(config.dead_letter.as_ref()).filter(|key| !key.is_empty());
        if given.is_none() {
            return Err(
                InvalidConfig::new("no stream is named, expected a stream or a dead-letter stream").into()
            );
        }
        let mut connection = Connection::new(config.connect.clone(), CancellationToken::new());
        connection.connect_once().await?;
        let mode = mode(&mut connection).await.map_err(|error| connection.refused(error))?;
        let key = match (&config.dead_letter, &config.stream) {
            (Some(key), _) => key.clone(),
            (None, stream) => default_key(stream.as_deref().unwrap_or_default(), mode),
        };
        Ok(Self {
            connection,
            key,
            stream: config.stream.clone(),
            names: config.names.clone(),
            mode,
            clock: None,
            page: FIRST_PAGE_LETTERS,
            checked: HashSet::new(),
            existing: HashMap::new(),
        })
    }

    /// Returns the key of the dead-letter stream.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the time since a letter was written, by the server's clock; `None` if it is not known, or its ID is no
    /// time.
    #[must_use]
    pub fn age(&self, id: StreamId) -> Option<Duration> {
        id.age(self.time()?)
    }

    fn time(&self) -> Option<Duration> {
        Some(self.clock?.time_at(now().into_std()))
    }

    /// Begins to read the selected letters. Those that are added later are not among them.
    ///
    /// # Errors
    ///
    /// The error of the server or the connection, also if an age is selected and the server refuses `TIME`.
    pub async fn select(&mut self, selection: LetterSelection) -> Result<LetterCursor, RunError> {
        let mut newest = Pipeline::new();
        newest.cmd("XREVRANGE").arg(&self.key).arg("+").arg("-").arg("COUNT").arg(1);
        newest.cmd("TIME");
        let mut replies = self.send(&newest).await?.into_iter();
        let newest = self.entries(replies.next())?.pop().map(|(id, _)| id);
        let time = replies.next().and_then(Result::ok);
        self.clock = time.and_then(|time| server_clock(time, now()).ok());
        if self.clock.is_none() && selection.is_by_age() {
            let text = "the server refuses TIME, and without its clock the age of a letter is not known";
            return Err(InvalidConfig::new(text).into());
        }
        let before = |age: Duration| {
            let ms = self.time().unwrap_or_default().saturating_sub(age).as_millis();
            u64::try_from(ms).unwrap_or(u64::MAX)
        };
        let last = selection.older_than.map_or(StreamId::MAX, |age| StreamId::new(before(age), u64::MAX));
        let first = selection.newer_than.map_or(StreamId::MIN, |age| StreamId::new(before(age), 0));
        Ok(LetterCursor {
            ids: (!selection.ids.is_empty()).then(|| selection.ids.iter().copied().collect()),
            next: (newest.is_some() || !selection.ids.is_empty()).then_some(first),
            end: newest.unwrap_or_default().min(last),
            ages: first..=last,
            left: selection.limit.unwrap_or(u64::MAX),
            cut: false,
            selection,
            missing: Vec::new(),
        })
    }

    /// Returns the next letters, oldest first; none at the end.
    ///
    /// # Errors
    ///
    /// The error of the server or the connection.
    pub async fn next(&mut self, cursor: &mut LetterCursor) -> Result<Vec<Letter>, RunError> {
        while cursor.left > 0 && cursor.next.is_some() {
            let entries = match cursor.ids.is_some() {
                true => self.read_ids(cursor).await?,
                false => self.read_page(cursor).await?,
            };
            let letters = entries.into_iter().map(|(id, fields)| Letter::read(id, fields, &self.names));
            let mut letters: Vec<_> = letters.filter(|letter| self.is_selected(letter, cursor)).collect();
            let left = usize::try_from(cursor.left).unwrap_or(usize::MAX);
            let has_more = letters.len() > left || cursor.has_more();
            letters.truncate(left);
            cursor.left -= letters.len() as u64;
            cursor.cut = cursor.left == 0 && has_more;
            if !letters.is_empty() {
                return Ok(letters);
            }
        }
        Ok(Vec::new())
    }

    fn is_selected(&self, letter: &Letter, cursor: &LetterCursor) -> bool {
        let selection = &cursor.selection;
        let is_of_stream =
            || self.stream.is_none() || letter.stream.is_none() || letter.stream == self.stream;
        let is_of_age =
            || !selection.is_by_age() || cursor.ages.contains(&letter.id) && self.age(letter.id).is_some();
        (selection.group.is_none() || letter.group == selection.group) && is_of_stream() && is_of_age()
    }

    async fn read_page(&mut self, cursor: &mut LetterCursor) -> Result<Vec<(StreamId, Fields)>, RunError> {
        let Some(next) = cursor.next.filter(|next| *next <= cursor.end) else {
            cursor.next = None;
            return Ok(Vec::new());
        };
        let mut pipeline = Pipeline::new();
        let range = pipeline.cmd("XRANGE").arg(&self.key).arg(RedisId(next)).arg(RedisId(cursor.end));
        range.arg("COUNT").arg(self.page);
        let entries = self.send(&pipeline).await?.pop();
        let entries = self.entries(entries)?;
        cursor.next = match entries.last() {
            Some((last, _)) if entries.len() == self.page => last.successor(),
            _ => None,
        };
        self.adjust_page(&entries);
        Ok(entries)
    }

    async fn read_ids(&mut self, cursor: &mut LetterCursor) -> Result<Vec<(StreamId, Fields)>, RunError> {
        let ids = cursor.ids.get_or_insert_default();
        let ids: Vec<_> = ids.drain(..self.page.min(ids.len())).collect();
        if ids.is_empty() {
            cursor.next = None;
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::new();
        for id in &ids {
            pipeline.cmd("XRANGE").arg(&self.key).arg(RedisId(*id)).arg(RedisId(*id));
        }
        let mut found = Vec::new();
        for (id, reply) in ids.into_iter().zip(self.send(&pipeline).await?) {
            let entries = self.entries(Some(reply))?;
            if entries.is_empty() {
                cursor.missing.push(id);
            }
            found.extend(entries);
        }
        self.adjust_page(&found);
        Ok(found)
    }

    /// Asks for fewer letters at a time if they are large.
    fn adjust_page(&mut self, entries: &[(StreamId, Fields)]) {
        let fields = entries.iter().flat_map(|(_, fields)| fields);
        let bytes: usize = fields.map(|(name, value)| name.len() + value.len()).sum();
        if bytes > PAGE_BYTES {
            self.page = (self.page / 2).max(1);
        } else if bytes < PAGE_BYTES / 4 {
            self.page = (self.page * 2).min(PAGE_LETTERS);
        }
    }

    fn entries(&self, reply: Option<RedisResult<Value>>) -> Result<Vec<(StreamId, Fields)>, RunError> {
        let entries = reply.unwrap_or(Ok(Value::Nil)).and_then(|reply| match reply {
            Value::Nil => Ok(Vec::new()),
            reply => decode_entries(reply),
        });
        entries.map_err(|error| self.connection.refused(error))
    }

    /// Replays the selected letters until `stop` is cancelled. The outcome is complete also after an error.
    ///
    /// # Errors
    ///
    /// The first error of the server or the connection. [`RunError::Config`] if a letter and its stream are in different
    /// slots of a cluster.
    pub async fn replay(
        &mut self,
        selection: LetterSelection,
        options: &ReplayOptions,
        stop: &CancellationToken,
        outcome: &mut Outcome,
    ) -> Result<(), RunError> {
        let mut limiter = RateLimiter::new(RateSchedule::new(options.rate, Pattern::Steady)?);
        let mut cursor = self.select(selection).await?;
        let started = now();
        loop {
            let letters = self.next(&mut cursor).await?;
            if letters.is_empty() {
                outcome.gone += cursor.missing.len() as u64;
                return Ok(());
            }
            let mut rest = letters.as_slice();
            while !rest.is_empty() {
                let most = rest.len().min(BATCH);
                let count = match options.execution {
                    Execution::DryRun => most,
                    Execution::Execute => due(&mut limiter, started, most, stop).await,
                };
                let (batch, behind) = rest.split_at(count);
                if batch.is_empty() {
                    return Ok(());
                }
                self.replay_batch(batch, options, outcome).await?;
                rest = behind;
            }
        }
    }

    /// Drops the selected letters until `stop` is cancelled. The outcome is complete also after an error.
    ///
    /// # Errors
    ///
    /// The first error of the server or the connection.
    pub async fn drop_selected(
        &mut self,
        selection: LetterSelection,
        execution: Execution,
        stop: &CancellationToken,
        outcome: &mut Outcome,
    ) -> Result<(), RunError> {
        let mut cursor = self.select(selection).await?;
        while !stop.is_cancelled() {
            let letters = self.next(&mut cursor).await?;
            let count = letters.len() as u64;
            if count == 0 {
                outcome.gone += cursor.missing.len() as u64;
                break;
            }
            if execution == Execution::DryRun {
                outcome.done += count;
                continue;
            }
            let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
            let mut delete = Pipeline::new();
            delete.cmd("XDEL").arg(&self.key).arg(id_args(&ids));
            let PipelineReplies { mut replies, failed } = self.exchange(&delete).await;
            let Some(reply) = replies.pop().flatten() else {
                outcome.unknown += count;
                return failed.map_or(Ok(()), Err);
            };
            let deleted: u64 = reply.and_then(decode).map_err(|error| self.connection.refused(error))?;
            outcome.done += deleted;
            outcome.gone += count.saturating_sub(deleted);
        }
        Ok(())
    }

    async fn replay_batch(
        &mut self,
        letters: &[Letter],
        options: &ReplayOptions,
        outcome: &mut Outcome,
    ) -> Result<(), RunError> {
        let mut scripts = Pipeline::new();
        let mut sent = Vec::new();
        for letter in letters {
            match self.destination(letter, options.to.as_deref()).await? {
                Destination::Stream(stream) if options.execution == Execution::DryRun => {
                    match self.existence(&stream).await? {
                        Existence::Stream => sent.push(stream),
                        Existence::Unchecked => {
                            outcome.unchecked.insert(stream.clone());
                            sent.push(stream);
                        }
                        Existence::Other(reason) => *outcome.kept.entry(reason).or_default() += 1,
                    }
                }
                Destination::Stream(stream) => {
                    scripts.add_command(self.script(letter, &stream));
                    sent.push(stream);
                }
                Destination::None(reason) => *outcome.kept.entry(reason).or_default() += 1,
            }
        }
        if options.execution == Execution::DryRun {
            outcome.done += sent.len() as u64;
            sent.into_iter().for_each(|stream| *outcome.streams.entry(stream).or_default() += 1);
            return Ok(());
        }
        if sent.is_empty() {
            return Ok(());
        }
        let PipelineReplies { replies, mut failed } = self.exchange(&scripts).await;
        for (stream, reply) in sent.into_iter().zip(replies) {
            match reply {
                Some(Ok(reply)) if reply == GONE => outcome.gone += 1,
                Some(Ok(reply)) if reply == NO_STREAM => {
                    *outcome.kept.entry(no_stream(&stream)).or_default() += 1;
                }
                Some(Ok(_)) => {
                    outcome.done += 1;
                    *outcome.streams.entry(stream).or_default() += 1;
                }
                Some(Err(error)) => failed = failed.or_else(|| Some(self.connection.refused(error))),
                None => outcome.unknown += 1,
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Returns where a letter's entry goes.
    async fn destination(&mut self, letter: &Letter, to: Option<&[u8]>) -> Result<Destination, RunError> {
        if letter.fields.len() > MAX_FIELDS {
            return Ok(Destination::None(format!("more than {MAX_FIELDS} fields")));
        }
        if letter.fields.is_empty() {
            return Ok(Destination::None("no fields of an entry in the letter".to_owned()));
        }
        let stream = to.or(letter.stream.as_deref()).or(self.stream.as_deref()).map(<[u8]>::to_vec);
        let Some(stream) = stream else {
            return Ok(Destination::None("the letter names no stream".to_owned()));
        };
        match self.refusal(&stream).await? {
            None => Ok(Destination::Stream(stream)),
            // Of a stream that every letter goes to, and not only this one.
            Some(reason) if to.is_some() => Err(InvalidConfig::new(reason).into()),
            Some(reason) => Ok(Destination::None(reason)),
        }
    }

    /// Returns why entries cannot be put into a stream; `None` if they can.
    async fn refusal(&mut self, stream: &[u8]) -> Result<Option<String>, RunError> {
        if self.checked.contains(stream) {
            return Ok(None);
        }
        if stream == self.key {
            return Ok(Some(format!("{}: the stream is the dead-letter stream itself", escape(stream))));
        }
        if self.mode == ServerMode::Cluster {
            let of_stream = slot(&mut self.connection, stream).await;
            let of_key = slot(&mut self.connection, &self.key).await;
            let refused = |error| self.connection.refused(error);
            if of_stream.map_err(refused)? != of_key.map_err(refused)? {
                return Ok(Some(format!(
                    "{} and {} are in different slots of the cluster, where no step can change both: replay to a \
                     stream with the same hash tag",
                    escape(&self.key),
                    escape(stream)
                )));
            }
        }
        self.checked.insert(stream.to_vec());
        Ok(None)
    }

    /// Looks if a key is a stream, once.
    async fn existence(&mut self, stream: &[u8]) -> Result<Existence, RunError> {
        if let Some(known) = self.existing.get(stream) {
            return Ok(known.clone());
        }
        let mut look = Pipeline::new();
        look.cmd("TYPE").arg(stream);
        let reply = self.send(&look).await?.pop().map(|reply| reply.and_then(decode::<String>));
        let found = match reply {
            Some(Ok(kind)) if kind == "stream" => Existence::Stream,
            Some(Ok(kind)) if kind == "none" => Existence::Other(no_stream(stream)),
            Some(Ok(kind)) => Existence::Other(format!("{} is a {kind}, not a stream", escape(stream))),
            // The user may lack the permission, which a replay does not need.
            Some(Err(_)) | None => Existence::Unchecked,
        };
        self.existing.insert(stream.to_vec(), found.clone());
        Ok(found)
    }

    fn script(&self, letter: &Letter, stream: &[u8]) -> Cmd {
        let mut script = cmd("EVAL");
        script.arg(REPLAY).arg(2).arg(&self.key).arg(stream).arg(RedisId(letter.id));
        for (name, value) in letter.replayed(&self.key, self.time()) {
            script.arg(name).arg(value);
        }
        script
    }

    /// Sends commands, to the node that holds the key.
    async fn send(&mut self, pipeline: &Pipeline) -> Result<Vec<RedisResult<Value>>, RunError> {
        let PipelineReplies { replies, failed } = self.exchange(pipeline).await;
        failed.map_or_else(|| Ok(replies.into_iter().flatten().collect()), Err)
    }

    /// Sends commands, and again to the node that holds the key by now those that are redirected: the others are done.
    async fn exchange(&mut self, pipeline: &Pipeline) -> PipelineReplies {
        let mut replies = vec![None; pipeline.len()];
        let mut redirects = 0;
        loop {
            let left: Vec<_> = (0..replies.len()).filter(|at| replies[*at].is_none()).collect();
            let answers = match left.len() == replies.len() {
                true => self.query(pipeline).await,
                false => self.query(&some_of(pipeline, &left)).await,
            };
            let answers = match answers {
                Ok(answers) => answers,
                Err(error) => return PipelineReplies { replies, failed: Some(error) },
            };
            let mut moved = None;
            for (at, answer) in left.into_iter().zip(answers) {
                match answer {
                    Err(error) if redirects < MAX_REDIRECTS && moved_to(&error).is_some() => {
                        moved = Some(error);
                    }
                    answer => replies[at] = Some(answer),
                }
            }
            let Some(error) = moved else { return PipelineReplies { replies, failed: None } };
            if let Err(error) = self.connection.lost(error) {
                return PipelineReplies { replies, failed: Some(error) };
            }
            redirects += 1;
        }
    }

    async fn query(&mut self, pipeline: &Pipeline) -> Result<Vec<RedisResult<Value>>, RunError> {
        self.connection.connect_once().await?;
        let replies = self.connection.query_all(pipeline).await;
        replies.map_err(|error| self.connection.refused(error))
    }
}

/// The replies to a pipeline.
struct PipelineReplies {
    /// In the order of the commands; `None` if the reply was lost.
    replies: Vec<Option<RedisResult<Value>>>,
    /// The error that lost them.
    failed: Option<RunError>,
}

fn some_of(pipeline: &Pipeline, positions: &[usize]) -> Pipeline {
    let mut some = Pipeline::new();
    for (at, command) in pipeline.cmd_iter().enumerate() {
        if positions.binary_search(&at).is_ok() {
            some.add_command(command.clone());
        }
    }
    some
}

fn no_stream(stream: &[u8]) -> String {
    format!("there is no stream {}", escape(stream))
}

/// Where the entry of a letter goes.
enum Destination {
    Stream(Vec<u8>),
    /// It cannot be replayed, for this reason.
    None(String),
}

/// Waits until letters are due, and returns how many; 0 if the run is stopped.
async fn due(limiter: &mut RateLimiter, started: Instant, most: usize, stop: &CancellationToken) -> usize {
    while !stop.is_cancelled() {
        let elapsed = now() - started;
        let count = limiter.take(elapsed, most as u64);
        if count > 0 {
            return usize::try_from(count).unwrap_or(most);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(limiter.next().saturating_sub(elapsed)) => {}
        }
    }
    0
}
