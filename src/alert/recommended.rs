//! The built-in rules: conditions that matter on any system. Where a status expresses the condition, they use it in
//! place of a threshold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::condition::Condition;
use crate::alert::promql::per_subject;
use crate::alert::rule::{Rule, Selector};
use crate::alert::rule_file::PrometheusOnlyRule;
use crate::alert::template::Template;

struct BuiltInRule {
    name: &'static str,
    expr: Expr,
    minutes: u64,
    severity: &'static str,
    summary: &'static str,
    description: &'static str,
}

enum Expr {
    Condition(&'static str),
    /// PromQL, for Prometheus only.
    Promql(&'static str),
    /// PromQL to be aggregated per subject, and a comparison with the result; for Prometheus only.
    PromqlPerSubject(&'static str, &'static str),
}

const BUILT_IN: &[BuiltInRule] = &[
    BuiltInRule {
        name: "RedisStreamTargetDown",
        expr: Expr::Condition("target_up == 0"),
        minutes: 2,
        severity: "critical",
        summary: "{{ $labels.target }} cannot be polled",
        description: "For 2 minutes no poll of {{ $labels.target }} has succeeded, so nothing is known of its streams. Is the server up, and reachable from streamgauge? The log of streamgauge, and streamgauge_poll_errors_total by reason, say why (connect, auth, role, loading).",
    },
    BuiltInRule {
        name: "RedisStreamMissing",
        expr: Expr::Condition("stream_up == 0"),
        minutes: 5,
        severity: "warning",
        summary: "Stream {{ $labels.stream }} on {{ $labels.target }} cannot be read",
        description: "The key {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) is missing, is no stream, or may not be read. Was it deleted or renamed, has no producer created it yet, or does the ACL of streamgauge leave it out? If it is not wanted any more, take it out of the configuration.",
    },
    BuiltInRule {
        name: "RedisStreamGroupMissing",
        expr: Expr::Condition("group_up == 0"),
        minutes: 5,
        severity: "warning",
        summary: "Stream {{ $labels.stream }} on {{ $labels.target }} has no group {{ $labels.group }}",
        description: "The consumer group {{ $labels.group }} is configured, and the stream {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) does not have it: its consumers get NOGROUP. Was the stream deleted and created again? XGROUP CREATE creates the group; begin at 0, or at the last ID that was processed, not at $, or what came meanwhile is skipped.",
    },
    BuiltInRule {
        name: "RedisStreamGroupStalled",
        expr: Expr::Condition("status == stalled"),
        minutes: 3,
        severity: "critical",
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} does not read, although it has consumers",
        description: "Entries wait in {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) and none is delivered to {{ $labels.group }}. Its consumers are there but do not ask for new entries: are they stuck in their work, in a deadlock, or only reading their own pending entries? XINFO CONSUMERS shows who was idle since when; a restart of the consumers usually helps.",
    },
    BuiltInRule {
        name: "RedisStreamGroupAbandoned",
        expr: Expr::Condition("status == abandoned"),
        minutes: 3,
        severity: "critical",
        summary: "No consumer reads for group {{ $labels.group }} of {{ $labels.stream }}",
        description: "Entries wait in {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}), and {{ $labels.group }} has no consumer, or none that gave a sign of life. Are the consumers deployed, scaled to zero, or unable to connect? If the group is not wanted any more, XGROUP DESTROY removes it.",
    },
    BuiltInRule {
        name: "RedisStreamGroupFallingBehind",
        expr: Expr::Condition("lag_seconds > 5m"),
        minutes: 5,
        severity: "warning",
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} is {{ $value }} seconds behind",
        description: "The oldest entry that {{ $labels.group }} has not been delivered is {{ $value }} seconds old ({{ $labels.stream }} on {{ $labels.target }}, {{ $labels.db }}). Is it catching up (redis_stream_group_lag falls), or are there too few consumers, or slow ones? Compare the rate of redis_stream_entries_added_total with that of redis_stream_group_entries_read.",
    },
    BuiltInRule {
        name: "RedisStreamEntriesLost",
        expr: Expr::Condition("entries_lost > 0"),
        minutes: 0,
        severity: "critical",
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} has lost entries",
        description: "In the last 5 minutes entries were trimmed or deleted from {{ $labels.stream }} ({{ $labels.target }}, {{ $labels.db }}) before {{ $labels.group }} got them: about {{ $value }}. They are gone from Redis; get them from where they came from. Raise MAXLEN or the age that MINID trims at, or make the group faster; see redis_stream_group_retention_used_ratio.",
    },
    BuiltInRule {
        name: "RedisStreamPendingStuck",
        expr: Expr::Condition("oldest_pending_idle_seconds > 10m"),
        minutes: 5,
        severity: "warning",
        summary: "An entry of {{ $labels.stream }} is left lying by group {{ $labels.group }}",
        description: "The oldest entry that was delivered to {{ $labels.group }} and not acknowledged was last delivered {{ $value }} seconds ago ({{ $labels.stream }} on {{ $labels.target }}, {{ $labels.db }}). Its consumer is gone, hangs, or forgets to XACK. XPENDING shows whose it is; XAUTOCLAIM hands it to another consumer.",
    },
    BuiltInRule {
        name: "RedisStreamPendingRedelivered",
        expr: Expr::Condition("oldest_pending_deliveries >= 10"),
        minutes: 1,
        severity: "warning",
        summary: "An entry of {{ $labels.stream }} fails again and again in group {{ $labels.group }}",
        description: "The oldest pending entry of {{ $labels.group }} was delivered {{ $value }} times and never acknowledged ({{ $labels.stream }} on {{ $labels.target }}, {{ $labels.db }}). It is likely one that no consumer can process. XPENDING gives its ID and XRANGE its fields; put it aside and XACK it, and see what the consumers' logs say of it.",
    },
    BuiltInRule {
        name: "RedisStreamRetentionNearlyUsed",
        expr: Expr::Condition("retention_used_ratio > 0.8"),
        minutes: 5,
        severity: "warning",
        summary: "Group {{ $labels.group }} of {{ $labels.stream }} is about to lose entries",
        description: "What {{ $labels.group }} has still to read is {{ $value }} of all that {{ $labels.stream }} keeps ({{ $labels.target }}, {{ $labels.db }}; 1 is all of it): at 1 the next trim takes entries that it has not got. Make the group faster, or raise MAXLEN or the age that MINID trims at, before that.",
    },
    BuiltInRule {
        name: "StreamgaugeGone",
        expr: Expr::Promql("absent(streamgauge_build_info)"),
        minutes: 5,
        severity: "critical",
        summary: "Prometheus gets nothing from streamgauge",
        description: "For 5 minutes there were no metrics of any streamgauge, so no other alert about streams can fire. Does it run, and does Prometheus scrape it?",
    },
    BuiltInRule {
        name: "StreamgaugeDataOld",
        expr: Expr::PromqlPerSubject("time() - streamgauge_last_successful_poll_timestamp_seconds", "> 300"),
        minutes: 1,
        severity: "critical",
        summary: "Data of {{ $labels.target }} is old",
        description: "The last poll of {{ $labels.target }} that read anything ended {{ $value }} seconds ago. If RedisStreamTargetDown fires too, look at the server first, else at the log of streamgauge.",
    },
];

/// Returns the names of all built-in rules in order, those for Prometheus only last.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|rule| rule.name)
}

/// Returns the rules that streamgauge evaluates. `runbook_url` is a document with a section for each rule.
///
/// # Panics
///
/// If a built-in rule is invalid, which tests rule out.
#[must_use]
pub fn rules(runbook_url: Option<&str>) -> Vec<Arc<Rule>> {
    let rule = |rule: &BuiltInRule| match rule.expr {
        Expr::Condition(condition) => Some(Arc::new(Rule {
            name: rule.name.to_owned(),
            selector: Selector::default(),
            condition: Condition::parse(condition).expect("a built-in condition is right"),
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
#[must_use]
pub fn prometheus_only(label_names: &[&str], runbook_url: Option<&str>) -> Vec<PrometheusOnlyRule> {
    let rule = |rule: &BuiltInRule| {
        let expression = match rule.expr {
            Expr::Condition(_) => return None,
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
    fn pending_for(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }

    fn labels(&self) -> BTreeMap<String, Template> {
        texts([("severity", self.severity)])
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
    use crate::alert::rule::label_names;

    #[test]
    fn built_in_rules_are_valid_and_have_unique_names() {
        assert_eq!(rules(None).len() + prometheus_only(&[], None).len(), BUILT_IN.len());
        let mut names: Vec<_> = names().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BUILT_IN.len());
    }

    #[test]
    fn each_rule_links_to_its_section_of_the_runbook() {
        let url = "https://docs.example.com/operating.md";
        let here = rules(Some(url)).into_iter().map(|rule| rule.annotations["runbook_url"].clone());
        let there =
            prometheus_only(&[], Some(url)).into_iter().map(|rule| rule.annotations["runbook_url"].clone());
        let links: Vec<_> = here.chain(there).map(|link| link.source().to_owned()).collect();
        let chapters: Vec<_> = names().map(|name| format!("{url}#{}", name.to_lowercase())).collect();
        assert_eq!(links, chapters);
        assert!(rules(None).iter().all(|rule| !rule.annotations.contains_key("runbook_url")));
    }

    #[test]
    fn texts_name_only_labels_that_their_subject_has() {
        for rule in rules(None) {
            let known = label_names(rule.condition.fact.subject());
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
}
