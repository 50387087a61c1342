//! The built-in rules: conditions that matter on any system. Where a group's condition expresses it, they use that in
//! place of a threshold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::expression::Expression;
use crate::alert::inhibition;
use crate::alert::promql::per_subject;
use crate::alert::rule::{Rule, Selector};
use crate::alert::rule_file::PrometheusOnlyRule;
use crate::alert::template::Template;
use redis_stream_core::glob::Glob;

struct BuiltInRule {
    name: &'static str,
    expr: Expr,
    minutes: u64,
    severity: &'static str,
    /// The value of the label [`inhibition::LABEL`].
    inhibition: Option<&'static str>,
    summary: &'static str,
    description: &'static str,
}

/// The rule about dead-letter streams.
const DEAD_LETTERS: &str = "RedisStreamDeadLetters";

enum Expr {
    /// An [`Expression`].
    Facts(&'static str),
    /// PromQL, for Prometheus only.
    Promql(&'static str),
    /// PromQL to be aggregated per subject, and a comparison with the result; for Prometheus only.
    PromqlPerSubject(&'static str, &'static str),
}

/// Of the alerts about groups only those about lost entries, and about groups that no consumer can read, are critical.
const BUILT_IN: &[BuiltInRule] = &[
    BuiltInRule {
        name: "RedisStreamTargetDown",
        expr: Expr::Facts("target_up == 0"),
        minutes: 2,
        severity: "critical",
        inhibition: None,
        summary: "{{ $labels.target }} cannot be polled",
        description: "For 2 minutes no poll of {{ $labels.target }} has succeeded, so the state of its streams is unknown. Is the server up, and reachable from streamgauge? The log of streamgauge and streamgauge_poll_errors_total (by reason: connect, auth, role, loading) show why.",
    },
    BuiltInRule {
        name: "RedisStreamMissing",
        expr: Expr::Facts("stream_up == 0"),
        minutes: 5,
        severity: "warning",
        inhibition: None,
        summary: "Stream {{ $labels.stream }} on {{ $labels.target }} cannot be read",
        description: "The key {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) is missing, is not a stream, or access to it is denied. Was it deleted or renamed, has no producer created it yet, or does the ACL of streamgauge exclude it? If it is no longer needed, remove it from the configuration.",
    },
    BuiltInRule {
        name: "RedisStreamGroupMissing",
        expr: Expr::Facts("group_up == 0"),
        minutes: 5,
        severity: "warning",
        inhibition: None,
        summary: "Stream {{ $labels.stream }} on {{ $labels.target }} has no group {{ $labels.group }}",
        description: "The consumer group {{ $labels.group }} is configured by name, but does not exist in the stream {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}): its consumers get NOGROUP. Was the stream deleted and created again? XGROUP CREATE creates the group, at the last ID that was processed or at 0. Do not use $, which skips the entries added in the meantime.",
    },
    BuiltInRule {
        name: "RedisStreamGroupStalled",
        expr: Expr::Facts("lag > 0 and status == stalled"),
        minutes: 3,
        severity: "warning",
        inhibition: Some(inhibition::SOURCE),
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} does not read, although it has consumers: at least {{ $value | humanize }} entries wait",
        description: "At least {{ $value | humanize }} entries wait in {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) and none is delivered to {{ $labels.group }}. Its consumers are there but do not ask for new entries: are they stuck in their work, in a deadlock, or only reading their own pending entries? XINFO CONSUMERS shows how long each consumer has been idle; a restart of the consumers usually helps.",
    },
    BuiltInRule {
        name: "RedisStreamGroupAbandoned",
        expr: Expr::Facts("lag > 0 and status == abandoned"),
        minutes: 3,
        severity: "warning",
        inhibition: Some(inhibition::SOURCE),
        summary: "No consumer reads group {{ $labels.group }} of {{ $labels.stream }}: at least {{ $value | humanize }} entries wait",
        description: "At least {{ $value | humanize }} entries wait in {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}), and {{ $labels.group }} has no consumer, or none that gave a sign of life. Are the consumers deployed, scaled to zero, or unable to connect? If the group is no longer needed, XGROUP DESTROY removes it.",
    },
    BuiltInRule {
        name: "RedisStreamGroupNoConsumers",
        expr: Expr::Facts("lag > 0 and status == abandoned and consumers == 0"),
        minutes: 10,
        severity: "critical",
        inhibition: Some(inhibition::SOURCE),
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} has no consumer: at least {{ $value | humanize }} entries wait",
        description: "For 10 minutes {{ $labels.group }} has had no consumer at all, and at least {{ $value | humanize }} entries wait in {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}). Are the consumers deployed, and do they read this group? If the group is no longer needed, XGROUP DESTROY removes it.",
    },
    BuiltInRule {
        name: "RedisStreamGroupFallingBehind",
        // A job that pauses longer and then reads everything is not behind; one that does not come back is abandoned.
        expr: Expr::Facts("lag_seconds > 5m and last_delivery_age_seconds < 5m"),
        minutes: 5,
        severity: "warning",
        inhibition: Some(inhibition::TARGET),
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} is {{ $value | humanizeDuration }} behind",
        description: "The oldest entry that was not yet delivered to {{ $labels.group }} is {{ $value | humanizeDuration }} old ({{ $labels.stream }} on {{ $labels.target }}, {{ $labels.db }}). Is it catching up (redis_stream_group_lag falls), or are there too few consumers, or slow ones? Compare the rate of redis_stream_entries_added_total with that of redis_stream_group_entries_read.",
    },
    BuiltInRule {
        name: "RedisStreamGroupLagging",
        // Its alert does not outlive theirs for the poll in which the group begins to catch up.
        expr: Expr::Facts("lag > 0 and status == lagging unless (status == abandoned or status == stalled)"),
        minutes: 5,
        severity: "warning",
        inhibition: Some(inhibition::TARGET),
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} reads too slowly: at least {{ $value | humanize }} entries wait, and their number grows",
        description: "More entries are added to {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) than {{ $labels.group }} reads: at least {{ $value | humanize }} wait, and the lag grows. Are there too few consumers, or slow ones? Compare the rate of redis_stream_entries_added_total with that of redis_stream_group_entries_read.",
    },
    BuiltInRule {
        name: "RedisStreamEntriesLost",
        // Where the count is not known, the condition alone holds: one entry is certainly lost then.
        expr: Expr::Facts(
            "(entries_lost_total > 0 and (entries_lost > 0 or status == losing)) or status == losing",
        ),
        minutes: 0,
        severity: "critical",
        inhibition: Some(inhibition::SOURCE),
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} loses entries: at least {{ $value | humanize }} so far",
        description: "Entries are trimmed or deleted from {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) before {{ $labels.group }} gets them: at least {{ $value | humanize }} since streamgauge started, the last of them in the last 5 minutes. They are gone from Redis; recover them from their source. Raise MAXLEN or the age that MINID trims at, or make the group faster. If the group is no longer needed, XGROUP DESTROY removes it.",
    },
    BuiltInRule {
        name: "RedisStreamPendingStuck",
        // Until a census has ended, and since the last one, the oldest entry is known at least. One that was given back by
        // XNACK has no idle time.
        expr: Expr::Facts(
            "pending_max_idle_seconds > 10m or oldest_pending_idle_seconds > 10m or status == stuck",
        ),
        minutes: 10,
        severity: "warning",
        inhibition: None,
        summary: "Group {{ $labels.group }} of {{ $labels.stream }}: an unacknowledged entry was not delivered again for more than 10 minutes",
        description: "A pending entry of {{ $labels.group }} (delivered, not acknowledged) has not been delivered again for more than 10 minutes ({{ $labels.stream }} on {{ $labels.target }}, {{ $labels.db }}). Its consumer is gone, hangs, or does not send XACK; or the entry was given back by XNACK and no consumer claims it. XPENDING shows its consumer; XAUTOCLAIM claims it for another one. If it is no longer in the stream (XRANGE does not find it), XACK removes it.",
    },
    BuiltInRule {
        name: "RedisStreamPendingRedelivered",
        expr: Expr::Facts("pending_max_deliveries >= 10 or oldest_pending_deliveries >= 10"),
        minutes: 1,
        severity: "warning",
        inhibition: None,
        summary: "An entry of {{ $labels.stream }} fails again and again in group {{ $labels.group }}: {{ $value | humanize }} deliveries",
        description: "A pending entry of {{ $labels.group }} was delivered {{ $value | humanize }} times and never acknowledged ({{ $labels.stream }} on {{ $labels.target }}, {{ $labels.db }}). It is probably an entry that no consumer can process. XPENDING shows its ID, XRANGE its fields, and the consumers' logs why it fails. Add it to another stream, then XACK it.",
    },
    BuiltInRule {
        name: DEAD_LETTERS,
        // The newest ID stays when letters are replayed or dropped; then there are none.
        expr: Expr::Facts("length > 0 and last_generated_id_age_seconds < 5m"),
        minutes: 0,
        severity: "warning",
        inhibition: None,
        summary: "Dead letters are added to {{ $labels.stream }}: {{ $value | humanize }} are there",
        description: "In the last 5 minutes a consumer gave up an entry and moved it to the dead-letter stream {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}), which has {{ $value | humanize }} entries. `streamgauge dead-letters list` shows why; once the cause is repaired, `streamgauge dead-letters replay` puts them back. alerts.dead_letters selects the dead-letter streams.",
    },
    BuiltInRule {
        name: "RedisStreamRetentionNearlyUsed",
        // It warns of a loss that is still to come, so not while entries are lost, nor for an hour after. Little time is
        // left to any group of a stream that keeps little; it is short only where the group does not keep up.
        expr: Expr::Facts(
            "(retention_used_ratio > 0.8 or (retention_used_ratio > 0 and seconds_to_loss < 30m and (status == stalled or status == abandoned or status == lagging))) unless (status == losing or entries_lost_1h > 0)",
        ),
        minutes: 5,
        severity: "warning",
        inhibition: None,
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} is about to lose entries: {{ $value | humanizePercentage }} of the stream is not delivered",
        description: "{{ $value | humanizePercentage }} of the entries that {{ $labels.stream }} keeps ({{ $labels.target }}, {{ $labels.db }}) were not yet delivered to {{ $labels.group }}: at 100% the next trim removes some of them. Below 80%, this alert fires if the group does not keep up and trimming reaches it in less than 30 minutes (redis_stream_group_seconds_to_loss). Make the group faster, or raise MAXLEN or the age that MINID trims at, before that.",
    },
    BuiltInRule {
        name: "RedisStreamGroupGone",
        expr: Expr::Facts("group_gone == 1"),
        minutes: 0,
        severity: "warning",
        inhibition: None,
        summary: "Group {{ $labels.group }} of {{ $labels.stream }}, which read entries in the last hour, is gone",
        description: "The group {{ $labels.group }} of {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) read entries within the last hour, and was then destroyed, or deleted with its stream: its consumers get NOGROUP. If that was not intended, XGROUP CREATE creates it again (with MKSTREAM the stream too), at the last ID that was processed. This alert ends after an hour, or when the group is back.",
    },
    BuiltInRule {
        name: "StreamgaugeLimited",
        expr: Expr::Facts("limited > 0"),
        minutes: 10,
        severity: "warning",
        inhibition: None,
        summary: "streamgauge leaves out streams, groups or consumers of {{ $labels.target }}",
        description: "A limit of {{ $labels.target }} leaves out {{ $value | humanize }} of its streams, groups or consumers: streamgauge_limited shows which kind. They have no series, and no alert about them can fire. Raise targets[].limits, or select fewer streams and groups in targets[].streams.",
    },
    BuiltInRule {
        name: "StreamgaugeGone",
        expr: Expr::Promql("absent(streamgauge_build_info)"),
        minutes: 5,
        severity: "critical",
        inhibition: None,
        summary: "Prometheus gets nothing from streamgauge",
        description: "For 5 minutes there were no metrics of any streamgauge, so no other alert about streams can fire. Is it running, and does Prometheus scrape it?",
    },
    BuiltInRule {
        name: "StreamgaugeDataOld",
        expr: Expr::PromqlPerSubject("time() - streamgauge_last_successful_poll_timestamp_seconds", "> 300"),
        minutes: 1,
        severity: "critical",
        inhibition: None,
        summary: "streamgauge data for {{ $labels.target }} is stale",
        description: "The last poll of {{ $labels.target }} that read anything ended {{ $value | humanizeDuration }} ago. If RedisStreamTargetDown fires too, look at the server first, else at the log of streamgauge.",
    },
];

/// Returns the names of all built-in rules in order, those for Prometheus only last.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|rule| rule.name)
}

/// Returns the globs of dead-letter streams where none are configured: those of `streamgauge consume`.
pub fn default_dead_letters() -> Vec<Glob> {
    vec![Glob::new("*:dead")]
}

/// Returns the rules that streamgauge evaluates. `runbook_url` is a document with a section for each rule, and
/// `dead_letters` are the globs of dead-letter streams; without one there is no rule about them.
///
/// # Panics
///
/// If a built-in rule is invalid, which tests rule out.
pub fn rules(runbook_url: Option<&str>, dead_letters: &[Glob]) -> Vec<Arc<Rule>> {
    let rule = |rule: &BuiltInRule| match rule.expr {
        Expr::Facts(expression) => Some(Arc::new(Rule {
            name: rule.name.to_owned(),
            selector: rule.selector(dead_letters)?,
            expression: Expression::parse(expression).expect("a built-in expression is right"),
            pending_for: rule.pending_for(),
            keep_firing_for: Duration::ZERO,
            labels: rule.labels(),
            annotations: rule.annotations(runbook_url),
            notifiers: Arc::new([]),
        })),
        Expr::Promql(_) | Expr::PromqlPerSubject(..) => None,
    };
    BUILT_IN.iter().filter_map(rule).collect()
}

/// Returns the rules for Prometheus only. `label_names` are the names in `targets[].labels`; `runbook_url` as for
/// [`rules`].
///
/// # Panics
///
/// If a built-in rule is invalid, which tests rule out.
pub fn prometheus_only(label_names: &[&str], runbook_url: Option<&str>) -> Vec<PrometheusOnlyRule> {
    let rule = |rule: &BuiltInRule| {
        let expression = match rule.expr {
            Expr::Facts(_) => return None,
            Expr::Promql(expression) => expression.to_owned(),
            Expr::PromqlPerSubject(inner, comparison) => {
                format!("{} {comparison}", per_subject(inner, label_names))
            }
        };
        Some(PrometheusOnlyRule {
            name: rule.name,
            expression,
            pending_for: rule.pending_for(),
            labels: rule.labels(),
            annotations: rule.annotations(runbook_url),
        })
    };
    BUILT_IN.iter().filter_map(rule).collect()
}

impl BuiltInRule {
    /// Returns `None` if the rule has no subjects.
    fn selector(&self, dead_letters: &[Glob]) -> Option<Selector> {
        if self.name != DEAD_LETTERS {
            return Some(Selector::default());
        }
        let (stream, more) = dead_letters.split_first()?;
        Some(Selector { stream: stream.clone(), more_streams: more.to_vec(), ..Selector::default() })
    }

    fn pending_for(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }

    fn labels(&self) -> BTreeMap<String, Template> {
        let mut labels = texts([("severity", self.severity)]);
        labels.extend(self.inhibition.iter().flat_map(|part| texts([(inhibition::LABEL, *part)])));
        labels
    }

    fn annotations(&self, runbook_url: Option<&str>) -> BTreeMap<String, Template> {
        let mut annotations = texts([("summary", self.summary), ("description", self.description)]);
        // Markdown renderers give a heading its text in lower case as an anchor.
        let section = runbook_url.map(|url| format!("{url}#{}", self.name.to_lowercase()));
        annotations.extend(section.iter().flat_map(|url| texts([("runbook_url", url)])));
        annotations
    }
}

fn texts<const N: usize>(texts: [(&str, &str); N]) -> BTreeMap<String, Template> {
    let read = |text| Template::parse(text).expect("a built-in template is right");
    texts.into_iter().map(|(name, text)| (name.to_owned(), read(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::evaluator::{Evaluator, EvaluatorSettings, PollReading, TargetUp};
    use crate::alert::notification::{AlertStatus, SendReason};
    use crate::alert::rule::{TargetLabels, label_names};
    use crate::alert::test_support::{group, report, stream, values};
    use redis_stream_core::id::StreamId;
    use redis_stream_core::name::Name;
    use redis_stream_lag::report::{
        Age, GroupStatus, GroupValues, HistoryCoverage, Lag, OldestPending, Retention, Status,
    };

    #[test]
    fn built_in_rules_are_valid_and_have_unique_names() {
        assert_eq!(
            rules(None, &default_dead_letters()).len() + prometheus_only(&[], None).len(),
            BUILT_IN.len()
        );
        let mut names: Vec<_> = names().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BUILT_IN.len());
    }

    #[test]
    fn each_rule_links_to_its_section_of_the_runbook() {
        let url = "https://docs.example.com/operating.md";
        let here = rules(Some(url), &default_dead_letters())
            .into_iter()
            .map(|rule| rule.annotations["runbook_url"].clone());
        let there =
            prometheus_only(&[], Some(url)).into_iter().map(|rule| rule.annotations["runbook_url"].clone());
        let links: Vec<_> = here.chain(there).map(|link| link.source().to_owned()).collect();
        let chapters: Vec<_> = names().map(|name| format!("{url}#{}", name.to_lowercase())).collect();
        assert_eq!(links, chapters);
        assert!(
            rules(None, &default_dead_letters())
                .iter()
                .all(|rule| !rule.annotations.contains_key("runbook_url"))
        );
    }

    #[test]
    fn texts_name_only_labels_that_their_subject_has() {
        for rule in rules(None, &default_dead_letters()) {
            let known = label_names(rule.subject());
            for name in rule.annotations.values().flat_map(Template::labels) {
                assert!(known.contains(&name), "{}: {name}", rule.name);
            }
            assert!(rule.labels.values().all(|text| text.labels().next().is_none()), "{}", rule.name);
        }
        for rule in prometheus_only(&[], None) {
            let known: &[&str] = if rule.name == "StreamgaugeGone" { &[] } else { &["target"] };
            for name in rule.annotations.values().flat_map(Template::labels) {
                assert!(known.contains(&name), "{}: {name}", rule.name);
            }
        }
    }

    #[test]
    fn the_rule_about_dead_letters_is_about_the_configured_streams() {
        let of = |globs: &[&str]| {
            let globs: Vec<_> = globs.iter().map(|glob| Glob::new(*glob)).collect();
            rules(None, &globs).into_iter().find(|rule| rule.name == DEAD_LETTERS)
        };
        assert_eq!(of(&[]), None);
        let selector = of(&["*:dead", "failed"]).unwrap().selector.clone();
        let matched = ["orders:dead", "failed", "orders", "failed:x"]
            .map(|key| selector.matches_stream(key.as_bytes()));
        assert_eq!(matched, [true, true, false, false]);
    }

    fn with(conditions: &[Status]) -> GroupValues {
        let conditions = conditions.iter().copied().collect();
        let status = GroupStatus { conditions, coverage: HistoryCoverage::Complete, since: None };
        GroupValues { status, lag: Lag::Exact(6142), consumers: 2, entries_lost: Some(0.into()), ..values() }
    }

    /// Evaluates the rules each minute over readings of a group, the last of which lasts. Returns each alert with the minute
    /// in which it begins to fire, its severity, and a mark if it is inhibited then.
    fn fired(readings: &[GroupValues]) -> Vec<String> {
        let settings = EvaluatorSettings {
            hold: Duration::from_secs(3600),
            external_labels: BTreeMap::new(),
            interval: Duration::from_secs(60),
            has_notifiers: true,
        };
        let target = TargetLabels { name: "t".to_owned(), db: "db0".to_owned(), ..TargetLabels::default() };
        let mut evaluator = Evaluator::new(&rules(None, &default_dead_letters()), target, settings);
        let mut fired = Vec::new();
        for minute in 0..20 {
            let values = readings[minute.min(readings.len() - 1)].clone();
            let found = report(vec![stream("orders", vec![group("mail", values)])]);
            let now = Duration::from_secs(1_700_000_000 + 60 * minute as u64);
            for notification in
                evaluator.step(PollReading::Complete(&found), TargetUp::Yes, now).notifications
            {
                let alert = &notification.alert;
                if notification.reason == SendReason::Changed && alert.status == AlertStatus::Firing {
                    let name = &alert.labels["alertname"];
                    let mark = if alert.inhibited_by.is_some() { " inhibited" } else { "" };
                    fired.push(format!("{minute} {name} {}{mark}", alert.labels["severity"]));
                }
            }
        }
        fired
    }

    fn unread(mut values: GroupValues) -> GroupValues {
        values.consumers = 0;
        values
    }

    fn late(mut values: GroupValues) -> GroupValues {
        values.lag_seconds = Some(Age::of(Duration::from_secs(911)));
        values.last_delivery_age = Some(Age::of(Duration::from_secs(10)));
        values
    }

    fn paused(mut values: GroupValues) -> GroupValues {
        values.last_delivery_age = Some(Age::of(Duration::from_secs(900)));
        values
    }

    fn nearly(mut values: GroupValues) -> GroupValues {
        values.seldom.change(|seldom| seldom.retention_used = Some(Retention { lag: 90, length: 100 }));
        values
    }

    fn soon(mut values: GroupValues) -> GroupValues {
        values.seldom.change(|seldom| {
            seldom.retention_used = Some(Retention { lag: 20, length: 100 });
            seldom.time_to_loss = Some(Duration::from_secs(1_700).into());
        });
        values
    }

    #[track_caller]
    fn check(cases: &[(&str, &[GroupValues], &[&str])]) {
        for (what, readings, expected) in cases {
            assert_eq!(fired(readings), *expected, "{what}");
        }
    }

    #[test]
    fn rules_about_reading_fire_for_what_they_are_about_and_for_nothing_else() {
        use Status::{Abandoned, Lagging, Rewound, Stalled};
        check(&[
            ("nothing is wrong", &[with(&[])], &[]),
            ("no consumer, and nothing waits", &[unread(values())], &[]),
            ("no consumer yet", &[unread(with(&[]))], &[]),
            ("rewound", &[with(&[Rewound])], &[]),
            ("idle consumers", &[with(&[Abandoned])], &["3 RedisStreamGroupAbandoned warning"]),
            (
                "no consumers",
                &[unread(with(&[Abandoned]))],
                &["3 RedisStreamGroupAbandoned warning", "10 RedisStreamGroupNoConsumers critical"],
            ),
            ("stalled", &[with(&[Stalled])], &["3 RedisStreamGroupStalled warning"]),
            ("late", &[late(with(&[]))], &["5 RedisStreamGroupFallingBehind warning"]),
            ("late, in the usual pause of a job", &[paused(late(with(&[])))], &[]),
            (
                "late, and no delivery was seen yet",
                &[GroupValues { last_delivery_age: None, ..late(with(&[])) }],
                &[],
            ),
            (
                "late, since stalled",
                &[late(with(&[Stalled]))],
                &["3 RedisStreamGroupStalled warning", "5 RedisStreamGroupFallingBehind warning inhibited"],
            ),
            ("lagging", &[with(&[Lagging])], &["5 RedisStreamGroupLagging warning"]),
            (
                "lagging, since abandoned",
                &[with(&[Abandoned, Lagging])],
                &["3 RedisStreamGroupAbandoned warning"],
            ),
        ]);
    }

    #[test]
    fn rules_about_losses_fire_for_what_they_are_about_and_for_nothing_else() {
        use Status::{Abandoned, Lagging, Losing};
        let lost = |entries: u64| GroupValues { entries_lost: Some(entries.into()), ..nearly(with(&[])) };
        let uncounted = GroupValues { entries_lost: None, ..with(&[Losing]) };
        check(&[
            (
                "losing, since abandoned",
                &[late(with(&[Abandoned, Losing]))],
                &[
                    "0 RedisStreamEntriesLost critical",
                    "3 RedisStreamGroupAbandoned warning",
                    "5 RedisStreamGroupFallingBehind warning inhibited",
                ],
            ),
            ("losses by turns", &[0, 7, 7, 9].map(lost), &["1 RedisStreamEntriesLost critical"]),
            ("losses that are not counted", &[uncounted], &["0 RedisStreamEntriesLost critical"]),
            ("retention", &[nearly(with(&[]))], &["5 RedisStreamRetentionNearlyUsed warning"]),
            ("little time, and it keeps up", &[soon(with(&[]))], &[]),
            (
                "little time, and it reads too slowly",
                &[soon(with(&[Lagging]))],
                &["5 RedisStreamGroupLagging warning", "5 RedisStreamRetentionNearlyUsed warning"],
            ),
            (
                "little time, and it loses before the warning is due",
                &[soon(with(&[Abandoned])), soon(with(&[Abandoned])), soon(with(&[Abandoned, Losing]))],
                &["2 RedisStreamEntriesLost critical", "3 RedisStreamGroupAbandoned warning"],
            ),
            ("retention while losing", &[nearly(with(&[Losing]))], &["0 RedisStreamEntriesLost critical"]),
        ]);
    }

    #[test]
    fn rules_about_pending_entries_fire_for_what_they_are_about_and_for_nothing_else() {
        let s = Duration::from_secs;
        let pending = |idle: Option<Duration>, deliveries, conditions: &[Status]| {
            let oldest = OldestPending::Entry {
                id: StreamId::new(1_700_000_000_000, 0),
                consumer: idle.map(|_| Name::from("c")),
                idle: idle.map(Into::into),
                deliveries,
            };
            GroupValues { messages_pending: 3, oldest_pending: Some(oldest), ..with(conditions) }
        };
        check(&[
            ("a long job", &[pending(Some(s(500)), 1, &[])], &[]),
            ("a forgotten entry", &[pending(Some(s(700)), 9, &[])], &["10 RedisStreamPendingStuck warning"]),
            (
                "an entry that was given back",
                &[pending(None, 1, &[Status::Stuck])],
                &["10 RedisStreamPendingStuck warning"],
            ),
            (
                "a failing entry",
                &[pending(Some(s(1)), 10, &[])],
                &["1 RedisStreamPendingRedelivered warning"],
            ),
        ]);
    }

    #[test]
    fn alertmanager_is_configured_to_inhibit_the_same() {
        let file = include_str!("../../deploy/compose/alertmanager.yml");
        let config: serde_yaml::Value = serde_yaml::from_str(file).unwrap();
        let matchers = |(name, value): (&str, &str)| format!("{name}=\"{value}\"");
        let expected = inhibition::RULES.map(|rule| {
            serde_yaml::to_value(BTreeMap::from([
                ("source_matchers", vec![matchers(rule.source)]),
                ("target_matchers", vec![matchers(rule.target)]),
                ("equal", inhibition::EQUAL.map(str::to_owned).to_vec()),
            ]))
            .unwrap()
        });
        assert_eq!(config["inhibit_rules"], serde_yaml::Value::Sequence(expected.to_vec()));
    }
}
