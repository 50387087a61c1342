//! The reference consumer (`streamgauge consume --metrics-listen`), which says how long entries took from end to end.

use crate::generator::panel::Panel;
use crate::generator::query::{MEMBER_FILTER, Query, SHOWN, STEP};
use crate::generator::threshold::{alarm, none, warn};
use crate::generator::{Opens, Row};

const EMPTY: &str = "no `streamgauge consume` is scraped";
const LEGEND: &str = "{{stream}} {{group}}";

/// The row.
pub(crate) fn row() -> Row {
    let panels = vec![
        Panel {
            title: "From the producer to the acknowledgement",
            what: "Time from an entry's ID to its acknowledgement, by the server's clock: of half of the entries \
                less than p50, of 99 % less than p99. The groups with the highest mean.",
            advice: "far above the time of the handler, entries wait for delivery: see the lag. Near it, the \
                handler takes the time.",
            unit: "s",
            steps: warn(60.0, 300.0),
            ..latency("streamgauge_consumer_end_to_end_latency_seconds")
        },
        Panel {
            title: "Time of the handler",
            what: "How long handling one entry takes.",
            advice: "what does it wait for: a database, another service? More --concurrency or more consumers only \
                help if that service can handle the load.",
            unit: "s",
            ..latency("streamgauge_consumer_handler_duration_seconds")
        },
        Panel {
            title: "Time of the acknowledgement",
            what: "From the end of the handler to the reply of XACK.",
            advice: "above a few milliseconds, Redis or the network is slow, or the consumer is short of CPU.",
            unit: "s",
            ..latency("streamgauge_consumer_acknowledgement_duration_seconds")
        },
        Panel {
            title: "Entries handled per second, the most",
            what: "Deliveries that the handler finished.",
            advice: "below the rate at which entries are added to the stream, the group falls behind.",
            unit: "cps",
            queries: vec![fastest("rate", "handled")],
            ..group()
        },
        Panel {
            title: "Entries that failed, the most",
            what: "Deliveries whose handler failed; each is tried again, or goes to the dead-letter stream.",
            advice: "the log of the consumer shows why. All at once: a service that the handler depends on is down.",
            steps: alarm(1.0),
            queries: vec![fastest("increase", "failed")],
            ..group()
        },
        Panel {
            title: "Entries in flight, maximum",
            what: "Entries that were delivered to a process and are queued, being handled, or waiting to be tried \
                again.",
            advice: "if it stays at --batch, entries come faster than they are handled; a smaller --batch leaves \
                them to others.",
            queries: vec![in_flight()],
            ..group()
        },
        Panel {
            title: "Taken over, dead-lettered, deleted",
            what: "Entries that were claimed from idle consumers, moved to the dead-letter stream, or deleted \
                before they were handled; all groups together.",
            advice: "claimed: consumers die or hang. Dead-lettered: look into that stream. Deleted: the stream is \
                trimmed before its entries are handled.",
            queries: ["claimed", "dead_lettered", "deleted"].map(set_aside).into(),
            nothing: EMPTY,
            ..Panel::bars()
        },
        Panel {
            title: "Reconnects",
            what: "Reconnects, all groups together.",
            advice: "if they repeat: is Redis restarted, or does a proxy or firewall close connections?",
            steps: none(),
            queries: vec![Query::range(
                format!("sum(increase(streamgauge_consumer_reconnects_total{{{MEMBER_FILTER}}}{STEP}))"),
                "reconnects",
            )],
            nothing: EMPTY,
            ..Panel::bars()
        },
    ];
    Row { title: "The reference consumer", opens: Opens::OnClick, panels }
}

fn group() -> Panel {
    Panel { nothing: EMPTY, size: (8, 8), ..Panel::lines() }
}

/// The consumers of a group together.
fn latency(histogram: &str) -> Panel {
    let sum =
        |part: &str| format!("sum by (stream, group) (rate({histogram}_{part}{{{MEMBER_FILTER}}}{SHOWN}))");
    let slowest = format!("topk($top, {} / {})", sum("sum"), sum("count"));
    let quantile = |share: f64, name: &str| {
        let buckets =
            format!("sum by (le, stream, group) (rate({histogram}_bucket{{{MEMBER_FILTER}}}{STEP}))");
        Query::range(format!("histogram_quantile({share}, {buckets}) and {slowest}"), LEGEND).called(name)
    };
    Panel { queries: vec![quantile(0.99, "p99"), quantile(0.5, "p50")], ..group() }
}

fn fastest(function: &str, what: &str) -> Query {
    let sum = |range: &str| {
        let counter = format!("streamgauge_consumer_entries_{what}_total{{{MEMBER_FILTER}}}{range}");
        format!("sum by (stream, group) ({function}({counter}))")
    };
    Query::range(format!("{} and topk($top, {})", sum(STEP), sum(SHOWN)), LEGEND)
}

fn in_flight() -> Query {
    let gauge = format!("streamgauge_consumer_entries_in_flight{{{MEMBER_FILTER}}}");
    let highest = format!("topk($top, sum by (stream, group) (max_over_time({gauge}{SHOWN})))");
    Query::range(format!("sum by (stream, group) ({gauge}) and {highest}"), LEGEND)
}

fn set_aside(what: &str) -> Query {
    let counter = format!("streamgauge_consumer_entries_{what}_total{{{MEMBER_FILTER}}}{STEP}");
    Query::range(format!("sum(increase({counter}))"), what.replace('_', "-"))
}
