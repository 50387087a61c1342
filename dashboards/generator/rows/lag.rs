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
        what: "Entries in the stream that the group has not been delivered; where that is still being counted, at least this \
               many.",
        advice: "does it rise without end (too few consumers, or slow ones), or rise and fall with the load? \"Time to drain\" \
                 below says when a backlog that falls is gone.",
        queries: vec![Query::range(exact_or_least, Group.legend())],
        ..Panel::lines()
    }
}

fn seconds() -> Panel {
    Panel {
        title: "Lag in seconds, the highest",
        what: "Age of the oldest entry that the group has not been delivered; 0 if there is none. Red from where the \
               recommended alert fires.",
        advice: "compare with what its work may wait. A line that rises by a second per second means that no consumer reads.",
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
        advice: "if it rises while no single group stands out, all are slower, or all producers faster: look at the server.",
        queries: vec![Target.top(&sum)],
        points: FEW,
        size: (6, 8),
        ..Panel::lines()
    }
}

fn delivered() -> Panel {
    Panel {
        title: "Age of the last delivered entry, the highest",
        what: "How old the entry is that the group was delivered last. High with a lag of 0, the stream is quiet.",
        advice: "high with a lag, the group works on old entries, or not at all; \"Lag in seconds\" tells which.",
        unit: "s",
        queries: vec![Group.worst("redis_stream_group_last_delivered_id_age_seconds")],
        size: (6, 8),
        ..Panel::lines()
    }
}

fn delivery() -> Panel {
    Panel {
        title: "Time since the last delivery, the longest",
        what: "How long no entry was delivered to the group. A saw's teeth are the pauses of a job that reads now and then.",
        advice: "it rises with a lag, no consumer of the group reads.",
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
        what: "Of these the lag is known by its bounds only. That is normal after a start, a reconnect, or an XDEL ahead of a \
               group.",
        advice: "if it stays, backlogs are deeper than poll.count_budget can count; raise that, or rely on the bounds.",
        queries: vec![Target.top(&counted)],
        points: FEW,
        size: (6, 8),
        ..Panel::lines()
    }
}
