//! Consumers: how many, which are silent, and what is pending for each.

use crate::generator::panel::{Column, FEW, Panel};
use crate::generator::query::{Query, SHOWN, Subject::Consumer, Subject::Group, Subject::Target};
use crate::generator::threshold::{alarm, none};
use crate::generator::{Opens, Row};

const CONSUMERS: &str = "redis_stream_group_consumers";
const IDLE: &str = "redis_stream_group_consumer_idle_seconds";

/// The row.
pub(crate) fn row() -> Row {
    let panels = vec![number(), without_readers(), stranded(), leftover(), pending(), silent()];
    Row { title: "Consumers", opens: Opens::OnClick, panels }
}

fn number() -> Panel {
    let over = |function: &str| format!("{function}({}{SHOWN})", Group.of(CONSUMERS));
    let change = Group.each(&format!("{} - {}", over("max_over_time"), over("min_over_time")));
    Panel {
        title: "Consumers of a group, where the number changed most",
        what: "Consumers of the group, active or not: a consumer stays until XGROUP DELCONSUMER.",
        advice: "a number that only rises comes from programs that choose a new consumer name at each start; \
            entries that were pending for the old name wait to be claimed.",
        queries: vec![Group.ranked(&Group.of(CONSUMERS), &change)],
        ..Panel::lines()
    }
}

fn without_readers() -> Panel {
    let waits = format!("({} > bool 0)", Group.value("redis_stream_group_lag_min"));
    let without = format!("({} == bool 0)", Group.value(CONSUMERS));
    let groups = format!("sum by (target) ({waits} * {without})");
    Panel {
        title: "Groups that wait and have no consumer",
        what: "Entries wait for these groups, and they have no consumer: none has read yet, or each was deleted.",
        advice: "start the consumers; if a group is no longer needed, XGROUP DESTROY.",
        steps: alarm(1.0),
        queries: vec![Target.top(&groups)],
        points: FEW,
        ..Panel::lines()
    }
}

fn stranded() -> Panel {
    Panel {
        title: "Silent consumers with pending entries",
        what: "Consumers that have not tried to read for metrics.consumer_max_idle, 24 hours by default, and hold \
            entries.",
        advice: "these entries wait until another consumer claims them: XAUTOCLAIM, or XREADGROUP with CLAIM.",
        steps: alarm(1.0),
        queries: vec![Group.worst("redis_stream_group_consumers_stranded")],
        nothing: "consumers are not read",
        ..Panel::lines()
    }
}

fn leftover() -> Panel {
    Panel {
        title: "Silent consumers with nothing pending",
        what: "Unused names: consumers that have not tried to read for metrics.consumer_max_idle.",
        advice: "streamgauge tidy prints the command that deletes them; give each consumer the same name at each \
            start.",
        queries: vec![Group.worst("redis_stream_group_consumers_idle")],
        nothing: "consumers are not read",
        ..Panel::lines()
    }
}

fn pending() -> Panel {
    Panel {
        title: "Pending entries of a consumer, the most",
        what: "Entries that were delivered to each consumer and not acknowledged.",
        advice: "a consumer with far more than the others is stuck or slow, or reads batches so large that entries \
            wait in it although other consumers are free.",
        queries: vec![Consumer.worst("redis_stream_group_consumer_messages_pending")],
        nothing: "no consumer is known",
        ..Panel::lines()
    }
}

fn silent() -> Panel {
    let longest = format!("topk(100, {})", Consumer.value(IDLE));
    let column = |title, metric: &str, unit| Column {
        title,
        query: Query::now(format!("{} and {longest}", Consumer.value(metric))),
        unit,
        steps: none(),
    };
    Panel {
        title: "Consumers, silent for the longest",
        what: "The hundred consumers that have been idle the longest, the time since they last got an entry (server \
            7.2 and later), and their pending entries.",
        advice: "idle with pending entries: the consumer is gone, and its entries wait for XAUTOCLAIM. Idle with \
            none: an old name, or a long BLOCK.",
        nothing: "no consumer is known",
        size: (12, 9),
        ..Panel::table(
            &["target", "db", "stream", "group", "consumer"],
            "silent",
            vec![
                Column { title: "silent", query: Query::now(longest.clone()), unit: "s", steps: none() },
                column("last got an entry", "redis_stream_group_consumer_inactive_seconds", "s"),
                column("pending", "redis_stream_group_consumer_messages_pending", "short"),
            ],
        )
    }
}
