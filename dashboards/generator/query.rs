//! PromQL. What two exporters say of one group is one value (`max by`), labels that a scrape adds are gone, and where
//! there may be thousands of lines only the worst are asked for.

use redis_stream_lag::report::Status;

/// The subject of a metric.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A server.
    Target,
    /// A stream.
    Stream,
    /// A consumer group.
    Group,
    /// A consumer of a group.
    Consumer,
}

/// Which alerts: those of a target have no stream and no group.
pub(crate) const ALERT_FILTER: &str = r#"target=~"$target", stream=~"$stream|", group=~"$group|""#;
/// Which series of the reference consumer, which knows no target.
pub(crate) const MEMBER_FILTER: &str = r#"stream=~"$stream", group=~"$group""#;
/// A range vector for functions over the time shown, as of its end: the same at each step.
pub(crate) const SHOWN: &str = "[$__range] @ end()";
/// A range vector for rates at each step.
pub(crate) const STEP: &str = "[$__rate_interval]";

impl Subject {
    /// The labels that name it.
    pub(crate) fn labels(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Stream => "target, db, stream",
            Self::Group => "target, db, stream, group",
            Self::Consumer => "target, db, stream, group, consumer",
        }
    }

    /// Which of them are looked at.
    fn filter(self) -> &'static str {
        match self {
            Self::Target => r#"target=~"$target""#,
            Self::Stream => r#"target=~"$target", stream=~"$stream""#,
            Self::Group | Self::Consumer => r#"target=~"$target", stream=~"$stream", group=~"$group""#,
        }
    }

    /// Its name in a legend, all of it: streams of two targets may have the same name.
    pub(crate) fn legend(self) -> &'static str {
        match self {
            Self::Target => "{{target}}",
            Self::Stream => "{{stream}} · {{target}} {{db}}",
            Self::Group => "{{stream}} {{group}} · {{target}} {{db}}",
            Self::Consumer => "{{stream}} {{group}} {{consumer}} · {{target}} {{db}}",
        }
    }

    /// The series of a metric that are looked at.
    pub(crate) fn of(self, metric: &str) -> String {
        format!("{metric}{{{}}}", self.filter())
    }

    /// The same with a further matcher.
    pub(crate) fn with(self, metric: &str, matcher: &str) -> String {
        format!("{metric}{{{}, {matcher}}}", self.filter())
    }

    /// One value for each, from any replica.
    pub(crate) fn each(self, inner: &str) -> String {
        format!("max by ({}) ({inner})", self.labels())
    }

    /// The first of the statuses that holds, for each group.
    pub(crate) fn first_status(metric: &str, statuses: &[Status]) -> String {
        let one = |status: &Status| {
            let series = Self::Group.with(metric, &format!("status=\"{}\"", status.as_str()));
            format!("max by ({}, status) ({series})", Self::Group.labels())
        };
        statuses.iter().map(one).collect::<Vec<_>>().join(" or ignoring (status) ")
    }

    /// One value of a metric for each.
    pub(crate) fn value(self, metric: &str) -> String {
        self.each(&self.of(metric))
    }

    /// Those whose metric was highest in the time shown, by that.
    pub(crate) fn worst(self, metric: &str) -> Query {
        self.ranked(&self.of(metric), &self.highest(metric))
    }

    /// The highest value of a metric in the time shown, for each.
    pub(crate) fn highest(self, metric: &str) -> String {
        self.each(&format!("max_over_time({}{SHOWN})", self.of(metric)))
    }

    /// Returns the rates of a counter, of those with the highest over the time shown.
    pub(crate) fn fastest(self, counter: &str) -> Query {
        let rate = |range: &str| format!("rate({}{range})", self.of(counter));
        self.ranked(&rate(STEP), &self.each(&rate(SHOWN)))
    }

    /// The highest at each step: where there are few to choose from.
    pub(crate) fn top(self, expr: &str) -> Query {
        Query::range(format!("topk($top, {expr})"), self.legend())
    }

    /// Any series, of those that rank highest by another.
    pub(crate) fn ranked(self, series: &str, rank: &str) -> Query {
        Query::range(self.among(series, rank), self.legend())
    }

    /// One value for each of those that rank highest by another. Chosen first and aggregated then: with 5,000 groups
    /// that takes Prometheus a fifth of the time.
    pub(crate) fn among(self, series: &str, rank: &str) -> String {
        self.each(&format!("{series} and on ({}) topk($top, {rank})", self.labels()))
    }
}

/// One query of a panel.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// PromQL, with Grafana's variables.
    pub(crate) expr: String,
    /// Name of a line.
    pub(crate) legend: String,
    /// Over the time shown, or as of its end.
    pub(crate) when: When,
}

/// At which times a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At each step of the time shown.
    Range,
    /// At its end.
    Instant,
}

impl Query {
    /// Over the time shown.
    pub(crate) fn range(expr: impl Into<String>, legend: impl Into<String>) -> Self {
        Self { expr: expr.into(), legend: legend.into(), when: When::Range }
    }

    /// As of now.
    pub(crate) fn now(expr: impl Into<String>) -> Self {
        Self { expr: expr.into(), legend: String::new(), when: When::Instant }
    }

    /// The same, with this before what a line is called.
    pub(crate) fn called(mut self, prefix: &str) -> Self {
        self.legend = format!("{prefix} {}", self.legend);
        self
    }
}
