//! Reads dashboards/streamgauge.json.

use std::sync::LazyLock;

use serde_json::Value;

use crate::generator;

const TEXT: &str = include_str!("../../dashboards/streamgauge.json");

pub(crate) static DASHBOARD: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(TEXT).expect("the dashboard is JSON"));

/// A query of a panel.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Row, panel and query: `Lag / Lag in entries / A`.
    pub(crate) place: String,
    /// PromQL with Grafana's variables.
    pub(crate) expr: String,
    /// The legend of its lines; empty if it draws none.
    pub(crate) legend: String,
    /// True for lines; false for a single number or a table.
    pub(crate) is_drawn: bool,
    /// The labels that are columns of the table; empty if it is not a table.
    pub(crate) columns: Vec<String>,
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the rows with their panels, open or collapsed.
pub(crate) fn rows() -> Vec<(&'static str, Vec<&'static Value>)> {
    let mut rows: Vec<(&str, Vec<&Value>)> = Vec::new();
    for panel in list(&DASHBOARD["panels"]) {
        if panel["type"] == "row" {
            rows.push((text(&panel["title"]), list(&panel["panels"]).iter().collect()));
        } else {
            rows.last_mut().expect("the first panel is a row").1.push(panel);
        }
    }
    rows
}

/// Returns all panels except rows.
pub(crate) fn panels() -> Vec<&'static Value> {
    rows().into_iter().flat_map(|(_, panels)| panels).collect()
}

/// Returns every query of the panels.
pub(crate) fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for (row, panels) in rows() {
        for panel in panels {
            let columns = list(&panel["transformations"]).iter().find(|step| step["id"] == "organize");
            let columns = columns.and_then(|step| step["options"]["indexByName"].as_object());
            let labels = columns.into_iter().flat_map(|columns| columns.keys());
            let labels: Vec<_> = labels.filter(|name| !name.starts_with("Value")).cloned().collect();
            queries.extend(list(&panel["targets"]).iter().map(|target| Query {
                place: format!("{row} / {} / {}", text(&panel["title"]), text(&target["refId"])),
                expr: text(&target["expr"]).to_owned(),
                legend: text(&target["legendFormat"]).replace("__auto", ""),
                is_drawn: ["timeseries", "state-timeline"].contains(&text(&panel["type"])),
                columns: labels.clone(),
            }));
        }
    }
    queries
}

/// Returns the variables with a query.
pub(crate) fn variables() -> Vec<(&'static str, &'static str)> {
    let variables =
        list(&DASHBOARD["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    variables.map(|variable| (text(&variable["name"]), text(&variable["query"]["query"]))).collect()
}

/// Returns the queries of the annotations.
pub(crate) fn annotations() -> Vec<&'static str> {
    list(&DASHBOARD["annotations"]["list"]).iter().map(|annotation| text(&annotation["expr"])).collect()
}

#[test]
fn the_dashboard_in_the_repository_is_what_the_generator_writes() {
    let written = format!("{:#}\n", generator::dashboard());
    assert!(written == TEXT, "run `make dashboard`, and look at what changed");
}
