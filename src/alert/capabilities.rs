//! What a rule can hope for: whether there is anything that it is about, and whether the server can tell what it asks
//! for. For `streamgauge check`, before anybody relies on a rule that never fires.

use crate::alert::condition::{Condition, Operand};
use crate::alert::fact::{Source, Subject};
use crate::alert::rule::Rule;
use redis_stream_lag::report::Report;

/// What decides which facts a server can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerCapabilities {
    /// Whether it counts the entries that are added to a stream and remembers what was deleted: since 7.0.
    pub counts_entries: bool,
    /// Whether it is a replica, which hears of what consumers are given and acknowledge, and of nothing else that
    /// they do.
    pub is_replica: bool,
    /// Major and minor version; 0 where it does not tell. Valkey counts on from Redis 7.2.
    pub release: (u32, u32),
}

/// A fact that some servers cannot tell.
struct Limitation {
    fact: &'static str,
    /// Where the fact is a status, the one that is meant.
    status: Option<&'static str>,
    has: fn(ServerCapabilities) -> bool,
    effect: Effect,
    reason: &'static str,
}

/// What a server does to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The fact is never known there: the rule never fires.
    NeverKnown,
    /// The fact is known, and may be another than what is true.
    MayBeWrong,
}

/// Everything that is not the same on all servers. `lag::loss`, `lag::extent` and `lag::derive` say why.
const LIMITATIONS: &[Limitation] = &[
    Limitation {
        fact: "entries_lost",
        status: None,
        has: |server| !server.counts_entries,
        effect: Effect::NeverKnown,
        reason: "before server 7.0 nothing tells how many entries were added",
    },
    Limitation {
        fact: "entries_lost",
        status: None,
        has: |server| server.is_replica && server.release < (7, 4),
        effect: Effect::MayBeWrong,
        reason: "a replica before 7.4 does not know what a group has read: what it loses while it reads is not seen",
    },
    Limitation {
        fact: "retention_used_ratio",
        status: None,
        has: |server| !server.counts_entries,
        effect: Effect::NeverKnown,
        reason: "before server 7.0 trimming leaves no trace",
    },
    Limitation {
        fact: "status",
        status: Some("losing"),
        has: |server| !server.counts_entries,
        effect: Effect::MayBeWrong,
        reason: "before server 7.0 no group is seen to lose entries",
    },
    Limitation {
        fact: "consumers",
        status: None,
        // Before, nobody is a consumer who was never given an entry, on the master neither.
        has: |server| {
            server.is_replica && !(1..7).contains(&server.release.0) && !matches!(server.release, (7, 0 | 1))
        },
        effect: Effect::MayBeWrong,
        reason: "a replica does not know of consumers that were never given an entry",
    },
    Limitation {
        fact: "status",
        status: Some("abandoned"),
        has: |server| server.is_replica,
        effect: Effect::MayBeWrong,
        reason: "a replica does not know which consumers are silent, nor those that were never given an entry: abandoned and stalled may stand for each other",
    },
    Limitation {
        fact: "status",
        status: Some("stalled"),
        has: |server| server.is_replica,
        effect: Effect::MayBeWrong,
        reason: "a replica does not know which consumers are silent, nor those that were never given an entry: abandoned and stalled may stand for each other",
    },
];

impl ServerCapabilities {
    /// Why a condition is not to be relied on there; `None` where it is.
    #[must_use]
    pub fn limitation(self, condition: &Condition) -> Option<(Effect, &'static str)> {
        let asked = match condition.operand {
            Operand::Status(status) => Some(status),
            Operand::Number(_) => None,
        };
        let limitation = LIMITATIONS.iter().find(|limitation| {
            limitation.fact == condition.fact.name
                && limitation.status.is_none_or(|status| asked == Some(status))
                && (limitation.has)(self)
        })?;
        Some((limitation.effect, limitation.reason))
    }
}

/// Whether the server counts the entries that are added, as far as a report shows it: `None` where no stream was read.
#[must_use]
pub fn counts_entries(report: &Report) -> Option<bool> {
    let mut read = report.streams.iter().filter_map(|stream| stream.values.as_ref());
    read.next().map(|values| values.entries_added.is_some())
}

/// Whether a report holds anything that a rule is about. That its target is one that the rule selects is not
/// looked at.
#[must_use]
pub fn is_about_any(rule: &Rule, report: &Report) -> bool {
    let selector = &rule.selector;
    let mut streams = report.streams.iter().filter(|stream| selector.stream.matches(stream.key.as_bytes()));
    match rule.condition.fact.subject() {
        Subject::Target => true,
        Subject::Stream => streams.next().is_some(),
        Subject::Group => streams.flat_map(|stream| &stream.groups).any(|group| {
            let is_there = group.named || !rule.condition.fact.only_named();
            is_there && selector.group.matches(group.name.as_bytes())
        }),
    }
}

/// Whether a rule knows nothing before a window of history was seen.
#[must_use]
pub fn waits_for_history(rule: &Rule) -> bool {
    matches!(rule.condition.fact.source, Source::Status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::fact::FACTS;
    use crate::alert::rule::test_rule;
    use crate::alert::test_support::{group, missing_group, report, stream, values};
    use redis_stream_core::glob::Glob;

    const MASTER: ServerCapabilities =
        ServerCapabilities { counts_entries: true, is_replica: false, release: (7, 4) };

    const SERVERS: [(&str, ServerCapabilities); 4] = [
        ("7.4", MASTER),
        ("6.2", ServerCapabilities { counts_entries: false, release: (6, 2), ..MASTER }),
        ("replica of 7.4", ServerCapabilities { is_replica: true, ..MASTER }),
        ("replica of 7.0", ServerCapabilities { is_replica: true, release: (7, 0), ..MASTER }),
    ];

    #[test]
    fn some_facts_are_not_to_be_had_everywhere() {
        let lines: Vec<_> = SERVERS
            .iter()
            .flat_map(|(name, server)| {
                let exprs = [
                    "entries_lost > 0",
                    "retention_used_ratio > 1",
                    "consumers < 1",
                    "lag > 1",
                    "group_up < 1",
                ]
                .into_iter()
                .chain([
                    "status == losing",
                    "status != ok",
                    "status == stalled",
                    "status != abandoned",
                ]);
                exprs.filter_map(move |expr| {
                    let (effect, _) = server.limitation(&Condition::parse(expr).unwrap())?;
                    Some(format!("{name}: {expr}: {effect:?}"))
                })
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        6.2: entries_lost > 0: NeverKnown
        6.2: retention_used_ratio > 1: NeverKnown
        6.2: status == losing: MayBeWrong
        replica of 7.4: consumers < 1: MayBeWrong
        replica of 7.4: status == stalled: MayBeWrong
        replica of 7.4: status != abandoned: MayBeWrong
        replica of 7.0: entries_lost > 0: MayBeWrong
        replica of 7.0: status == stalled: MayBeWrong
        replica of 7.0: status != abandoned: MayBeWrong
        ");
    }

    #[test]
    fn the_table_names_facts_and_statuses_that_exist() {
        for limitation in LIMITATIONS {
            let fact = FACTS.iter().find(|fact| fact.name == limitation.fact).expect(limitation.fact);
            assert_eq!(
                limitation.status.is_some(),
                matches!(fact.source, Source::Status),
                "{}",
                limitation.fact
            );
            if let Some(status) = limitation.status {
                Condition::parse(&format!("status == {status}")).expect(status);
            }
        }
    }

    #[test]
    fn a_rule_is_about_what_its_globs_select() {
        let found = report(vec![
            stream("a", vec![group("g", values()), missing_group("named")]),
            stream("empty", Vec::new()),
        ]);
        for (expr, stream, group, expected) in [
            ("lag > 1", "*", "*", true),
            ("lag > 1", "a", "g", true),
            ("lag > 1", "a", "x*", false),
            ("lag > 1", "empty", "*", false),
            ("lag > 1", "b*", "*", false),
            ("group_up == 0", "*", "*", true),
            ("group_up == 0", "*", "g", false),
            ("length > 1", "empty", "*", true),
            ("length > 1", "b*", "*", false),
            ("target_up == 0", "*", "*", true),
        ] {
            let mut rule = test_rule("A", expr);
            (rule.selector.stream, rule.selector.group) = (Glob::new(stream), Glob::new(group));
            assert_eq!(is_about_any(&rule, &found), expected, "{expr} {stream} {group}");
        }
        assert!(!is_about_any(&test_rule("A", "length > 1"), &report(Vec::new())));
    }

    #[test]
    fn a_server_counts_entries_if_its_streams_say_so() {
        assert_eq!(counts_entries(&report(Vec::new())), None);
        assert_eq!(counts_entries(&report(vec![stream("a", Vec::new())])), Some(false));
    }
}
