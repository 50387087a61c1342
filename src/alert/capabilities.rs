//! Static checks of a rule, for `streamgauge check`: does its selector match anything, and can the server supply its
//! fact? They find rules that would never fire.

use crate::alert::condition::Condition;
use crate::alert::expression::{Expression, Join};
use crate::alert::fact::{FactSource, SubjectKind};
use crate::alert::rule::Rule;
use redis_stream_lag::report::{Report, ReportedStream};

/// The properties of a server that decide which facts it supplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerCapabilities {
    /// It reports entries-added and max-deleted-entry-id, as servers do since 7.0.
    pub counts_entries: bool,
    /// It is a replica. Deliveries and acknowledgements are replicated, but not other activity of consumers.
    pub is_replica: bool,
    /// Major and minor version; 0 if it is not known. Valkey's versions continue from Redis 7.2.
    pub release: (u32, u32),
}

/// Facts that some servers do not supply, or supply wrongly.
struct Limitation {
    /// Facts, or statuses to which the fact `status` is compared.
    of: &'static [&'static str],
    has: fn(ServerCapabilities) -> bool,
    effect: LimitationEffect,
    reason: &'static str,
}

/// The effect of a limitation on a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitationEffect {
    /// The fact is never known, so the rule never fires.
    NeverKnown,
    /// The fact is known but may be wrong.
    MayBeWrong,
}

/// All differences between servers. The modules `loss`, `stream_change` and `derive` of redis-stream-lag explain them.
const LIMITATIONS: &[Limitation] = &[
    Limitation {
        of: &["entries_lost"],
        has: |server| !server.counts_entries,
        effect: LimitationEffect::NeverKnown,
        reason: "servers before 7.0 do not report how many entries were added",
    },
    Limitation {
        of: &["entries_lost"],
        has: |server| server.is_replica && server.release < (7, 4),
        effect: LimitationEffect::MayBeWrong,
        reason: "a replica before 7.4 does not know what a group has read, so entries that are lost while it reads are not noticed",
    },
    Limitation {
        of: &["retention_used_ratio", "seconds_to_loss"],
        has: |server| !server.counts_entries,
        effect: LimitationEffect::NeverKnown,
        reason: "servers before 7.0 do not report trimming",
    },
    Limitation {
        of: &["added_per_second", "delivered_per_second"],
        has: |server| !server.counts_entries,
        effect: LimitationEffect::NeverKnown,
        reason: "servers before 7.0 do not report how many entries were added",
    },
    Limitation {
        of: &["losing"],
        has: |server| !server.counts_entries,
        effect: LimitationEffect::MayBeWrong,
        reason: "lost entries are not noticed on servers before 7.0",
    },
    Limitation {
        of: &["consumers"],
        // Before 7.2, a consumer is created by its first delivery, on the master too. Redis 8.10 replicates consumers;
        // there is no Valkey 8.10.
        has: |server| server.is_replica && !matches!(server.release, (1..7, _) | (7, 0 | 1) | (8, 10..)),
        effect: LimitationEffect::MayBeWrong,
        reason: "a replica does not know of consumers that were never given an entry",
    },
    Limitation {
        of: &["abandoned", "stalled"],
        has: |server| server.is_replica,
        effect: LimitationEffect::MayBeWrong,
        reason: "a replica does not know which consumers are idle, nor those that were never given an entry, so abandoned and stalled may be confused",
    },
];

impl ServerCapabilities {
    /// Returns the first fact of a rule that this server does not supply reliably, and the reason; `None` if it supplies
    /// all of them.
    pub fn limitation_of(self, rule: &Rule) -> Option<(&'static str, LimitationEffect, &'static str)> {
        rule.expression.conditions().into_iter().find_map(|condition| {
            let (effect, reason) = self.limitation(condition)?;
            Some((condition.fact.name, effect, reason))
        })
    }

    /// Returns the reason why this server does not supply a condition's fact reliably; `None` if it does.
    pub fn limitation(self, condition: &Condition) -> Option<(LimitationEffect, &'static str)> {
        let limits = |limitation: &&Limitation| {
            limitation.of.contains(&condition.quantity()) && (limitation.has)(self)
        };
        let limitation = LIMITATIONS.iter().find(limits)?;
        Some((limitation.effect, limitation.reason))
    }
}

/// Returns true if the server reports entries-added; `None` if no stream was read.
pub fn counts_entries(report: &Report) -> Option<bool> {
    let mut read = report.streams.iter().filter_map(|stream| stream.values.as_ref());
    read.next().map(|values| values.entries_added.is_some())
}

/// Returns true if a report contains a subject that the rule selects, by the names in series. The caller checks the target.
pub fn selects_any(rule: &Rule, report: &Report) -> bool {
    let selector = &rule.selector;
    let is_selected = |stream: &&ReportedStream| selector.matches_stream(stream.name_in_series().as_bytes());
    let mut streams = report.streams.iter().filter(is_selected);
    match rule.subject() {
        SubjectKind::Target => true,
        SubjectKind::Stream => streams.next().is_some(),
        SubjectKind::Group => streams.flat_map(|stream| &stream.groups).any(|group| {
            let is_there = group.is_named() || !rule.expression.first().fact.only_named();
            is_there && selector.group.matches(group.name.as_bytes())
        }),
    }
}

/// Returns true if the rule cannot fire until a window of history was seen.
pub fn waits_for_history(rule: &Rule) -> bool {
    waits(&rule.expression)
}

fn waits(expression: &Expression) -> bool {
    match expression {
        Expression::Comparison(condition) => matches!(condition.fact.source, FactSource::Status(_)),
        Expression::Joined(left, Join::Or, right) => waits(left) && waits(right),
        Expression::Joined(left, Join::And | Join::Unless, right) => waits(left) || waits(right),
    }
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
    fn limitations_of_servers() {
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
        for name in LIMITATIONS.iter().flat_map(|limitation| limitation.of) {
            let is_fact =
                FACTS.iter().any(|fact| fact.name == *name && !matches!(fact.source, FactSource::Status(_)));
            assert!(is_fact || Condition::parse(&format!("status == {name}")).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_rule_selects_subjects_by_its_globs() {
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
            assert_eq!(selects_any(&rule, &found), expected, "{expr} {stream} {group}");
        }
        assert!(!selects_any(&test_rule("A", "length > 1"), &report(Vec::new())));
    }

    #[test]
    fn a_server_counts_entries_if_its_streams_report_them() {
        assert_eq!(counts_entries(&report(Vec::new())), None);
        assert_eq!(counts_entries(&report(vec![stream("a", Vec::new())])), Some(false));
    }
}
