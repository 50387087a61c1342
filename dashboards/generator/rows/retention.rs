//! How much of what a stream keeps is used, what was lost, and the streams themselves.

use crate::generator::panel::{Column, Panel};
use crate::generator::query::{Query, SHOWN, STEP, Subject::Group, Subject::Stream};
use crate::generator::threshold::{alarm, none, of_alert, warn};
use crate::generator::{Opens, Row};

const FIRST: &str = "redis_stream_first_entry_timestamp_seconds";
const LAST: &str = "redis_stream_last_generated_id_timestamp_seconds";
const LEFT: &str = "redis_stream_group_seconds_to_loss";
const LENGTH: &str = "redis_stream_length";

/// The row.
pub(crate) fn row() -> Row {
    let panels = vec![
        used(),
        left(),
        lost(),
        share(),
        length(),
        trimmable(),
        reach(),
        silence(),
        changes(),
        holders(),
        streams(),
    ];
    Row { title: "Retention and loss", opens: Opens::AtOnce, panels }
}

fn used() -> Panel {
    Panel {
        title: "Retention used, the most",
        what: "Lag as a share of the stream. At 100 % the next trim removes entries that the group has not read. \
            Shown once a trim was seen.",
        advice: "make the group faster, or raise MAXLEN or the age that MINID trims at, before it reaches 100 %.",
        unit: "percentunit",
        steps: warn(of_alert("RedisStreamRetentionNearlyUsed"), 1.0),
        queries: vec![Group.worst("redis_stream_group_retention_used_ratio")],
        nothing: "no stream was trimmed",
        size: (6, 9),
        ..Panel::lines()
    }
}

fn left() -> Panel {
    let least = format!("-{}", Group.each(&format!("min_over_time({}{SHOWN})", Group.of(LEFT))));
    Panel {
        title: "Time to loss, the least",
        what: "Time until trimming reaches what the group has not read or not acknowledged, while it reads nothing \
            more.",
        advice: "if it falls, the group does not keep up: raise MAXLEN \
                 or the age that MINID trims at, or make the group faster.",
        unit: "s",
        steps: none(),
        queries: vec![Group.ranked(&Group.of(LEFT), &least)],
        nothing: "no stream was trimmed",
        size: (6, 9),
        ..Panel::lines()
    }
}

fn lost() -> Panel {
    let lost =
        |range: &str| format!("increase({}{range})", Group.of("redis_stream_group_entries_lost_total"));
    let most = format!("{} > 0", Group.each(&lost(SHOWN)));
    Panel {
        title: "Entries lost, the most",
        what: "Entries that were trimmed or deleted before the group got them, at least.",
        advice: "they are gone from Redis; recover them from their source, and raise MAXLEN or add consumers.",
        steps: alarm(1.0),
        queries: vec![Group.ranked(&lost(STEP), &most)],
        nothing: "nothing was lost in the time shown",
        size: (6, 9),
        ..Panel::bars()
    }
}

fn share() -> Panel {
    Panel {
        title: "Share of entries lost, the most",
        what: "Estimated share of the entries added in about the last minute that a group loses, while it is losing.",
        advice: "at 50 % the group would have to be twice as fast to lose nothing.",
        unit: "percentunit",
        steps: alarm(0.01),
        queries: vec![Group.worst("redis_stream_group_loss_ratio")],
        nothing: "no group is losing entries",
        size: (6, 9),
        ..Panel::lines()
    }
}

fn length() -> Panel {
    Panel {
        title: "Entries in a stream, the most",
        what: "Length of the streams. Entries stay after they are read and acknowledged, until they are trimmed.",
        advice: "a stream that only grows is not trimmed, and fills the memory of Redis: XADD with MAXLEN or MINID.",
        queries: vec![Stream.worst(LENGTH)],
        size: (8, 8),
        ..Panel::lines()
    }
}

fn trimmable() -> Panel {
    Panel {
        title: "Entries that no group needs, the most",
        what: "Entries that every group has read and acknowledged. Readers without a group are not seen.",
        advice: "this many can be trimmed; the page of the group that needs the oldest entry has the command.",
        queries: vec![Stream.worst("redis_stream_trimmable_entries")],
        nothing: "not known",
        size: (8, 8),
        ..Panel::lines()
    }
}

fn changes() -> Panel {
    let increase = format!("increase({}{STEP})", Stream.of("redis_stream_group_changes_total"));
    Panel {
        title: "Groups created, destroyed and recreated",
        what: "Changes of the groups of all streams.",
        advice: "a group that is recreated further back reads entries again, and one further ahead skips some: its \
            page shows which.",
        queries: vec![Query::range(
            format!("sum by (change) (max by (target, db, stream, change) ({increase}))"),
            "{{change}}",
        )],
        nothing: "no group came or went",
        size: (8, 8),
        ..Panel::bars()
    }
}

fn reach() -> Panel {
    let latest = Stream.each(&format!("{} @ end()", Stream.of(FIRST)));
    Panel {
        title: "How far back streams reach, the shortest",
        what: "Age of the oldest entry of a stream: how long a group may be away without losing any.",
        advice: "if an outage of your consumers may last longer, raise MAXLEN or the age that MINID trims at.",
        unit: "s",
        queries: vec![Stream.ranked(&format!("(time() - {})", Stream.of(FIRST)), &latest)],
        nothing: "no stream has entries",
        size: (8, 8),
        ..Panel::lines()
    }
}

fn silence() -> Panel {
    let longest = format!("-{}", Stream.each(&format!("{} @ end()", Stream.of(LAST))));
    Panel {
        title: "Silence of producers, the longest",
        what: "Time since the newest entry was added to a stream.",
        advice: "if it is longer than usual: are the producers running, and can they reach Redis?",
        unit: "s",
        queries: vec![Stream.ranked(&format!("(time() - {})", Stream.of(LAST)), &longest)],
        nothing: "no stream has entries",
        size: (8, 8),
        ..Panel::lines()
    }
}

fn holders() -> Panel {
    let holder = Group.value("redis_stream_held_by_info");
    let of_stream = |value: String| format!("{holder} * on (target, db, stream) group_left () ({value})");
    let of_group = |metric: &str| format!("{} and {holder}", Group.value(metric));
    let column = |title, expr: String, unit| Column { title, query: Query::now(expr), unit, steps: none() };
    Panel {
        title: "What holds each stream",
        what: "The group that needs the oldest entry of its stream: the stream cannot be trimmed further without \
            taking entries from it. At most 200.",
        advice: "a group that holds back a long stream and reads nothing is unused or broken: start its consumers, \
            or destroy it.",
        nothing: "no group needs an entry",
        ..Panel::table(
            &["target", "db", "stream", "group"],
            "entries",
            vec![
                column("entries", of_stream(Stream.value(LENGTH)), "short"),
                column("oldest entry", of_stream(format!("time() - {}", Stream.value(FIRST))), "s"),
                column("lag", of_group("redis_stream_group_lag_min"), "short"),
                column("pending", of_group("redis_stream_group_messages_pending"), "short"),
                column("last delivery", of_group("redis_stream_group_last_delivery_age_seconds"), "s"),
            ],
        )
    }
}

fn streams() -> Panel {
    let longest = format!("topk(200, {})", Stream.value(LENGTH));
    let column = |title, expr: String, unit| Column {
        title,
        query: Query::now(format!("{expr} and {longest}")),
        unit,
        steps: none(),
    };
    let rate = Stream.each(&format!("rate({}{STEP})", Stream.of("redis_stream_entries_added_total")));
    Panel {
        title: "Streams",
        what: "The two hundred longest streams. The funnel beside a column's name filters, a click on it sorts.",
        advice: "a stream without groups has no consumers; if its oldest entry is older than you need, it is \
            trimmed too late.",
        nothing: "no stream is watched",
        ..Panel::table(
            &["target", "db", "stream"],
            "entries",
            vec![
                Column { title: "entries", query: Query::now(longest.clone()), unit: "short", steps: none() },
                column("groups", Stream.value("redis_stream_groups"), "short"),
                column("abandoned for a day", Stream.value("redis_stream_groups_abandoned"), "short"),
                column("no group needs", Stream.value("redis_stream_trimmable_entries"), "short"),
                column("added per second", rate, "cps"),
                column("memory", Stream.value("redis_stream_memory_bytes"), "bytes"),
                column("oldest entry", format!("time() - {}", Stream.value(FIRST)), "s"),
                column("newest entry", format!("time() - {}", Stream.value(LAST)), "s"),
            ],
        )
    }
}
