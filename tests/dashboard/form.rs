//! Grafana's rules for a dashboard, from its schema and its linter, and ours. Left out are the linter's rules that want
//! a variable and a matcher for `job` and `instance`, since `target` names the server and two exporters of one server
//! are shown as one; and the rule that a dashboard must not be editable.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::file::{DASHBOARD, Query, list, panels, queries, rows, text};

/// The units of Grafana that the dashboard may use.
const UNITS: &[&str] =
    &["Bps", "binBps", "bool_yes_no", "bytes", "cps", "percentunit", "reqps", "s", "short"];

#[test]
fn it_can_be_imported_as_it_is() {
    let inputs = list(&DASHBOARD["__inputs"]);
    assert_eq!(inputs.len(), 1, "who imports it is asked for the data source and nothing else");
    for (key, value) in [("name", "DS_PROMETHEUS"), ("type", "datasource"), ("pluginId", "prometheus")] {
        assert_eq!(text(&inputs[0][key]), value, "{key}");
    }
    let required: BTreeSet<_> =
        list(&DASHBOARD["__requires"]).iter().map(|needed| text(&needed["id"])).collect();
    let drawn: BTreeSet<_> = panels().into_iter().map(|panel| text(&panel["type"])).collect();
    let others = BTreeSet::from(["grafana", "prometheus"]);
    assert_eq!(required, &drawn | &others);
    assert_eq!(DASHBOARD["id"], Value::Null, "a number would overwrite somebody's dashboard");
    assert_eq!(DASHBOARD["uid"], "streamgauge", "links to it must stay");
    assert_eq!(DASHBOARD["schemaVersion"], 42);
    assert_eq!(DASHBOARD["graphTooltip"], 1, "the crosshair is shared");
}

#[test]
fn ids_are_unique_and_panels_do_not_overlap() {
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in list(&DASHBOARD["panels"]) {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        let mut inside = BTreeSet::new();
        for nested in list(&panel["panels"]) {
            assert!(ids.insert(nested["id"].as_u64()), "{nested}");
            place(nested, &mut inside);
        }
        place(panel, &mut taken);
    }
}

/// Marks the cells of the grid that the panel covers.
fn place(panel: &Value, taken: &mut BTreeSet<(u64, u64)>) {
    let [x, y, w, h] =
        ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a whole number"));
    assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
    let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
    cells.for_each(|cell| assert!(taken.insert(cell), "{} lies over another panel", panel["title"]));
}

#[test]
fn each_panel_says_what_it_shows_and_what_to_do_and_in_which_unit() {
    let mut titles = BTreeSet::new();
    for panel in panels() {
        let title = text(&panel["title"]);
        assert!(!title.is_empty() && titles.insert(title), "{title:?} is no title of its own");
        let description = text(&panel["description"]).split_once("\n\n**When it looks bad:** ");
        let (what, advice) = description.unwrap_or_else(|| panic!("{title} has no advice"));
        for text in [what, advice] {
            assert!(
                text.len() > 20 && text.ends_with(['.', '?']) && !text.contains("  "),
                "{title}: {text:?}"
            );
        }
        let defaults = &panel["fieldConfig"]["defaults"];
        let overrides = list(&panel["fieldConfig"]["overrides"]).iter();
        let properties = overrides.flat_map(|one| list(&one["properties"])).collect::<Vec<_>>();
        let units = properties.iter().filter(|one| one["id"] == "unit").map(|one| text(&one["value"]));
        for unit in units.chain([text(&defaults["unit"])]) {
            assert!(UNITS.contains(&unit), "{title}: Grafana has no unit {unit:?}");
        }
        let thresholds = properties.iter().filter(|one| one["id"] == "thresholds").map(|one| &one["value"]);
        for steps in thresholds.chain([&defaults["thresholds"]]).map(|steps| list(&steps["steps"])) {
            assert_eq!((text(&steps[0]["color"]), &steps[0]["value"]), ("green", &Value::Null), "{title}");
            assert!(steps[1..].is_sorted_by_key(|step| step["value"].as_f64()), "{title}: {steps:?}");
        }
        assert!(text(&defaults["noValue"]).len() > 5, "{title} says nothing where there is nothing");
    }
    assert_eq!(rows().len(), 10);
}

#[test]
fn every_panel_and_variable_asks_the_chosen_data_source() {
    let chosen = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
    for panel in panels() {
        assert_eq!(panel["datasource"], chosen, "{}", panel["title"]);
        assert!(!list(&panel["targets"]).is_empty(), "{} asks for nothing", panel["title"]);
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"], chosen, "{}", panel["title"]);
            assert_ne!(target["range"], target["instant"], "{}", panel["title"]);
        }
    }
    let variables = list(&DASHBOARD["templating"]["list"]);
    let (first, others) = variables.split_first().expect("there are variables");
    assert_eq!((text(&first["name"]), text(&first["type"])), ("datasource", "datasource"));
    assert_eq!(first["current"]["value"], "${DS_PROMETHEUS}", "the import fills it in");
    for variable in others.iter().filter(|variable| variable["type"] == "query") {
        let name = text(&variable["name"]);
        assert_eq!(variable["datasource"], chosen, "{name}");
        assert_eq!(variable["refresh"], 2, "{name}: new names are found when the time is moved");
        assert_eq!((&variable["multi"], &variable["includeAll"]), (&Value::Bool(true), &Value::Bool(true)));
        assert_eq!(variable["allValue"], ".*", "{name}: a list of 5,000 names is no query");
    }
    assert_eq!(names(others), ["target", "stream", "group", "top"]);
}

fn names(variables: &[Value]) -> Vec<&str> {
    variables.iter().map(|variable| text(&variable["name"])).collect()
}

#[test]
fn counters_are_shown_as_rates_over_times_that_fit() {
    let counter =
        Regex::new(r"(\w+)\s*\(\s*\w+_(?:total|bucket|count|sum)(?:\{[^}]*\})?(\[[^\]]*\])?").expect("right");
    let any = Regex::new(r"\b\w+_(?:total|bucket|count|sum)\b").expect("right");
    let window = Regex::new(r"\[([^\]]*)\](?: @ end\(\))?").expect("right");
    for Query { place, expr, .. } in queries() {
        assert_eq!(
            any.find_iter(&expr).count(),
            counter.find_iter(&expr).count(),
            "{place}: a bare counter in {expr}"
        );
        for found in counter.captures_iter(&expr) {
            assert!(["rate", "increase"].contains(&&found[1]), "{place}: {} of a counter", &found[1]);
        }
        for found in window.captures_iter(&expr) {
            let fits = match &found[1] {
                "$__rate_interval" => !found[0].ends_with("@ end()"),
                // As many steps as the panel has points.
                "$__range:$__interval" => found[0].ends_with("@ end()"),
                // Evaluated once, at the end of the time range; or in an instant query.
                "$__range" => found[0].ends_with("@ end()") || place.contains("Entries lost / A"),
                _ => false,
            };
            assert!(fits, "{place}: {}", &found[0]);
        }
    }
}

#[test]
fn replicas_and_labels_of_a_scrape_multiply_nothing() {
    let added = Regex::new(r"(?:sum|count) ?(?:by \([a-z, ]+\) )?\((.{0,12})").expect("right");
    let aggregated = Regex::new(r"(max|sum|count) ?(?:by \([a-z, ]+\) )?\(").expect("right");
    for Query { place, expr, .. } in queries() {
        if place.starts_with("streamgauge itself") {
            continue;
        }
        assert!(aggregated.is_match(&expr), "{place}: {expr}");
        for by in expr.split("max by (").skip(1).filter_map(|rest| rest.split(')').next()) {
            let whole = ["target", "target, db, stream", "target, db, stream, group"];
            let further = ["status", "consumer"].map(|label| format!("{}, {label}", whole[2]));
            let of_changes = by == format!("{}, change", whole[1]);
            let is_whole = whole.contains(&by) || of_changes || further.iter().any(|labels| labels == by);
            assert!(is_whole || by.starts_with("alertname, "), "{place}: by ({by})");
        }
        if !place.starts_with("The reference consumer") {
            // Only tests for existence.
            let expr = expr.replace("or 0 * count(", "");
            for found in added.captures_iter(&expr) {
                let once = ["max by (", "1 - max by (", "(max by ("];
                assert!(once.iter().any(|start| found[1].starts_with(start)), "{place}: {}", &found[0]);
            }
        }
    }
}

#[test]
fn no_panel_draws_more_lines_than_were_asked_for() {
    // These labels have few values on any server.
    let few = [
        "count by (status)",
        "sum by (result)",
        "sum by (command)",
        "sum by (notifier)",
        "sum by (change)",
        "sum(increase(",
    ];
    for Query { place, expr, is_drawn, columns, .. } in queries() {
        let is_bounded = expr.contains("topk($top, ") || expr.contains("bottomk($top, ");
        let is_one = few.iter().any(|start| expr.replace("60 * ", "").starts_with(start));
        assert!(!is_drawn || is_bounded || is_one, "{place}: {expr}");
        assert!(
            is_drawn || !columns.is_empty() || !expr.starts_with("max by"),
            "{place} is one number: {expr}"
        );
    }
    for panel in panels().into_iter().filter(|panel| panel["type"] == "table") {
        let limit = list(&panel["transformations"]).iter().find(|step| step["id"] == "limit");
        assert_eq!(limit.expect("tables are limited")["options"]["limitField"], 200, "{}", panel["title"]);
        assert_eq!(panel["fieldConfig"]["defaults"]["custom"]["filterable"], true, "{}", panel["title"]);
    }
}

#[test]
fn a_legend_names_each_line_once_and_nothing_twice() {
    let label = Regex::new(r"\{\{(\w+)\}\}").expect("right");
    for (_, panels) in rows() {
        for panel in panels {
            let legends: Vec<_> =
                list(&panel["targets"]).iter().map(|target| text(&target["legendFormat"])).collect();
            let drawn = ["timeseries", "state-timeline"].contains(&text(&panel["type"]));
            let distinct: BTreeSet<_> = legends.iter().collect();
            assert!(!drawn || distinct.len() == legends.len(), "{}: {legends:?}", panel["title"]);
            for legend in legends {
                let labels: Vec<_> = label.captures_iter(legend).map(|found| found[1].to_owned()).collect();
                let distinct: BTreeSet<_> = labels.iter().collect();
                assert_eq!(distinct.len(), labels.len(), "{}: {legend}", panel["title"]);
                assert!(
                    !drawn || !legend.is_empty() && legend != "__auto",
                    "{} has no legend",
                    panel["title"]
                );
            }
        }
    }
}
