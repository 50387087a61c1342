//! Every group, to search.

use crate::generator::panel::{Column, Panel};
use crate::generator::query::{Query, Subject, Subject::Group};
use crate::generator::threshold::{alarm, none, of_alert, warn};
use crate::generator::{Opens, Row};
use redis_stream_lag::report::Status;

/// The row.
pub(crate) fn row() -> Row {
    Row { title: "All groups", opens: Opens::OnClick, panels: vec![groups()] }
}

fn groups() -> Panel {
    let most = format!("topk(200, {})", Group.value("redis_stream_group_lag_max"));
    let status = format!(
        "({}) and on (target, db, stream, group) {most}",
        Subject::first_status("redis_stream_group_status", &Status::ALL)
    );
    let column = |title, metric: &str, unit, steps| Column {
        title,
        query: Query::now(format!("{} and {most}", Group.value(metric))),
        unit,
        steps,
    };
    let columns = vec![
        Column { title: "lag, at most", query: Query::now(most.clone()), unit: "short", steps: none() },
        Column::hidden(Query::now(status)),
        column("lag, at least", "redis_stream_group_lag_min", "short", none()),
        column(
            "behind",
            "redis_stream_group_lag_seconds",
            "s",
            alarm(of_alert("RedisStreamGroupFallingBehind")),
        ),
        column("pending", "redis_stream_group_messages_pending", "short", none()),
        column(
            "oldest pending untouched",
            "redis_stream_group_oldest_pending_idle_seconds",
            "s",
            alarm(of_alert("RedisStreamPendingStuck")),
        ),
        column("consumers", "redis_stream_group_consumers", "short", none()),
        column(
            "retention used",
            "redis_stream_group_retention_used_ratio",
            "percentunit",
            warn(of_alert("RedisStreamRetentionNearlyUsed"), 1.0),
        ),
    ];
    Panel {
        title: "Groups",
        what: "The two hundred groups with the highest lag. Choose a target or a stream at the top to see others; \
            the funnel beside a column's name filters; a click on a group selects it.",
        advice: "sort by the column that worries you, and begin at the top.",
        nothing: "no group is watched",
        size: (24, 16),
        ..Panel::table(&["status", "target", "db", "stream", "group"], "lag, at most", columns)
    }
}
