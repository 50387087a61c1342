//! Every name in a query exists in the code, and every metric is on a panel, in the details of a group, or left out with a
//! reason.

use std::collections::{BTreeMap, BTreeSet};

use redis_stream_lag::report::Status;
use regex::Regex;
use serde_yaml::Value;
use streamgauge::values::family::MetricOrigin;
use streamgauge::values::table::FAMILIES;

use crate::file::{annotations, queries, variables};
use crate::support::metric_list::{metric_of, series};

/// Metrics that are on no panel and not in the details of a group on its page, with the reason; those for redis_exporter's
/// dashboards are on none either.
const LEFT_OUT: &[(&str, &str)] = &[
    ("process_threads", "a number that is the same all the time"),
    (
        "redis_stream_group_messages_released",
        "few use XNACK yet; RedisStreamPendingStuck reports what no consumer takes",
    ),
    ("redis_stream_idmp_entries_added_total", "few use idempotent IDs yet"),
    ("redis_stream_idmp_duplicates_total", "few use idempotent IDs yet"),
    ("redis_stream_idmp_producer_ids_tracked", "few use idempotent IDs yet"),
    ("redis_stream_idmp_idempotent_ids_tracked", "few use idempotent IDs yet"),
    ("redis_stream_idmp_max_size", "a setting"),
    (
        "streamgauge_oldest_reading_timestamp_seconds",
        "older than the last successful poll only where polls are too slow for their interval, which is logged",
    ),
    ("streamgauge_log_lines_dropped_total", "0 unless the log is not read, which is logged too"),
    ("streamgauge_consumer_circuit_breaker_open", "nothing is handled meanwhile, which is on a panel"),
    ("redis_stream_group_gone", "an event, which RedisStreamGroupGone reports"),
    ("process_virtual_memory_bytes", "address space costs nothing; resident memory is on a panel"),
];

/// Labels that Prometheus or a recommended alert adds.
const ADDED: [&str; 5] = ["job", "instance", "le", "severity", "inhibition"];

/// Returns all expressions, each with its place.
fn expressions() -> Vec<(String, String)> {
    let panels = queries().into_iter().map(|query| (query.place, query.expr));
    let variables =
        variables().into_iter().map(|(name, query)| (format!("variable {name}"), query.to_owned()));
    let marks = annotations().into_iter().map(|query| ("annotation".to_owned(), query.to_owned()));
    panels.chain(variables).chain(marks).chain(recorded()).collect()
}

/// Returns the expressions of the recording rules.
fn recorded() -> Vec<(String, String)> {
    let file: Value =
        serde_yaml::from_str(include_str!("../../dashboards/rules.yml")).expect("the rules are YAML");
    let rules = file["groups"][0]["rules"].as_sequence().expect("there are rules");
    let text = |rule: &Value, key: &str| rule[key].as_str().expect("each has both").to_owned();
    rules.iter().map(|rule| (text(rule, "record"), text(rule, "expr"))).collect()
}

/// Returns the series in an expression, with the labels of their matchers.
fn chosen(expr: &str) -> BTreeMap<String, BTreeSet<String>> {
    let selector = Regex::new(r"\b((?:redis|streamgauge|process)_\w+)(?:\{([^}]*)\})?").expect("right");
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*""#).expect("right");
    let mut chosen = BTreeMap::<_, BTreeSet<_>>::new();
    for found in selector.captures_iter(expr) {
        let matchers = found.get(2).map_or("", |matchers| matchers.as_str());
        let labels = matcher.captures_iter(matchers).map(|label| label[1].to_owned());
        chosen.entry(found[1].to_owned()).or_default().extend(labels);
    }
    chosen
}

#[test]
fn every_name_in_a_query_exists() {
    let known = series();
    let grouping = Regex::new(r"\b(?:by|on) \(([^)]*)\)").expect("right");
    let legend = Regex::new(r"\{\{(\w+)\}\}").expect("right");
    for (place, expr) in expressions() {
        let chosen = chosen(&expr);
        assert!(!chosen.is_empty(), "{place} asks for nothing of ours: {expr}");
        let mut labels: BTreeSet<_> = ADDED.map(str::to_owned).into();
        for (name, matched) in &chosen {
            let has = known.get(name).unwrap_or_else(|| panic!("{place}: there is no {name}"));
            assert!(matched.is_subset(has), "{place}: {name} has no {:?}", matched - has);
            labels.extend(has.iter().cloned());
        }
        for list in grouping.captures_iter(&expr) {
            for label in list[1].split(", ") {
                assert!(labels.contains(label), "{place}: no series has the label {label}");
            }
        }
    }
    for query in queries() {
        let by: Vec<_> = grouping
            .captures_iter(&query.expr)
            .flat_map(|list| list[1].split(", ").map(str::to_owned).collect::<Vec<_>>())
            .collect();
        for label in legend.captures_iter(&query.legend) {
            let is_there = by.contains(&label[1].to_owned());
            assert!(is_there, "{}: the legend names {}, which no line has", query.place, &label[1]);
        }
    }
}

#[test]
fn every_status_that_a_query_names_exists() {
    let named = Regex::new(r#"status[!=]~?"([a-z|]*)""#).expect("right");
    let statuses = Status::ALL.map(Status::as_str);
    let mut seen = 0;
    for (place, expr) in expressions() {
        for status in named
            .captures_iter(&expr)
            .flat_map(|found| found[1].split('|').map(str::to_owned).collect::<Vec<_>>())
        {
            assert!(statuses.contains(&status.as_str()), "{place}: there is no status {status}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn each_metric_is_on_a_panel_in_the_details_of_a_group_or_left_out_for_a_reason() {
    let panels = queries();
    let shown: BTreeSet<_> = panels.iter().flat_map(|query| chosen(&query.expr).into_keys()).collect();
    let shown: BTreeSet<_> = shown.iter().map(|series| metric_of(series)).collect();
    let known = series();
    let known: BTreeSet<_> = known.keys().map(|series| metric_of(series)).collect();
    let compatible = FAMILIES.iter().filter(|family| family.origin == MetricOrigin::RedisExporter);
    let left_out: BTreeSet<_> =
        LEFT_OUT.iter().map(|(name, _)| *name).chain(compatible.map(|family| family.name)).collect();
    let details = FAMILIES.iter().filter(|family| family.label.is_some()).map(|family| family.name);
    assert_eq!(&(&known - &shown) - &details.collect(), left_out);
    assert!(LEFT_OUT.iter().all(|(_, reason)| !reason.is_empty()));
}
