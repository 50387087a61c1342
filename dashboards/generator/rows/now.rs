//! What is wrong now.

use crate::generator::panel::{Column, FEW, Panel};
use crate::generator::query::{
    ALERT_FILTER, Query, STEP, Subject, Subject::Group, Subject::Stream, Subject::Target,
};
use crate::generator::threshold::{self, alarm, none, warn};
use crate::generator::{Opens, Row};
use redis_stream_lag::report::Status;

const STATUS: &str = "redis_stream_group_status";
/// Neither well nor unknown.
const BAD: &str = r#"status!~"ok|unknown""#;

/// All statuses but unknown and ok.
const CONDITIONS: &[Status] = Status::ALL.split_at(6).0;

/// The row.
pub(crate) fn row() -> Row {
    let mut panels = numbers();
    panels.extend([bad_groups(), statuses(), alerts()]);
    Row { title: "What is wrong now", opens: Opens::AtOnce, panels }
}

fn numbers() -> Vec<Panel> {
    vec![
        Panel {
            title: "Groups with a problem",
            what: "Consumer groups whose status is neither ok nor unknown.",
            advice: "the table below lists them, with what is wrong.",
            steps: alarm(1.0),
            queries: vec![Query::range(
                format!("count({}) or 0 * count({})", bad(), Group.of(STATUS)),
                "groups",
            )],
            nothing: "no group is watched",
            ..Panel::number()
        },
        Panel {
            title: "Firing alerts",
            what: "Firing alerts by streamgauge's own evaluation, without pending ones.",
            advice: "the table of alerts below lists them; each has a description of what to do.",
            steps: alarm(1.0),
            queries: vec![firing()],
            nothing: "no streamgauge is scraped",
            ..Panel::number()
        },
        Panel {
            title: "Targets down",
            what: "Redis or Valkey servers that no streamgauge could read in its last poll.",
            advice: "is the server up, and reachable from streamgauge? The row \"streamgauge itself\" shows which \
                target it is and why (connect, auth, role, loading); so does the log of streamgauge.",
            steps: alarm(1.0),
            queries: vec![Query::range(
                format!("sum(1 - {})", Target.value("streamgauge_target_up")),
                "targets",
            )],
            nothing: "no target is watched",
            ..Panel::number()
        },
        Panel {
            title: "Age of the data",
            what: "The longest time since the last successful poll of a target. The other panels may be as old as \
                this.",
            advice: "if a target is down, begin there; otherwise check whether streamgauge is running, and its log.",
            unit: "s",
            steps: warn(60.0, 300.0),
            queries: vec![Query::range(
                format!(
                    "max(time() - {})",
                    Target.value("streamgauge_last_successful_poll_timestamp_seconds")
                ),
                "age",
            )],
            nothing: "nothing was ever polled",
            ..Panel::number()
        },
        Panel {
            title: "Streams or groups missing",
            what: "Streams that cannot be read (missing, of another type, denied), and missing groups that are \
                configured by name.",
            advice: "was the key deleted or renamed, has no producer created it yet, or does the ACL exclude it? \
                Consumers of a missing group get NOGROUP: create it with XGROUP CREATE.",
            steps: alarm(1.0),
            queries: vec![missing()],
            nothing: "no stream is watched",
            ..Panel::number()
        },
        Panel {
            title: "Entries lost",
            what: "Entries that were trimmed or deleted in the time shown before a group got them, all groups \
                together.",
            advice: "they are gone from Redis; recover them from their source. Raise MAXLEN or the age that MINID \
                trims at, or make the group faster. The row \"Retention and loss\" names the groups.",
            steps: alarm(1.0),
            queries: vec![Query::now(format!(
                "sum({})",
                Group.each(&format!(
                    "increase({}[$__range])",
                    Group.of("redis_stream_group_entries_lost_total")
                ))
            ))],
            nothing: "not known",
            ..Panel::number()
        },
    ]
}

/// No alert has no series; that is 0 as long as there is an exporter that says so.
fn firing() -> Query {
    let alerts = format!("streamgauge_alerts{{alertstate=\"firing\", {ALERT_FILTER}}}");
    let each = format!("max by (alertname, target, db, stream, group) ({alerts})");
    Query::range(format!("count({each}) or 0 * max(streamgauge_build_info)"), "alerts")
}

fn missing() -> Query {
    let streams = format!("sum(1 - {})", Stream.value("redis_stream_up"));
    let groups = format!("sum(1 - {})", Group.value("redis_stream_group_up"));
    Query::range(format!("{streams} + ({groups} or 0 * {streams})"), "missing")
}

/// Those where any exporter says so.
fn bad() -> String {
    Group.each(&Group.with(STATUS, BAD))
}

fn bad_groups() -> Panel {
    let is_bad = bad();
    let status = Subject::first_status(STATUS, CONDITIONS);
    let growth = format!("deriv({}{STEP})", Group.of("redis_stream_group_lag"));
    let column = |title, metric: &str, unit, steps| Column {
        title,
        query: Query::now(format!("{} and {is_bad}", Group.value(metric))),
        unit,
        steps,
    };
    let times = format!("timestamp({})[$__range:$__interval] @ end()", Group.with(STATUS, BAD));
    let first_seen = format!("min by ({}) (min_over_time({times}))", Group.labels());
    let columns = vec![
        Column::hidden(Query::now(with_advice(&status))),
        Column {
            title: "bad for",
            query: Query::now(format!("(time() - {first_seen}) and {is_bad}")),
            unit: "s",
            steps: none(),
        },
        column("lag", "redis_stream_group_lag_min", "short", none()),
        Column {
            title: "growth",
            query: Query::now(format!("{} and {is_bad}", Group.each(&growth))),
            unit: "cps",
            steps: vec![(0.001, "orange")],
        },
        column(
            "behind",
            "redis_stream_group_lag_seconds",
            "s",
            alarm(threshold::of_alert("RedisStreamGroupFallingBehind")),
        ),
        column("drained in", "redis_stream_group_drain_seconds", "s", warn(3_600.0, 86_400.0)),
        column("loses in", "redis_stream_group_seconds_to_loss", "s", none()),
        column("pending", "redis_stream_group_messages_pending", "short", none()),
        column(
            "untouched for",
            "redis_stream_group_pending_max_idle_seconds",
            "s",
            alarm(threshold::of_alert("RedisStreamPendingStuck")),
        ),
        column(
            "most deliveries",
            "redis_stream_group_pending_max_deliveries",
            "short",
            alarm(threshold::of_alert("RedisStreamPendingRedelivered")),
        ),
        column("consumers", "redis_stream_group_consumers", "short", none()),
        column("in", "redis_stream_group_added_per_second", "cps", none()),
        column("out", "redis_stream_group_delivered_per_second", "cps", none()),
    ];
    Panel {
        title: "Groups with a problem, one by one",
        what: "Each group whose status is neither ok nor unknown: its worst condition and what to do, for how long, \
            the lag and whether it grows, the time until it is gone or entries are lost, and the worst pending \
            entry; the largest lag first, at most 200. \"Bad for\" is within the time shown. A click on a group \
            selects it.",
        advice: "abandoned: start its consumers. stalled: look at their logs. stuck: XPENDING names the consumer, \
            XAUTOCLAIM claims it; if it is gone from the stream, XACK it. lagging: add consumers. losing: raise MAXLEN. rewound: find out what set the \
            group back.",
        nothing: "every group is ok, or not known yet",
        points: FEW,
        size: (24, 10),
        ..Panel::table(&["status", "advice", "target", "db", "stream", "group"], "behind", columns)
    }
}

/// The advice for each status.
const ADVICE: &[(Status, &str)] = &[
    (Status::Abandoned, "start its consumers, or delete the group"),
    (Status::Losing, "raise MAXLEN, or add consumers"),
    (Status::Rewound, "ask who moved the group back"),
    (Status::Stalled, "look at the logs of its consumers"),
    (Status::Stuck, "claim its entries (XAUTOCLAIM); XACK those that are gone"),
    (Status::Lagging, "add consumers, or make them faster"),
];

/// Adds the advice for each status as a label.
fn with_advice(status: &str) -> String {
    ADVICE.iter().fold(status.to_owned(), |inner, (status, advice)| {
        format!(r#"label_replace({inner}, "advice", "{advice}", "status", "{}")"#, status.as_str())
    })
}

fn statuses() -> Panel {
    let each = Group.of(STATUS);
    let query = format!("count by (status) (max by (target, db, stream, group, status) ({each}))");
    Panel {
        title: "Groups by status",
        what: "How many groups had which condition, or were ok or unknown, over time. A group with several \
            conditions counts for each.",
        advice: "a step in one colour means one cause for many groups: a deployment, a server, a producer.",
        queries: vec![Query::range(query, "{{status}}")],
        points: FEW,
        colours: threshold::of_statuses(),
        size: (8, 7),
        nothing: "no group is watched",
        ..Panel::bars()
    }
}

fn alerts() -> Panel {
    let labels = ["alertname", "severity", "target", "db", "stream", "group"];
    let in_state = |state| {
        let by = labels.join(", ");
        format!("max by ({by}) (streamgauge_alerts{{alertstate=\"{state}\", {ALERT_FILTER}}})")
    };
    let query = Query::now(format!("{} or 0 * {}", in_state("firing"), in_state("pending")));
    Panel {
        title: "Alerts",
        what: "Firing and pending alerts by streamgauge's own evaluation; at most 200.",
        advice: "its description, on /api/v1/alerts of streamgauge or in the message it sent, says what to do.",
        nothing: "no alert is pending or firing",
        size: (16, 7),
        ..Panel::table(
            &["alertname", "severity", "target", "db", "stream", "group"],
            "fires",
            vec![Column { title: "fires", query, unit: "bool_yes_no", steps: alarm(1.0) }],
        )
    }
}
