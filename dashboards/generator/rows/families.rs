//! Families: streams that share one set of series.

use crate::generator::panel::{Column, Panel};
use crate::generator::query::{Query, STEP, Subject::Group, Subject::Stream};
use crate::generator::threshold::{alarm, none, of_alert};
use crate::generator::{Opens, Row};

const GROUPS: &str = "redis_stream_family_groups";
const STREAMS: &str = "redis_stream_family_streams";
/// Neither well nor unknown.
const BAD: &str = r#"status!~"ok|unknown""#;

/// The row.
pub(crate) fn row() -> Row {
    Row { title: "Families", opens: Opens::OnClick, panels: vec![bad(), streams(), families()] }
}

fn bad() -> Panel {
    let labels = format!("{}, status", Group.labels());
    let each = |inner: &str| format!("max by ({labels}) ({inner})");
    let series = Group.with(GROUPS, BAD);
    let rank = each(&format!("max_over_time({series}[$__range] @ end())"));
    let query = each(&format!("{series} and on ({labels}) topk($top, {rank})"));
    Panel {
        title: "Groups of families with a problem, the most",
        what: "In how many streams of its family a group has a condition. A group with several conditions counts \
            for each.",
        advice: "nearly all streams at once have one cause: the consumers, a deployment, the server. If they are \
            few, look at each of them on the status page.",
        queries: vec![Query::range(query, "{{status}}: {{stream}} {{group}} · {{target}} {{db}}")],
        nothing: "no family has a problem",
        ..Panel::lines()
    }
}

fn streams() -> Panel {
    Panel {
        title: "Streams of a family, the most",
        what: "How many streams a family has. A step up or down means that streams were created, deleted or have \
            expired.",
        advice: "a number that only grows means keys that are never deleted: each takes memory in Redis and time in \
            each poll.",
        queries: vec![Stream.worst(STREAMS)],
        nothing: "no family is configured",
        ..Panel::lines()
    }
}

fn families() -> Panel {
    let most = format!("topk(200, {})", Stream.value(STREAMS));
    let column = |title, expr: String, unit, steps| Column {
        title,
        query: Query::now(format!("({expr}) and {most}")),
        unit,
        steps,
    };
    let of_groups = |inner: &str| format!("sum by ({}) ({inner})", Stream.labels());
    let largest = |inner: &str| format!("max by ({}) ({inner})", Stream.labels());
    let with_problem =
        format!("max by ({}, status) ({})", Group.labels(), Group.with(GROUPS, r#"status!="ok""#));
    let added = format!("rate({}{STEP})", Stream.of("redis_stream_entries_added_total"));
    Panel {
        title: "Families",
        what: "The two hundred families with the most streams: sums of entries and lags, the largest of ages. \
            \"Conditions\" counts the conditions of all groups in all streams, and groups whose status is unknown.",
        advice: "the table of problems at the top shows each group of a family once; the status page lists the \
            streams of a family.",
        nothing: "no family is configured",
        ..Panel::table(
            &["target", "db", "stream"],
            "conditions",
            vec![
                Column { title: "streams", query: Query::now(most.clone()), unit: "short", steps: none() },
                column("conditions", of_groups(&with_problem), "short", alarm(1.0)),
                column("lag", of_groups(&Group.value("redis_stream_group_lag_min")), "short", none()),
                column(
                    "behind",
                    largest(&Group.of("redis_stream_group_lag_seconds")),
                    "s",
                    alarm(of_alert("RedisStreamGroupFallingBehind")),
                ),
                column(
                    "pending",
                    of_groups(&Group.value("redis_stream_group_messages_pending")),
                    "short",
                    none(),
                ),
                column("in per second", Stream.each(&added), "cps", none()),
                column("entries", Stream.value("redis_stream_length"), "short", none()),
            ],
        )
    }
}
