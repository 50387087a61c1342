//! dashboards/streamgauge.json as the tests read it.

use std::sync::LazyLock;

use serde_json::Value;

use crate::generator;

const TEXT: &str = include_str!("../../dashboards/streamgauge.json");

/// The dashboard.
pub(crate) static DASHBOARD: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(TEXT).expect("the dashboard is JSON"));

/// A query, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// `Lag / Lag in entries / A`.
    pub(crate) place: String,
    /// The PromQL, with Grafana's variables.
    pub(crate) expr: String,
    /// What a line is called; empty where none is drawn.
    pub(crate) legend: String,
    /// Whether it is drawn as lines: not as one number, and not as a table.
    pub(crate) is_drawn: bool,
    /// The labels that are columns of the table; empty where it is none.
    pub(crate) columns: Vec<String>,
}

/// The items of a list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The rows, each with its panels, whether it is closed or not.
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

/// All panels but the rows.
pub(crate) fn panels() -> Vec<&'static Value> {
    rows().into_iter().flat_map(|(_, panels)| panels).collect()
}

/// Every query of the panels.
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

/// The variables that are asked for.
pub(crate) fn variables() -> Vec<(&'static str, &'static str)> {
    let variables =
        list(&DASHBOARD["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    variables.map(|variable| (text(&variable["name"]), text(&variable["query"]["query"]))).collect()
}

/// The queries of the marks in all panels.
pub(crate) fn annotations() -> Vec<&'static str> {
    list(&DASHBOARD["annotations"]["list"]).iter().map(|annotation| text(&annotation["expr"])).collect()
}

#[test]
fn the_dashboard_in_the_repository_is_what_the_generator_writes() {
    let written = format!("{:#}\n", generator::dashboard());
    assert!(written == TEXT, "run `make dashboard`, and look at what changed");
}
