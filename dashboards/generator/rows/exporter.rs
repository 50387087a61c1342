//! streamgauge itself: targets, costs, limits and notifications.

use crate::generator::panel::{Column, Panel};
use crate::generator::query::{Query, SHOWN, STEP, Subject::Target};
use crate::generator::threshold::{alarm, none, warn};
use crate::generator::{Opens, Row};

/// Which of all processes.
const ITSELF: &str = "and on (job, instance) streamgauge_build_info";

/// The row.
pub(crate) fn row() -> Row {
    let panels = vec![
        nodes(),
        durations(),
        polls(),
        errors(),
        streams(),
        limited(),
        commands(),
        bytes(),
        counted(),
        notifications(),
        queues(),
        requests(),
        memory(),
        cpu(),
        files(),
        instances(),
    ];
    Row { title: "streamgauge itself", opens: Opens::OnClick, panels }
}

fn small() -> Panel {
    Panel { size: (8, 8), nothing: "no streamgauge is scraped", ..Panel::lines() }
}

fn nodes() -> Panel {
    let each = |inner: &str| format!("max by (target, node) ({inner})");
    let up = Target.of("streamgauge_node_up");
    let least = format!("bottomk($top, {})", each(&format!("avg_over_time({up}{SHOWN})")));
    Panel {
        title: "Nodes that answered, the worst",
        what: "Whether each server answered when it was polled.",
        advice: "is it up, is it reachable from streamgauge, are user and password right? \"What could not be \
            read\" shows the reason.",
        queries: vec![Query::range(
            each(&format!("{up} and on (target, node) {least}")),
            "{{target}} {{node}}",
        )],
        nothing: "no streamgauge is scraped",
        ..Panel::bands()
    }
}

fn durations() -> Panel {
    let rate = |part: &str, range: &str| {
        format!("rate({}{range})", Target.of(&format!("streamgauge_poll_duration_seconds_{part}")))
    };
    let p99 = format!("histogram_quantile(0.99, sum by (le, target) ({}))", rate("bucket", STEP));
    let sum = |part: &str| format!("sum by (target) ({})", rate(part, SHOWN));
    Panel {
        title: "Time of a poll, the slowest targets",
        what: "99 of 100 polls took less than this.",
        advice: "near poll.timeout, polls are cut off and lags are known later: check the server's latency and the \
            number of streams, or poll less often.",
        unit: "s",
        steps: warn(1.0, 8.0),
        queries: vec![Target.ranked(&p99, &format!("{} / {}", sum("sum"), sum("count")))],
        nothing: "no streamgauge is scraped",
        ..Panel::lines()
    }
}

fn polls() -> Panel {
    Panel {
        title: "Polls that did not read all",
        what: "Polls per second that failed, or were cut off by their deadline, of all targets.",
        advice: "failed: a target is down. Cut off (partial): see the time of a poll.",
        unit: "cps",
        steps: none(),
        queries: vec![Query::range(
            format!(
                "sum by (result) (rate({}{STEP}))",
                Target.with("streamgauge_polls_total", r#"result!="ok""#)
            ),
            "{{result}}",
        )],
        ..small()
    }
}

fn errors() -> Panel {
    let errors = |range: &str| {
        format!("sum by (target, reason) (increase({}{range}))", Target.of("streamgauge_poll_errors_total"))
    };
    let most = format!("topk($top, {} > 0)", errors(SHOWN));
    Panel {
        title: "What could not be read, by reason",
        what: "Errors of targets, streams and groups. docs/metrics.md lists the reasons.",
        advice: "denied: the ACL. missing_key, missing_group: a name in the configuration. role: a replica where a \
            master must be. auth: user or password.",
        steps: alarm(1.0),
        queries: vec![Query::range(format!("{} and {most}", errors(STEP)), "{{target}} {{reason}}")],
        nothing: "all could be read",
        ..small()
    }
}

fn streams() -> Panel {
    Panel {
        title: "Streams that are polled, the most",
        what: "Found by globs, or configured by name.",
        advice: "fewer than you have: do the globs match them, does a limit leave them out, has SCAN not reached \
            them yet?",
        queries: vec![Target.worst("streamgauge_discovered_streams")],
        ..small()
    }
}

fn limited() -> Panel {
    let each = |inner: &str| format!("max by (target, what) ({inner})");
    let gauge = Target.of("streamgauge_limited");
    let most = format!("topk($top, {})", each(&format!("max_over_time({gauge}{SHOWN})")));
    Panel {
        title: "Left out by limits, the most",
        what: "Streams, groups and consumers beyond targets[].limits: no other panel shows them.",
        advice: "raise the limit, or poll fewer streams; streamgauge logs which limit it is.",
        steps: alarm(1.0),
        queries: vec![Query::range(
            each(&format!("{gauge} and on (target, what) {most}")),
            "{{target}} {{what}}",
        )],
        ..small()
    }
}

fn commands() -> Panel {
    let counter = Target.of("streamgauge_redis_commands_total");
    Panel {
        title: "Commands sent to Redis per second",
        what: "Commands sent to all targets by all exporters: the load that polling puts on the servers.",
        advice: "too many for your servers: a longer poll.interval, fewer streams, consumers: false.",
        unit: "cps",
        queries: vec![Query::range(format!("sum by (command) (rate({counter}{STEP}))"), "{{command}}")],
        ..small()
    }
}

fn bytes() -> Panel {
    Panel {
        title: "Bytes from Redis per second, the most",
        what: "What the servers send to streamgauge.",
        advice: "XINFO STREAM returns the first and last entry: if entries are large, lower poll.payload_budget, so \
            that they are read less often.",
        unit: "binBps",
        queries: vec![Target.fastest("streamgauge_redis_reply_bytes_total")],
        ..small()
    }
}

fn counted() -> Panel {
    Panel {
        title: "Entries read to count lag per second, the most",
        what: "Where a lag cannot be derived from positions and counters, entries are counted, within \
            poll.count_budget.",
        advice: "always at the budget: deep backlogs with deleted entries, or server 6.2. Such lags have only \
            bounds until they are counted.",
        unit: "cps",
        queries: vec![Target.fastest("streamgauge_counted_entries_total")],
        ..small()
    }
}

fn notifications() -> Panel {
    let counter = "streamgauge_notifications_total{result!=\"delivered\"}";
    Panel {
        title: "Notifications that were not delivered",
        what: "Notifications that failed (and are retried), were rejected, or dropped.",
        advice: "the log has the receiver and its reply. Dropped: the receiver did not answer for too long, and \
            these alerts were not sent.",
        steps: alarm(1.0),
        queries: vec![Query::range(
            format!("topk($top, sum by (notifier, result) (increase({counter}{STEP})))"),
            "{{notifier}} {{result}}",
        )],
        nothing: "there are no notifiers",
        ..small()
    }
}

fn queues() -> Panel {
    let delivered = "streamgauge_notifications_total{result=\"delivered\"}";
    Panel {
        title: "Notifications, delivered and waiting",
        what: "Alerts sent per minute, and alerts waiting in the queues of receivers.",
        advice: "the queue should be near 0; if it grows, the receiver is down or too slow.",
        queries: vec![
            Query::range("sum by (notifier) (streamgauge_notification_queue_length)", "{{notifier}} waiting"),
            Query::range(
                format!("60 * sum by (notifier) (rate({delivered}{STEP}))"),
                "{{notifier}} delivered",
            ),
        ],
        nothing: "there are no notifiers",
        ..small()
    }
}

fn requests() -> Panel {
    let counter = "streamgauge_http_requests_total";
    Panel {
        title: "HTTP requests per second",
        what: "By route and status code.",
        advice: "/metrics should be requested once per scrape interval of each Prometheus; codes other than 200 are \
            wrong requests of clients.",
        unit: "reqps",
        queries: vec![Query::range(
            format!("topk($top, sum by (route, code) (rate({counter}{STEP})))"),
            "{{route}} {{code}}",
        )],
        ..small()
    }
}

fn memory() -> Panel {
    Panel {
        title: "Memory",
        what: "Resident memory of each streamgauge; about 90 MiB for 10,000 streams of two groups.",
        advice: "it follows the number of streams, groups and consumers: are there more than you think?",
        unit: "bytes",
        queries: vec![Query::range(
            format!("topk($top, process_resident_memory_bytes {ITSELF})"),
            "{{instance}}",
        )],
        ..small()
    }
}

fn cpu() -> Panel {
    Panel {
        title: "CPU",
        what: "Share of one core that each streamgauge uses.",
        advice: "near 100 %: a longer poll.interval, or fewer streams for each exporter.",
        unit: "percentunit",
        queries: vec![Query::range(
            format!("topk($top, rate(process_cpu_seconds_total{STEP}) {ITSELF})"),
            "{{instance}}",
        )],
        ..small()
    }
}

fn files() -> Panel {
    Panel {
        title: "Open files, by the limit",
        what: "Open files and connections of each streamgauge, as a share of its limit.",
        advice: "near 100 % it cannot accept more scrapes: find the clients with many connections, or raise the \
            limit (ulimit -n).",
        unit: "percentunit",
        steps: warn(0.5, 0.9),
        queries: vec![Query::range(
            format!("topk($top, process_open_fds / process_max_fds {ITSELF})"),
            "{{instance}}",
        )],
        ..small()
    }
}

fn instances() -> Panel {
    let since = |metric: &str| format!("time() - max by (instance) ({metric})");
    let column = |title, expr: String, unit| Column { title, query: Query::now(expr), unit, steps: none() };
    Panel {
        title: "Exporters",
        what: "Each streamgauge that is scraped: its version, how long it has run, whether its configuration could \
            be read.",
        advice: "restarted a moment ago, and not by you: see its log. Reload failed: the previous configuration \
            stays in force. A number of tasks that only grows is a bug.",
        nothing: "no streamgauge is scraped",
        size: (24, 6),
        ..Panel::table(
            &["instance", "version"],
            "up for",
            vec![
                Column::hidden(Query::now("max by (instance, version) (streamgauge_build_info)")),
                column("up for", since(&format!("process_start_time_seconds {ITSELF}")), "s"),
                column(
                    "configuration read",
                    "max by (instance) (streamgauge_config_last_reload_successful)".into(),
                    "bool_yes_no",
                ),
                column("tasks", "max by (instance) (streamgauge_tasks)".into(), "short"),
                column("read", since("streamgauge_config_last_reload_success_timestamp_seconds"), "s"),
            ],
        )
    }
}
