//! The streams of a target that are polled, and what is known of each from poll to poll.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{Shard, StreamRule, Target};
use crate::poller::error::KeyError;
use crate::poller::selection::{self, LeftOut, RuleIndex};
use crate::poller::slots::{crc16, slot};
use redis_stream_core::name::Name;

/// A stream that is polled.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// Its key.
    pub(super) key: Name,
    /// Its slot, should it lie in a cluster.
    pub(super) slot: u16,
    /// The item of the configuration that rules it.
    pub(super) rule: RuleIndex,
    /// Whether the configuration names it, rather than a glob having found it.
    pub(super) named: bool,
    /// Size of the last replies, and the part of it that was entries, in bytes; `None` before the first.
    pub(super) reply_bytes: Option<ReplyBytes>,
    /// The poll that last reached it; 0 before the first.
    pub(super) last_read: u64,
    /// What was wrong with it last; logged when it changes.
    pub(super) problem: Option<KeyError>,
    /// The groups that were reported last, in the order of their names.
    pub(super) groups: Vec<Name>,
    /// Those of them whose consumers are read along with the stream.
    pub(super) groups_with_consumers: Arc<[Name]>,
    /// Whether any limit cut its groups or consumers last; logged when it changes.
    pub(super) left_out: LeftOut,
}

impl Watched {
    /// Whether the last try to read it brought something.
    fn was_read(&self) -> bool {
        self.last_read > 0 && self.problem.is_none()
    }
}

/// Size of the replies about one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyBytes {
    /// All of it.
    pub(super) total: u64,
    /// First and last entry.
    pub(super) payload: u64,
}

/// All of them, in the order of their keys.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// The streams.
    pub(super) watched: Vec<Watched>,
    /// What selects them: `Watched::rule` is a position here.
    pub(super) rules: Vec<StreamRule>,
    /// Which part of all keys may be watched.
    shard: Option<Shard>,
    limit: usize,
    /// Found in the present turn of SCAN, watched or not.
    seen: BTreeSet<Name>,
    /// Found in the present turn and not watched: the first of them by name, as many as could be of use.
    candidates: BTreeSet<Name>,
    /// Found in the present turn beyond those.
    surplus: usize,
    /// Streams that the limit leaves out, as of the last turn of SCAN, or more if this one has found more.
    pub(super) left_out: usize,
}

impl Catalogue {
    /// Begins with the streams that the configuration names.
    pub(super) fn new(target: &Target, shard: Option<Shard>) -> Self {
        let mut catalogue = Self {
            watched: Vec::new(),
            rules: target.streams.clone(),
            shard,
            limit: target.limits.streams,
            seen: BTreeSet::new(),
            candidates: BTreeSet::new(),
            surplus: 0,
            left_out: 0,
        };
        for key in target.streams.iter().filter_map(|rule| rule.key.literal()) {
            let key = Name::from(&*key);
            if catalogue.is_ours(&key) {
                catalogue.watch(key, true);
            }
        }
        catalogue
    }

    /// One for another configuration. It goes on with the streams of this one that are selected there too, as far as
    /// the limit allows: to find them again would take a turn of SCAN, and by then all that is known of them was
    /// forgotten.
    pub(super) fn successor(self, target: &Target, shard: Option<Shard>) -> Self {
        let mut next = Self::new(target, shard);
        for known in self.watched {
            let Some(rule) = selection::rule_for(&next.rules, known.key.as_bytes()) else { continue };
            // Whether their consumers are wanted may have changed.
            let known = Watched { rule, groups_with_consumers: Arc::default(), ..known };
            match next.position(&known.key) {
                Ok(at) => next.watched[at] = Watched { named: true, ..known },
                Err(at) if next.is_ours(&known.key) && next.watched.len() < next.limit => {
                    next.watched.insert(at, Watched { named: false, ..known });
                }
                Err(_) => {}
            }
        }
        next
    }

    /// Whether another configuration watches the same streams.
    pub(super) fn finds_the_same(&self, target: &Target, shard: Option<Shard>) -> bool {
        let keys = |rules: &[StreamRule]| {
            rules.iter().map(|rule| (rule.key.clone(), rule.exclude.clone())).collect::<Vec<_>>()
        };
        (self.shard, self.limit) == (shard, target.limits.streams)
            && keys(&self.rules) == keys(&target.streams)
    }

    /// Notes a key that SCAN found.
    pub(super) fn found(&mut self, key: Name) {
        if !self.is_ours(&key) || selection::rule_for(&self.rules, key.as_bytes()).is_none() {
            return;
        }
        if self.position(&key).is_ok() {
            self.seen.insert(key);
        } else if self.candidates.insert(key) && self.candidates.len() > self.limit {
            self.candidates.pop_last();
            self.surplus += 1;
        }
    }

    /// Whether a key belongs to the part that is polled here: by all of its bytes, whatever its hash tag.
    fn is_ours(&self, key: &Name) -> bool {
        self.shard.is_none_or(|Shard { index, of }| crc16(key.as_bytes()) % of == index)
    }

    /// Watches what was found so far.
    pub(super) fn admit(&mut self) {
        let left_out = self.admit_by_name();
        self.left_out = self.left_out.max(left_out);
    }

    /// Watches candidates as far as the limit allows: those already watched stay, then by name. Returns how
    /// many it leaves out.
    fn admit_by_name(&mut self) -> usize {
        let places = self.limit.saturating_sub(self.watched.len());
        let left_out = self.candidates.len().saturating_sub(places) + self.surplus;
        for _ in 0..places {
            let Some(key) = self.candidates.pop_first() else { break };
            self.seen.insert(key.clone());
            self.watch(key, false);
        }
        left_out
    }

    /// Ends a turn of SCAN that went over all keys: what it did not find is not there any more. Unless it was read
    /// last: a key can go from a node that was not looked at yet to one that was, and the next reading shows
    /// whether it is there.
    pub(super) fn end_turn(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.watched.retain(|watched| watched.named || watched.was_read() || seen.contains(&watched.key));
        self.left_out = self.admit_by_name();
        self.begin_turn();
    }

    /// Ends a turn of SCAN that could not go over all keys.
    pub(super) fn end_torn_turn(&mut self) {
        self.admit();
        self.begin_turn();
    }

    /// Begins a new turn of SCAN, whatever became of the one before.
    pub(super) fn begin_turn(&mut self) {
        self.seen.clear();
        self.candidates.clear();
        self.surplus = 0;
    }

    /// Drops a stream that a glob had found and that is not there any more.
    pub(super) fn forget_missing(&mut self) {
        self.watched.retain(|watched| watched.named || watched.problem != Some(KeyError::Missing));
    }

    /// What was wrong with a stream last.
    pub(super) fn problem_of(&self, key: &Name) -> Option<KeyError> {
        self.position(key).ok().and_then(|at| self.watched[at].problem)
    }

    fn position(&self, key: &Name) -> Result<usize, usize> {
        self.watched.binary_search_by(|watched| watched.key.cmp(key))
    }

    fn watch(&mut self, key: Name, named: bool) {
        let Some(rule) = selection::rule_for(&self.rules, key.as_bytes()) else { return };
        if let Err(at) = self.position(&key) {
            self.watched.insert(
                at,
                Watched {
                    slot: slot(&key),
                    key,
                    rule,
                    named,
                    reply_bytes: None,
                    last_read: 0,
                    problem: None,
                    groups: Vec::new(),
                    groups_with_consumers: Arc::default(),
                    left_out: LeftOut::default(),
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topology::Topology;
    use crate::config::{Limits, Role};
    use redis_stream_core::glob::Glob;
    use redis_stream_core::redis_url::{Address, Place};
    use redis_stream_core::tls::Tls;
    use std::collections::BTreeMap;

    fn rule(key: &str, exclude: &[&str]) -> StreamRule {
        StreamRule {
            key: Glob::new(key),
            exclude: exclude.iter().map(|glob| Glob::new(*glob)).collect(),
            include_groups: vec![Glob::new("*")],
            exclude_groups: Vec::new(),
            consumers: true,
            window: std::time::Duration::ZERO,
        }
    }

    fn catalogue(rules: Vec<StreamRule>, limit: usize) -> Catalogue {
        Catalogue::new(&target(rules, limit), None)
    }

    fn target(rules: Vec<StreamRule>, limit: usize) -> Target {
        Target {
            name: "t".to_owned(),
            topology: Topology::Standalone(Place::Tcp(Address { host: "h".to_owned(), port: 1 })),
            tls: Tls::default(),
            db: 0,
            username: None,
            password: None,
            role: Role::Master,
            labels: BTreeMap::new(),
            streams: rules,
            limits: Limits { streams: limit, groups_per_stream: 10, consumers_per_group: 10 },
        }
    }

    fn keys(catalogue: &Catalogue) -> Vec<String> {
        catalogue.watched.iter().map(|watched| watched.key.to_string()).collect()
    }

    fn turn(catalogue: &mut Catalogue, found: &[&str]) {
        catalogue.begin_turn();
        found.iter().for_each(|key| catalogue.found(Name::from(*key)));
        catalogue.end_turn();
    }

    #[test]
    fn named_streams_are_watched_from_the_start_and_stay() {
        let mut catalogue = catalogue(vec![rule("b", &[]), rule("a*", &["ax*"])], 10);
        assert_eq!(keys(&catalogue), ["b"]);
        turn(&mut catalogue, &["a1", "ax1", "c", "a0", "a1"]);
        assert_eq!(keys(&catalogue), ["a0", "a1", "b"]);
        turn(&mut catalogue, &["a1"]);
        assert_eq!(keys(&catalogue), ["a1", "b"]);
    }

    #[test]
    fn past_the_limit_those_already_watched_stay_and_others_come_by_name() {
        let mut catalogue = catalogue(vec![rule("*", &[])], 3);
        turn(&mut catalogue, &["m", "z", "k", "y", "n"]);
        assert_eq!((keys(&catalogue).join(" ").as_str(), catalogue.left_out), ("k m n", 2));
        turn(&mut catalogue, &["m", "z", "k", "y", "n", "a"]);
        assert_eq!((keys(&catalogue).join(" ").as_str(), catalogue.left_out), ("k m n", 3));
        turn(&mut catalogue, &["m", "z", "y", "n", "a"]);
        assert_eq!((keys(&catalogue).join(" ").as_str(), catalogue.left_out), ("a m n", 2));
        turn(&mut catalogue, &["z"]);
        assert_eq!((keys(&catalogue).join(" ").as_str(), catalogue.left_out), ("z", 0));
    }

    #[test]
    fn what_the_limit_leaves_out_is_known_between_turns_and_during_the_next() {
        let mut catalogue = catalogue(vec![rule("*", &[])], 1);
        turn(&mut catalogue, &["a", "b", "c"]);
        catalogue.admit();
        assert_eq!(catalogue.left_out, 2);
        for (found, expected) in [("a", 2), ("b", 2), ("c", 2), ("d", 3)] {
            catalogue.found(Name::from(found));
            catalogue.admit();
            assert_eq!(catalogue.left_out, expected, "{found}");
        }
        turn(&mut catalogue, &["a", "b"]);
        assert_eq!(catalogue.left_out, 1);
    }

    #[test]
    fn what_was_found_so_far_can_be_watched_before_the_turn_is_over() {
        let mut catalogue = catalogue(vec![rule("*", &[])], 10);
        catalogue.begin_turn();
        catalogue.found(Name::from("b"));
        catalogue.admit();
        assert_eq!(keys(&catalogue), ["b"]);
        catalogue.found(Name::from("a"));
        catalogue.end_turn();
        assert_eq!(keys(&catalogue), ["a", "b"]);
    }

    #[test]
    fn another_configuration_goes_on_with_what_it_selects_too() {
        let mut before = catalogue(vec![rule("b", &[]), rule("a*", &[])], 10);
        turn(&mut before, &["a1", "a2", "a3", "ax"]);
        for (at, watched) in (1..).zip(&mut before.watched) {
            (watched.last_read, watched.groups) = (at, vec![Name::from("g")]);
        }
        let rules = vec![rule("a2", &[]), rule("new", &[]), rule("*", &["ax"])];
        let mut next = before.successor(&target(rules, 4), None);
        let shown = |catalogue: &Catalogue| {
            let of = |one: &Watched| format!("{}:{}:{}:{}", one.key, one.rule.0, one.named, one.last_read);
            catalogue.watched.iter().map(of).collect::<Vec<_>>().join(" ")
        };
        // Past the limit by name, and those that are named in any case.
        assert_eq!(shown(&next), "a1:2:false:1 a2:0:true:2 a3:2:false:3 new:1:true:0");
        assert_eq!(next.watched[0].groups, [Name::from("g")]);
        // A turn in which it was not found yet does not take it away.
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
    fn shards_cover_each_key_once_whether_it_is_found_or_named() {
        let keys: Vec<String> = (0..200).map(|n| format!("s{n}")).collect();
        let mut watched = Vec::new();
        for index in 0..3 {
            let target = target(vec![rule("named", &[]), rule("*", &[])], 1_000);
            let mut catalogue = Catalogue::new(&target, Some(Shard { index, of: 3 }));
            turn(&mut catalogue, &keys.iter().map(String::as_str).collect::<Vec<_>>());
            let part = self::keys(&catalogue);
            assert!(part.len() > 40, "{}", part.len());
            watched.extend(part);
        }
        watched.sort();
        let mut all = keys;
        all.push("named".to_owned());
        all.sort();
        assert_eq!(watched, all);
        // For ever: who polls what must not change with a version.
        assert_eq!([&b"orders"[..], b"{a}x", b"123456789"].map(|key| crc16(key) % 3), [0, 2, 1]);
    }
}
