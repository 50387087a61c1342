//! Lag, in entries and in seconds.

use crate::generator::panel::{FEW, Panel};
use crate::generator::query::{Query, Subject::Group, Subject::Target};
use crate::generator::threshold::{alarm, of_alert};
use crate::generator::{Opens, Row};

/// The row.
pub(crate) fn row() -> Row {
    let panels = vec![entries(), seconds(), sums(), delivered(), delivery(), counting()];
    Row { title: "Lag", opens: Opens::AtOnce, panels }
}

fn entries() -> Panel {
    let least = "redis_stream_group_lag_min";
    let among = |metric: &str| Group.among(&Group.of(metric), &Group.highest(least));
    let exact_or_least = format!("{} or {}", among("redis_stream_group_lag"), among(least));
    Panel {
        title: "Lag in entries, the highest",
        what: "Entries in the stream that were not yet delivered to the group; while they are being counted, at \
            least this many.",
        advice: "does it rise without end (too few consumers, or slow ones), or rise and fall with the load? If it \
            falls, \"Time to drain\" below shows when it is gone.",
        queries: vec![Query::range(exact_or_least, Group.legend())],
        ..Panel::lines()
    }
}

fn seconds() -> Panel {
    Panel {
        title: "Lag in seconds, the highest",
        what: "Age of the oldest entry that was not yet delivered to the group; 0 if there is none. Red where the \
            recommended alert fires.",
        advice: "compare it with the delay that you accept. A line that rises by a second per second means that no \
            consumer reads.",
        unit: "s",
        steps: alarm(of_alert("RedisStreamGroupFallingBehind")),
        queries: vec![Group.worst("redis_stream_group_lag_seconds")],
        ..Panel::lines()
    }
}

fn sums() -> Panel {
    let sum = format!("sum by (target) ({})", Group.value("redis_stream_group_lag_min"));

    Panel {
        title: "Lag in entries, all groups of a target",
        what: "The lags of all groups of a server together.",
        advice: "if it rises while no single group stands out, all consumers are slower or all producers faster: \
            look at the server.",
        queries: vec![Target.top(&sum)],
        points: FEW,
        size: (6, 8),
        ..Panel::lines()
    }
}

fn delivered() -> Panel {
    Panel {
        title: "Age of the last delivered entry, the highest",
        what: "Age of the last entry that was delivered to the group. High with a lag of 0: the stream is quiet.",
        advice: "high with a lag: the group works on old entries, or not at all; compare \"Lag in seconds\".",
        unit: "s",
        queries: vec![Group.worst("redis_stream_group_last_delivered_id_age_seconds")],
        size: (6, 8),
        ..Panel::lines()
    }
}

fn delivery() -> Panel {
    Panel {
        title: "Time since the last delivery, the longest",
        what: "Time since an entry was last delivered to the group. A sawtooth shows a batch job that reads at \
            intervals.",
        advice: "if it rises while there is a lag, no consumer of the group reads.",
        unit: "s",
        queries: vec![Group.worst("redis_stream_group_last_delivery_age_seconds")],
        size: (6, 8),
        ..Panel::lines()
    }
}

fn counting() -> Panel {
    let least = Group.value("redis_stream_group_lag_min");
    let most = Group.value("redis_stream_group_lag_max");
    let counted = format!("sum by (target) ({most} > bool {least})");
    Panel {
        title: "Groups whose lag is still being counted",
        what: "Groups of whose lag only bounds are known. That is normal after a start, a reconnect, or an XDEL \
            ahead of a group.",
        advice: "if it stays, backlogs are deeper than poll.count_budget can count; raise it, or rely on the bounds.",
        queries: vec![Target.top(&counted)],
        points: FEW,
        size: (6, 8),
        ..Panel::lines()
    }
}
