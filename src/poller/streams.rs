//! The streams of a target that are polled, and the state that is kept for each from poll to poll.

use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use tokio::time::Instant;
use tracing::warn;

use crate::config::{Shard, StreamRule, Target};
use crate::poller::error::KeyError;
use crate::poller::repeated::StreamReplies;
use crate::poller::selection::{self, LeftOut, RuleIndex, at_most_u32};
use crate::poller::slots::{crc16, slot};
use redis_stream_core::clock::now;
use redis_stream_core::name::Name;
use redis_stream_lag::compact::Micros;
use redis_stream_lag::report::Report;

/// The most streams in a turn of SCAN that are asked for their groups because the limit might leave them out.
const PROBES_PER_TURN: usize = 20_000;

/// Number of groups of a stream up to which XINFO GROUPS is sent in every poll: it takes 2 to 3 ms of the server's time
/// for these.
const MANY_GROUPS: u64 = 1_000;

/// Names behind a single pointer, which streams with the same groups share.
pub(super) type NameList = Arc<Box<[Name]>>;

/// Returns the list without names, which all share.
fn no_names() -> NameList {
    static NO_NAMES: LazyLock<NameList> = LazyLock::new(NameList::default);
    Arc::clone(&NO_NAMES)
}

/// A stream that is polled.
#[derive(Clone, Debug)]
pub(super) struct TrackedStream {
    pub(super) key: Name,
    /// The key's slot in a cluster.
    pub(super) slot: u16,
    /// The item of the configuration that selects the stream.
    pub(super) rule: RuleIndex,
    /// The family that the stream belongs to.
    pub(super) family: Option<Name>,
    /// True if the configuration names the stream; false if a glob found it.
    pub(super) named: bool,
    /// Size of the last replies; `None` before the first.
    pub(super) reply_bytes: Option<ReplyBytes>,
    /// The number of the poll that read it last; 0 before the first.
    pub(super) last_read: u64,
    /// Time of that reading, since [`StreamRegistry::origin`]; `None` before the first.
    pub(super) read_at: Option<Micros>,
    /// Time of the reading that the report shows, or of a later poll that left the stream out by plan; since
    /// [`StreamRegistry::origin`].
    pub(super) fresh_at: Option<Micros>,
    /// The last problem; logged when it changes.
    pub(super) problem: Option<KeyError>,
    /// True if the stream has any group; `None` before the first reading.
    pub(super) has_groups: Option<bool>,
    /// Number of its groups in the last reply, reported or not.
    pub(super) group_count: u64,
    /// The groups that were reported last, ordered by name.
    pub(super) groups: NameList,
    /// The groups whose consumers are asked for together with the stream.
    pub(super) groups_with_consumers: NameList,
    /// Number of groups that the configuration names and the last reading did not show.
    pub(super) missing_groups: u32,
    /// The groups and consumers that limits left out last.
    pub(super) left_out: LeftOut,
    /// True for groups, and for consumers, if some were left out when that was last logged.
    pub(super) was_left_out: (bool, bool),
    /// True if one entry takes more than the payload budget of a poll; logged when that begins.
    pub(super) exceeds_budget: bool,
    /// The last replies that were decoded, of a stream that is settled.
    pub(super) replies: Option<Box<StreamReplies>>,
}

impl TrackedStream {
    /// Returns a stream that was not read yet.
    pub(super) fn new(key: Name, rule: RuleIndex, named: bool) -> Self {
        Self {
            slot: slot(&key),
            key,
            rule,
            family: None,
            named,
            reply_bytes: None,
            last_read: 0,
            read_at: None,
            fresh_at: None,
            problem: None,
            has_groups: None,
            group_count: 0,
            groups: no_names(),
            groups_with_consumers: no_names(),
            missing_groups: 0,
            left_out: LeftOut::default(),
            was_left_out: (false, false),
            exceeds_budget: false,
            replies: None,
        }
    }

    /// Returns true if the stream has so many groups that XINFO GROUPS is sent less often than in every poll.
    pub(super) fn has_many_groups(&self) -> bool {
        self.group_count > MANY_GROUPS
    }

    /// Returns true if it is too early to send XINFO GROUPS again. The client cannot bound what that costs, so a stream
    /// with ten times [`MANY_GROUPS`] is read in every tenth poll.
    pub(super) fn waits(&self, poll_number: u64) -> bool {
        self.has_many_groups()
            && self.last_read > 0
            && poll_number < self.last_read + self.group_count / MANY_GROUPS
    }

    /// Logs when limits begin or cease to leave out groups or consumers.
    pub(super) fn log_left_out(&mut self, target_name: &str) {
        let now = self.left_out;
        let is_left_out = (now.groups > 0, now.consumers > 0);
        if std::mem::replace(&mut self.was_left_out, is_left_out) != is_left_out {
            warn!(
                target_name,
                stream = %self.key,
                groups_left_out = now.groups,
                consumers_left_out = now.consumers,
                "limits of the target leave out groups or consumers of this stream"
            );
        }
    }

    fn was_read(&self) -> bool {
        self.last_read > 0 && self.problem.is_none()
    }
}

/// Size of the replies about one stream, in bytes. 4 GiB stands for that or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyBytes {
    total: NonZeroU32,
    /// The part of the first and the last entry.
    payload: u32,
}

impl ReplyBytes {
    pub(super) fn new(total: u64, payload: u64) -> Self {
        Self {
            total: NonZeroU32::new(at_most_u32(total)).unwrap_or(NonZeroU32::MIN),
            payload: at_most_u32(payload),
        }
    }

    pub(super) fn total(self) -> u64 {
        self.total.get().into()
    }

    pub(super) fn payload(self) -> u64 {
        self.payload.into()
    }
}

/// The tracked streams, ordered by key.
#[derive(Debug)]
pub(super) struct StreamRegistry {
    pub(super) tracked: Vec<TrackedStream>,
    /// The items of the configuration that [`TrackedStream::rule`] refers to.
    pub(super) rules: Vec<StreamRule>,
    /// The time from which [`TrackedStream::fresh_at`] counts.
    origin: Instant,
    /// The groups of the stream whose groups changed last: the next one often has the same, and shares them.
    pub(super) last_groups: NameList,
    /// The part of all keys that this exporter polls; `None` is all.
    shard: Option<Shard>,
    /// The most streams that are tracked without being named.
    limit: usize,
    /// Keys that are tracked since before the current turn of SCAN, and that it has not found yet. Most keys that it finds
    /// are among them, and looked up in no other list.
    not_found: HashSet<Name>,
    /// Keys that the current turn found and that are not tracked: those for which there is a place, the first by name.
    candidates: BTreeSet<Name>,
    /// Further keys whose streams are known to have groups: these come first.
    with_groups: BTreeSet<Name>,
    /// Further keys, the first by name, up to the limit.
    spare: BTreeSet<Name>,
    /// The number of keys found beyond these.
    surplus: usize,
    /// True once the current turn found more keys than there are places.
    is_over: bool,
    /// Number of keys that the current turn may still ask for their groups.
    probes_left: usize,
    /// The number of turns that were started.
    turn: usize,
    /// Streams that the limit leaves out, as of the last turn, or more if the current turn has found more.
    pub(super) left_out: usize,
    was_cut: bool,
}

impl StreamRegistry {
    /// Returns a registry of the streams that the configuration names.
    pub(super) fn new(target: &Target, shard: Option<Shard>) -> Self {
        let mut streams = Self {
            tracked: Vec::new(),
            rules: target.streams.clone(),
            origin: now(),
            last_groups: no_names(),
            shard,
            limit: target.limits.streams,
            not_found: HashSet::new(),
            candidates: BTreeSet::new(),
            with_groups: BTreeSet::new(),
            spare: BTreeSet::new(),
            surplus: 0,
            is_over: false,
            probes_left: 0,
            turn: 0,
            left_out: 0,
            was_cut: false,
        };
        for key in target.streams.iter().filter_map(|rule| rule.key.literal()) {
            let key = Name::from(&*key);
            if streams.is_ours(&key) {
                streams.track(key, true);
            }
        }
        streams
    }

    /// Returns a registry for another configuration. Streams that both select stay tracked, up to the limit, as
    /// finding them again would take a turn of SCAN and lose their state.
    pub(super) fn successor(self, target: &Target, shard: Option<Shard>) -> Self {
        let mut next = Self { origin: self.origin, ..Self::new(target, shard) };
        for known in self.tracked {
            let Some(rule) = selection::rule_for(&next.rules, known.key.as_bytes()) else { continue };
            // The new configuration may or may not report consumers.
            let family = selection::family_of(&next.rules, rule, &known.key);
            let known = TrackedStream { rule, family, groups_with_consumers: no_names(), ..known };
            match next.position(&known.key) {
                Ok(at) => next.tracked[at] = TrackedStream { named: true, ..known },
                Err(at) if next.is_ours(&known.key) && next.places() > 0 => {
                    next.tracked.insert(at, TrackedStream { named: false, ..known });
                }
                Err(_) => {}
            }
        }
        next
    }

    /// Returns true if another configuration selects the same streams.
    pub(super) fn finds_the_same(&self, target: &Target, shard: Option<Shard>) -> bool {
        let keys = |rules: &[StreamRule]| {
            rules.iter().map(|rule| (rule.key.clone(), rule.exclude.clone())).collect::<Vec<_>>()
        };
        (self.shard, self.limit) == (shard, target.limits.streams)
            && keys(&self.rules) == keys(&target.streams)
    }

    /// Notes keys that SCAN found. Returns the keys that the limit might leave out: the caller is to ask whether these
    /// have groups, and to pass those that have to [`found_groups`](Self::found_groups).
    pub(super) fn found(&mut self, keys: Vec<Name>) -> Vec<Name> {
        let mut untracked = Vec::new();
        for key in keys {
            if self.not_found.remove(&key)
                || !self.is_ours(&key)
                || selection::rule_for(&self.rules, key.as_bytes()).is_none()
            {
                continue;
            }
            if self.position(&key).is_err() {
                untracked.push(key);
            }
        }
        // Usually every key is tracked.
        if untracked.is_empty() {
            return Vec::new();
        }
        let mut unknown = Vec::new();
        let places = self.places();
        // If there are many more keys than may be asked in a turn, each turn asks another part of them.
        let parts = self.left_out.div_ceil(PROBES_PER_TURN).max(1);
        for key in untracked {
            if self.with_groups.contains(&key)
                || self.spare.contains(&key)
                || !self.candidates.insert(key.clone())
            {
                continue;
            }
            if !self.is_over && self.candidates.len() <= places {
                continue;
            }
            // Until now there was a place for each; from here on, groups decide.
            let asked = if self.is_over { vec![key] } else { self.candidates.iter().cloned().collect() };
            self.is_over = true;
            let is_due = |key: &Name| usize::from(crc16(key.as_bytes())) % parts == self.turn % parts;
            let asked: Vec<_> = asked.into_iter().filter(is_due).take(self.probes_left).collect();
            self.probes_left -= asked.len();
            unknown.extend(asked);
            if self.candidates.len() <= places {
                continue;
            }
            let Some(last) = self.candidates.pop_last() else { continue };
            self.spare.insert(last);
            if self.spare.len() > self.limit {
                self.spare.pop_last();
                self.surplus += 1;
            }
        }
        unknown
    }

    /// Notes that a stream that is not tracked has groups.
    pub(super) fn found_groups(&mut self, key: Name) {
        if self.with_groups.len() < self.limit {
            if !self.candidates.remove(&key) && !self.spare.remove(&key) {
                self.surplus = self.surplus.saturating_sub(1);
            }
            self.with_groups.insert(key);
        }
    }

    /// Returns how many more streams may be tracked.
    fn places(&self) -> usize {
        self.limit.saturating_sub(self.tracked.iter().filter(|stream| !stream.named).count())
    }

    /// Returns true if a key belongs to this exporter's shard. All bytes of the key count, whatever its hash tag.
    fn is_ours(&self, key: &Name) -> bool {
        self.shard.is_none_or(|Shard { index, of }| crc16(key.as_bytes()) % of == index)
    }

    /// Tracks the keys found so far, up to the limit.
    pub(super) fn admit(&mut self) {
        let left_out = self.admit_candidates();
        self.left_out = self.left_out.max(left_out);
    }

    /// Tracks candidates up to the limit: streams with groups before others, then by name. Tracked streams stay, unless
    /// they have no group and make place for one that has. Returns how many candidates are left out.
    fn admit_candidates(&mut self) -> usize {
        let dropped = self.drop_without_groups(self.with_groups.len().saturating_sub(self.places()));
        let places = self.places();
        for _ in 0..places {
            let groupless = || self.candidates.pop_first().or_else(|| self.spare.pop_first());
            let Some(key) = self.with_groups.pop_first().or_else(groupless) else { break };
            self.track(key, false);
        }
        self.with_groups.len() + self.candidates.len() + self.spare.len() + self.surplus + dropped
    }

    /// Drops up to `count` streams that have no group, the last by name first. Returns how many it dropped.
    fn drop_without_groups(&mut self, count: usize) -> usize {
        let mut left = count;
        if left > 0 {
            let mut kept: Vec<_> = std::mem::take(&mut self.tracked).into_iter().rev().collect();
            kept.retain(|stream| {
                let is_dropped = left > 0 && !stream.named && stream.has_groups == Some(false);
                if is_dropped {
                    left -= 1;
                    self.not_found.remove(&stream.key);
                }
                !is_dropped
            });
            self.tracked = kept.into_iter().rev().collect();
        }
        count - left
    }

    /// Ends a complete turn: a key that it did not find is gone, unless its stream was read last. A key may move from
    /// a node that was not walked yet to one that was, and the next reading shows whether it exists.
    pub(super) fn end_turn(&mut self) {
        let not_found = &self.not_found;
        let is_kept = |tracked: &TrackedStream| {
            tracked.named || tracked.was_read() || !not_found.contains(&tracked.key)
        };
        self.tracked.retain(is_kept);
        self.left_out = self.admit_candidates();
        self.begin_turn();
    }

    /// Ends a turn that missed keys.
    pub(super) fn end_incomplete_turn(&mut self) {
        self.admit();
        self.begin_turn();
    }

    /// Starts a new turn.
    pub(super) fn begin_turn(&mut self) {
        // The list has grown by doubling.
        self.tracked.shrink_to_fit();
        self.not_found.clear();
        self.not_found.extend(self.tracked.iter().map(|tracked| tracked.key.clone()));
        self.candidates.clear();
        self.with_groups.clear();
        self.spare.clear();
        self.surplus = 0;
        self.is_over = false;
        self.probes_left = PROBES_PER_TURN;
        self.turn += 1;
    }

    /// Drops missing streams that a glob had found.
    pub(super) fn forget_missing(&mut self) {
        let Self { tracked, not_found, .. } = self;
        tracked.retain(|tracked| {
            let is_kept = tracked.named || tracked.problem != Some(KeyError::Missing);
            if !is_kept {
                not_found.remove(&tracked.key);
            }
            is_kept
        });
    }

    /// Notes that the streams at these positions are due. The others are left out by plan, so their values stay fresh.
    pub(super) fn note_due(&mut self, due: &[usize], now: Instant) {
        if due.len() == self.tracked.len() {
            return;
        }
        let now = since(self.origin, now);
        let mut is_due = vec![false; self.tracked.len()];
        due.iter().for_each(|at| is_due[*at] = true);
        for (stream, _) in self.tracked.iter_mut().zip(is_due).filter(|(_, is_due)| !is_due) {
            stream.fresh_at = stream.fresh_at.map(|_| now);
        }
    }

    /// Notes that a report shows the readings of a poll, except those of `late` streams, which are read first next time:
    /// these show the reading before, if there was one.
    pub(super) fn note_shown(&mut self, poll_number: u64, late: &[Name]) {
        for key in late {
            let Ok(at) = self.position(key) else { continue };
            let stream = &mut self.tracked[at];
            stream.last_read = poll_number.saturating_sub(1);
            stream.fresh_at = stream.fresh_at.or(stream.read_at);
        }
        for stream in self.tracked.iter_mut().filter(|stream| stream.last_read == poll_number) {
            stream.fresh_at = stream.read_at;
        }
    }

    /// Returns the report without the values of streams that were last fresh before `oldest`; `None` keeps all. A stream
    /// of a family stays, as one that cannot be read.
    pub(super) fn without_stale(&self, report: &Arc<Report>, oldest: Option<Instant>) -> Arc<Report> {
        let oldest = oldest.map(|oldest| since(self.origin, oldest));
        let is_stale = |stream: &TrackedStream| stream.fresh_at.is_some() && stream.fresh_at < oldest;
        if !self.tracked.iter().any(is_stale) {
            return Arc::clone(report);
        }
        let is_stale = |key| self.position(key).is_ok_and(|at| is_stale(&self.tracked[at]));
        let kept = report.streams.iter().filter_map(|stream| match &stream.family {
            _ if stream.values.is_none() || !is_stale(&stream.key) => Some(stream.clone()),
            Some(_) => Some(stream.unread()),
            None => None,
        });
        Arc::new(Report { streams: kept.collect(), ..**report })
    }

    /// Returns when the values were fresh that were read longest ago, of those that were fresh since `oldest`.
    pub(super) fn oldest_reading(&self, oldest: Option<Instant>) -> Option<Instant> {
        let oldest = oldest.map(|oldest| since(self.origin, oldest));
        let fresh = self.tracked.iter().map(|stream| stream.fresh_at).filter(|at| *at >= oldest);
        fresh.flatten().min().map(|at| self.origin + at.get())
    }

    /// Returns a time as [`TrackedStream`] has it.
    pub(super) fn time_of(&self, at: Instant) -> Micros {
        since(self.origin, at)
    }

    /// Returns true if the limit began or ceased to leave out streams since the last call.
    pub(super) fn limit_changed(&mut self) -> bool {
        let is_cut = self.left_out > 0;
        std::mem::replace(&mut self.was_cut, is_cut) != is_cut
    }

    /// Returns true if the last reply about a stream had so many groups that it is read less often.
    pub(super) fn has_many_groups(&self, key: &Name) -> bool {
        self.position(key).is_ok_and(|at| self.tracked[at].has_many_groups())
    }

    /// Returns the size of the entries in the last reply about a stream.
    pub(super) fn payload_of(&self, key: &Name) -> Option<u64> {
        let at = self.position(key).ok()?;
        self.tracked[at].reply_bytes.map(ReplyBytes::payload)
    }

    /// Notes consumers of a stream's group that the limit leaves out.
    pub(super) fn note_consumers_left_out(&mut self, key: &Name, consumers: usize) {
        if let Ok(at) = self.position(key) {
            self.tracked[at].left_out.add_consumers(consumers);
        }
    }

    pub(super) fn problem_of(&self, key: &Name) -> Option<KeyError> {
        self.position(key).ok().and_then(|at| self.tracked[at].problem)
    }

    fn position(&self, key: &Name) -> Result<usize, usize> {
        self.tracked.binary_search_by(|tracked| tracked.key.cmp(key))
    }

    fn track(&mut self, key: Name, named: bool) {
        let Some(rule) = selection::rule_for(&self.rules, key.as_bytes()) else { return };
        if let Err(at) = self.position(&key) {
            let family = selection::family_of(&self.rules, rule, &key);
            if self.tracked.len() == self.tracked.capacity() {
                // By an eighth rather than to twice the size: there is one list, and it may be long.
                self.tracked.reserve_exact(self.tracked.len() / 8 + 16);
            }
            self.tracked.insert(at, TrackedStream { family, ..TrackedStream::new(key, rule, named) });
        }
    }
}

/// Returns the time from `origin` to `at`; zero if that is earlier.
fn since(origin: Instant, at: Instant) -> Micros {
    at.saturating_duration_since(origin).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::config::topology::Topology;
    use crate::config::{Limits, Role};
    use redis_stream_core::glob::Glob;
    use redis_stream_core::redis_url::{Address, Endpoint};
    use redis_stream_core::tls::Tls;
    use redis_stream_lag::report::{StreamReport, StreamValues};
    use std::collections::BTreeMap;

    fn rule(key: &str, exclude: &[&str]) -> StreamRule {
        StreamRule {
            key: Glob::new(key),
            exclude: exclude.iter().map(|glob| Glob::new(*glob)).collect(),
            include_groups: vec![Glob::new("*")],
            exclude_groups: Vec::new(),
            consumers: true,
            window: std::time::Duration::ZERO,
            family: None,
        }
    }

    fn streams(rules: Vec<StreamRule>, limit: usize) -> StreamRegistry {
        StreamRegistry::new(&target(rules, limit), None)
    }

    fn target(rules: Vec<StreamRule>, limit: usize) -> Target {
        Target {
            name: "t".to_owned(),
            topology: Topology::Standalone(Endpoint::Tcp(Address { host: "h".to_owned(), port: 1 })),
            allowed_nodes: None,
            tls: Tls::default(),
            db: 0,
            username: None,
            password: None,
            login_lifetime: None,
            role: Role::Master,
            labels: BTreeMap::new(),
            streams: rules,
            limits: Limits { streams: limit, groups_per_stream: 10, consumers_per_group: 10 },
        }
    }

    fn keys(streams: &StreamRegistry) -> Vec<String> {
        streams.tracked.iter().map(|tracked| tracked.key.to_string()).collect()
    }

    fn turn(streams: &mut StreamRegistry, found: &[&str]) {
        streams.begin_turn();
        streams.found(found.iter().map(|key| Name::from(*key)).collect());
        streams.end_turn();
    }

    #[test]
    fn named_streams_are_watched_from_the_start_and_stay() {
        let mut streams = streams(vec![rule("b", &[]), rule("a*", &["ax*"])], 10);
        assert_eq!(keys(&streams), ["b"]);
        turn(&mut streams, &["a1", "ax1", "c", "a0", "a1"]);
        assert_eq!(keys(&streams), ["a0", "a1", "b"]);
        turn(&mut streams, &["a1"]);
        assert_eq!(keys(&streams), ["a1", "b"]);
    }

    #[test]
    fn past_the_limit_those_already_watched_stay_and_others_come_by_name() {
        let mut streams = streams(vec![rule("*", &[])], 3);
        turn(&mut streams, &["m", "z", "k", "y", "n"]);
        assert_eq!((keys(&streams).join(" ").as_str(), streams.left_out), ("k m n", 2));
        turn(&mut streams, &["m", "z", "k", "y", "n", "a"]);
        assert_eq!((keys(&streams).join(" ").as_str(), streams.left_out), ("k m n", 3));
        turn(&mut streams, &["m", "z", "y", "n", "a"]);
        assert_eq!((keys(&streams).join(" ").as_str(), streams.left_out), ("a m n", 2));
        turn(&mut streams, &["z"]);
        assert_eq!((keys(&streams).join(" ").as_str(), streams.left_out), ("z", 0));
    }

    #[test]
    fn streams_with_groups_come_before_those_without() {
        let mut streams = streams(vec![rule("*", &[])], 3);
        let found = |keys: &[&str]| keys.iter().map(|key| Name::from(*key)).collect::<Vec<_>>();
        streams.begin_turn();
        // Found before the limit is reached, and left out by name: it must be asked all the same.
        let unknown = streams.found(found(&["orders", "a", "b", "c", "d"]));
        assert_eq!(unknown, found(&["a", "b", "c", "orders", "d"]));
        streams.found_groups(Name::from("orders"));
        streams.end_turn();
        assert_eq!((keys(&streams).join(" ").as_str(), streams.left_out), ("a b orders", 2));

        for stream in &mut streams.tracked {
            (stream.last_read, stream.has_groups) = (1, Some(stream.key.as_bytes() == b"orders"));
        }
        let unknown = streams.found(found(&["orders", "a", "b", "c", "d", "late"]));
        assert_eq!(unknown, found(&["c", "d", "late"]));
        streams.found_groups(Name::from("late"));
        streams.end_turn();
        assert_eq!((keys(&streams).join(" ").as_str(), streams.left_out), ("a late orders", 3));
    }

    #[test]
    fn named_streams_are_outside_the_limit() {
        let mut streams = streams(vec![rule("zz", &[]), rule("yy", &[]), rule("*", &[])], 2);
        turn(&mut streams, &["a", "b", "c", "zz"]);
        assert_eq!((keys(&streams).join(" ").as_str(), streams.left_out), ("a b yy zz", 1));
    }

    #[test]
    fn what_the_limit_leaves_out_is_known_between_turns_and_during_the_next() {
        let mut streams = streams(vec![rule("*", &[])], 1);
        turn(&mut streams, &["a", "b", "c"]);
        streams.admit();
        assert_eq!(streams.left_out, 2);
        for (found, expected) in [("a", 2), ("b", 2), ("c", 2), ("d", 3)] {
            streams.found(vec![Name::from(found)]);
            streams.admit();
            assert_eq!(streams.left_out, expected, "{found}");
        }
        turn(&mut streams, &["a", "b"]);
        assert_eq!(streams.left_out, 1);
    }

    #[test]
    fn what_was_found_so_far_can_be_watched_before_the_turn_is_over() {
        let mut streams = streams(vec![rule("*", &[])], 10);
        streams.begin_turn();
        streams.found(vec![Name::from("b")]);
        streams.admit();
        assert_eq!(keys(&streams), ["b"]);
        streams.found(vec![Name::from("a")]);
        streams.end_turn();
        assert_eq!(keys(&streams), ["a", "b"]);
    }

    #[test]
    fn a_stream_that_is_deleted_and_created_again_within_a_turn_is_watched_at_once() {
        let mut streams = streams(vec![rule("*", &[])], 10);
        turn(&mut streams, &["a", "b"]);
        streams.tracked[1].problem = Some(KeyError::Missing);
        streams.forget_missing();
        assert_eq!(keys(&streams), ["a"]);
        assert!(streams.found(vec![Name::from("a"), Name::from("b")]).is_empty());
        streams.admit();
        assert_eq!(keys(&streams), ["a", "b"]);
        // A key that is not found stays only if it could be read.
        turn(&mut streams, &["a"]);
        assert_eq!(keys(&streams), ["a"]);
    }

    #[test]
    fn values_are_as_old_as_their_own_reading_unless_they_wait_by_plan() {
        let mut streams = streams(vec![rule("*", &[])], 10);
        turn(&mut streams, &["a", "b", "c"]);
        let at = |seconds| now() + Duration::from_secs(seconds);
        let shown = ["a", "b", "c"]
            .map(|key| StreamReport::new(Name::from(key), Some(StreamValues::default()), Vec::new()).into());
        let report = Arc::new(Report { streams: shown.into(), ..Report::default() });
        let read = |streams: &mut StreamRegistry, poll_number, which: &[usize], late: &[Name]| {
            streams.note_due(&[0, 1], at(100 * poll_number));
            let read_at = streams.time_of(at(100 * poll_number));
            for stream in which {
                let stream = &mut streams.tracked[*stream];
                (stream.last_read, stream.read_at) = (poll_number, Some(read_at));
            }
            streams.note_shown(poll_number, late);
        };
        let fresh = |streams: &StreamRegistry, seconds| {
            let kept = streams.without_stale(&report, Some(at(seconds)));
            kept.streams.iter().map(|stream| stream.key.to_string()).collect::<String>()
        };
        read(&mut streams, 1, &[0, 1, 2], &[]);
        assert_eq!(fresh(&streams, 50), "abc");
        // a was read, b was due and late, c was left out by plan.
        read(&mut streams, 2, &[0, 1], &[Name::from("b")]);
        assert_eq!((fresh(&streams, 50).as_str(), fresh(&streams, 150).as_str()), ("abc", "ac"));
        assert_eq!(streams.tracked[1].last_read, 1, "it is read first next time");
        let oldest = streams.oldest_reading(Some(at(50))).unwrap();
        assert!(oldest >= at(99) && oldest < at(101), "{oldest:?}");
        assert_eq!(streams.oldest_reading(Some(at(250))), None);

        // A stream of a family stays, as one that cannot be read.
        let member = StreamReport {
            family: Some(Name::from("f")),
            ..StreamReport::new(Name::from("b"), Some(StreamValues::default()), Vec::new())
        };
        let report = Arc::new(Report { streams: vec![member.into()], ..Report::default() });
        let kept = |seconds| {
            let kept = streams.without_stale(&report, Some(at(seconds)));
            (kept == report, kept.streams[0].refused, kept.streams[0].values.is_some())
        };
        assert_eq!((kept(50), kept(150)), ((true, false, true), (false, true, false)));
    }

    #[test]
    fn a_tracked_stream_is_small() {
        // The table in docs/performance.md.
        assert!(size_of::<TrackedStream>() <= 104, "{}", size_of::<TrackedStream>());
    }

    #[test]
    fn sizes_of_replies_end_at_four_gib() {
        let bytes = |total, payload| {
            let bytes = ReplyBytes::new(total, payload);
            (bytes.total(), bytes.payload())
        };
        let most = u64::from(u32::MAX);
        assert_eq!(bytes(900, 400), (900, 400));
        assert_eq!(bytes(most + 500, most + 1), (most, most));
    }

    #[test]
    fn another_configuration_goes_on_with_what_it_selects_too() {
        let mut before = streams(vec![rule("b", &[]), rule("a*", &[])], 10);
        turn(&mut before, &["a1", "a2", "a3", "ax"]);
        for (at, tracked) in (1..).zip(&mut before.tracked) {
            (tracked.last_read, tracked.groups) = (at, Arc::new([Name::from("g")].into()));
        }
        let rules = vec![rule("a2", &[]), rule("new", &[]), rule("*", &["ax"])];
        let mut next = before.successor(&target(rules, 2), None);
        let shown = |streams: &StreamRegistry| {
            let of = |one: &TrackedStream| {
                format!("{}:{}:{}:{}", one.key, one.rule.get(), one.named, one.last_read)
            };
            streams.tracked.iter().map(of).collect::<Vec<_>>().join(" ")
        };
        // Up to the limit by name, plus the named streams.
        assert_eq!(shown(&next), "a1:2:false:1 a2:0:true:2 a3:2:false:3 new:1:true:0");
        assert_eq!(**next.tracked[0].groups, [Name::from("g")]);
        // A turn in which they were not found yet does not drop them.
        turn(&mut next, &["a2"]);
        assert_eq!(keys(&next), ["a1", "a2", "a3", "new"]);

        let part = next.successor(&target(vec![rule("*", &[])], 10), Some(Shard { index: 0, of: 3 }));
        let is_ours = |key: &&str| crc16(key.as_bytes()).is_multiple_of(3);
        assert_eq!(
            keys(&part),
            ["a1", "a2", "a3", "new"].iter().copied().filter(is_ours).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_stream_belongs_to_the_family_of_its_rule_or_to_the_one_with_its_name() {
        let family = |key: &str, name: &str| StreamRule { family: Some(Name::from(name)), ..rule(key, &[]) };
        let shown = |streams: &StreamRegistry| {
            let of = |one: &TrackedStream| match &one.family {
                Some(family) => format!("{}:{family}", one.key),
                None => one.key.to_string(),
            };
            streams.tracked.iter().map(of).collect::<Vec<_>>().join(" ")
        };
        let rules = vec![
            rule("room:hall", &[]),
            family("room:*", "rooms"),
            family("chat:*", "rooms"),
            rule("*", &[]),
        ];
        let mut streams = streams(rules, 10);
        turn(&mut streams, &["chat:1", "log", "room:1", "room:hall", "rooms"]);
        assert_eq!(shown(&streams), "chat:1:rooms log room:1:rooms room:hall rooms:rooms");
        let rules = vec![family("room:*", "room:*"), rule("*", &[])];
        let next = streams.successor(&target(rules, 10), None);
        assert_eq!(shown(&next), "chat:1 log room:1:room:* room:hall:room:* rooms");
    }

    #[test]
    fn shards_cover_each_key_once_whether_it_is_found_or_named() {
        let keys: Vec<String> = (0..200).map(|n| format!("s{n}")).collect();
        let mut tracked = Vec::new();
        for index in 0..3 {
            let target = target(vec![rule("named", &[]), rule("*", &[])], 1_000);
            let mut streams = StreamRegistry::new(&target, Some(Shard { index, of: 3 }));
            turn(&mut streams, &keys.iter().map(String::as_str).collect::<Vec<_>>());
            let part = self::keys(&streams);
            assert!(part.len() > 40, "{}", part.len());
            tracked.extend(part);
        }
        tracked.sort();
        let mut all = keys;
        all.push("named".to_owned());
        all.sort();
        assert_eq!(tracked, all);
        // Must never change with a version, or two exporters would poll the same key.
        assert_eq!([&b"orders"[..], b"{a}x", b"123456789"].map(|key| crc16(key) % 3), [0, 2, 1]);
    }
}
