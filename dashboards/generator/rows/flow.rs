//! Rates in and out, and when a backlog is gone.

use crate::generator::panel::{Column, FEW, Panel};
use crate::generator::query::{Query, SHOWN, STEP, Subject::Group, Subject::Stream};
use crate::generator::threshold::{none, warn};
use crate::generator::{Opens, Row};

const LAG: &str = "redis_stream_group_lag";
const LEAST: &str = "redis_stream_group_lag_min";
const DELIVERED: &str = "redis_stream_group_entries_delivered_total";
const ACKNOWLEDGED: &str = "redis_stream_group_entries_acknowledged_total";

/// The row.
pub(crate) fn row() -> Row {
    let panels = vec![added(), delivered(), acknowledged(), growth(), drain(), backlogs()];
    Row { title: "In, out, and time to drain", opens: Opens::AtOnce, panels }
}

fn added() -> Panel {
    Panel {
        title: "Entries added per second, the fastest",
        what: "How fast producers add to each stream (not known on server 6.2).",
        advice: "a fall to 0 is a producer that stopped; a step up may be the cause of a new lag.",
        unit: "cps",
        queries: vec![Stream.fastest("redis_stream_entries_added_total")],
        nothing: "not known",
        ..Panel::lines()
    }
}

fn delivery(range: &str) -> String {
    format!("rate({}{range})", Group.of(DELIVERED))
}

fn acknowledgement(range: &str) -> String {
    format!("rate({}{range})", Group.of(ACKNOWLEDGED))
}

fn delivered() -> Panel {
    Panel {
        title: "Entries delivered per second, the fastest",
        what: "How fast entries are delivered to each group (not known on server 6.2, and while a lag is not known).",
        advice: "below the rate of what is added, the group falls behind; at 0 with a lag, no consumer reads.",
        unit: "cps",
        queries: vec![Group.ranked(&delivery(STEP), &Group.each(&delivery(SHOWN)))],
        nothing: "not known",
        ..Panel::lines()
    }
}

fn acknowledged() -> Panel {
    Panel {
        title: "Entries acknowledged per second, the fastest",
        what: "How fast each group acknowledges entries. Entries that XGROUP DELCONSUMER drops look acknowledged.",
        advice: "below the rate of deliveries, pending entries accumulate: consumers fail, or do not send XACK.",
        unit: "cps",
        queries: vec![Group.ranked(&acknowledgement(STEP), &Group.each(&acknowledgement(SHOWN)))],
        nothing: "not known",
        ..Panel::lines()
    }
}

fn growing(range: &str) -> String {
    format!("deriv({}{range})", Group.of(LAG))
}

fn growth() -> Panel {
    Panel {
        title: "Growth of the lag, the fastest",
        what: "Entries per second by which the lag rises; below 0 it falls. Only of lags that are exact.",
        advice: "above 0 for long, the consumers cannot keep up: together they must be faster by about this rate.",
        unit: "cps",
        queries: vec![Group.ranked(&growing(STEP), &Group.each(&growing(SHOWN)))],
        points: FEW,
        ..Panel::lines()
    }
}

fn drain() -> Panel {
    Panel {
        title: "Time to drain, the longest",
        what: "Time until the lag is gone at the rates of the last minutes (status.window). No line: the lag does \
            not fall.",
        advice: "if it is too long, add consumers. If a group with a lag has no line here, its lag does not fall.",
        unit: "s",
        steps: warn(3_600.0, 86_400.0),
        queries: vec![Group.worst("redis_stream_group_drain_seconds")],
        points: FEW,
        nothing: "no lag falls",
        ..Panel::lines()
    }
}

fn backlogs() -> Panel {
    let most = format!("topk(100, {} > 0)", Group.value(LEAST));
    let column = |title, expr: String, unit, steps| Column { title, query: Query::now(expr), unit, steps };
    let of_most = |expr: &str| format!("({expr}) and {most}");
    Panel {
        title: "Backlogs, and when they are gone",
        what: "The hundred highest lags: how many entries wait, how fast they are delivered, and whether that is \
            fast enough.",
        advice: "growth above 0, or a lag that does not fall, is a backlog that will not go away by itself.",
        nothing: "no group has a lag",
        ..Panel::table(
            &["target", "db", "stream", "group"],
            "lag",
            vec![
                column("lag", most.clone(), "short", none()),
                column("with pending", of_most(&Group.value("redis_stream_group_backlog")), "short", none()),
                column("out", of_most(&Group.each(&delivery(STEP))), "cps", none()),
                column("growth", of_most(&Group.each(&growing(STEP))), "cps", vec![(0.001, "orange")]),
                column(
                    "drained in",
                    of_most(&Group.value("redis_stream_group_drain_seconds")),
                    "s",
                    warn(3_600.0, 86_400.0),
                ),
            ],
        )
    }
}
