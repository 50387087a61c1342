//! The Grafana dashboard as code. It is generated, because some seventy queries must agree on labels, filters and
//! limits, and Grafana's JSON has no way to say a thing once; in Rust, because what the code knows (names of
//! statuses, thresholds of the recommended alerts) is taken from there. dashboards/streamgauge.json is what it
//! makes, and what Grafana imports.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`panel`] | a panel, and how it is written as JSON |
//! | [`query`] | PromQL: one value for each group however many exporters there are, and the worst of many |
//! | [`rows`] | the rows with their panels, one module each |
//! | [`threshold`] | where values turn orange or red |

use serde_json::{Value, json};

pub(crate) mod panel;
pub(crate) mod query;
pub(crate) mod rows;
pub(crate) mod threshold;

use panel::{Panel, datasource};
use query::Subject;

/// The version of the dashboard's form: that of Grafana 13, which brings older ones up to it by itself.
const SCHEMA_VERSION: u32 = 42;
/// The version of Grafana that the panels are written for.
const GRAFANA: &str = "13.2.2";

/// A row of panels.
pub(crate) struct Row {
    /// Its title.
    pub(crate) title: &'static str,
    /// Open from the start, or on a click.
    pub(crate) opens: Opens,
    /// The panels, in the order of reading.
    pub(crate) panels: Vec<Panel>,
}

/// When a row shows, and asks for, its panels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opens {
    /// At once.
    AtOnce,
    /// When somebody opens it.
    OnClick,
}

/// The whole dashboard.
pub(crate) fn dashboard() -> Value {
    let rows = rows::all();
    let mut types: Vec<_> = rows.iter().flat_map(|row| &row.panels).map(Panel::plugin).collect();
    types.sort_unstable();
    types.dedup();
    json!({
        "__inputs": [{
            "name": "DS_PROMETHEUS",
            "label": "Prometheus",
            "description": "The Prometheus that scrapes streamgauge",
            "type": "datasource",
            "pluginId": "prometheus",
            "pluginName": "Prometheus",
        }],
        "__requires": requires(&types),
        "annotations": {"list": [alerts(), changes(), losses()]},
        "description": "Redis and Valkey Streams, as streamgauge sees them: which consumer group is how far behind, what \
                        is stuck, what is about to be lost.",
        "editable": true,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": null,
        "links": [],
        "liveNow": false,
        "panels": laid_out(&rows),
        "refresh": "1m",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["redis", "valkey", "streams"],
        "templating": {"list": variables()},
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": "Redis Streams",
        "uid": "streamgauge",
        "version": 1,
        "weekStart": "",
    })
}

fn requires(panels: &[&str]) -> Vec<Value> {
    let of = |kind: &str, id: &str, name: &str, version: &str| json!({"type": kind, "id": id, "name": name, "version": version});
    let mut requires = vec![
        of("grafana", "grafana", "Grafana", GRAFANA),
        of("datasource", "prometheus", "Prometheus", "1.0.0"),
    ];
    requires.extend(panels.iter().map(|id| of("panel", id, id, "")));
    requires
}

/// Marks in all panels where alerts fired; off until somebody wants them, as there may be many.
fn alerts() -> Value {
    json!({
        "name": "Firing alerts",
        "datasource": datasource(),
        "enable": false,
        "hide": false,
        "iconColor": "red",
        "expr": format!("max by (alertname, target, db, stream, group) (streamgauge_alerts{{alertstate=\"firing\", {}}})", query::ALERT_FILTER),
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{stream}} {{group}} · {{target}} {{db}}",
    })
}

/// Marks where groups were created, destroyed or recreated.
fn changes() -> Value {
    let counter = Subject::Stream.of("redis_stream_group_changes_total");
    json!({
        "name": "Groups created, destroyed and recreated",
        "datasource": datasource(),
        "enable": true,
        "hide": false,
        "iconColor": "blue",
        "expr": format!("max by (target, db, stream, change) (increase({counter}[2m])) > 0"),
        "step": "60s",
        "titleFormat": "group {{change}}",
        "textFormat": "{{stream}} · {{target}} {{db}}",
    })
}

/// Marks where groups lost entries; off until somebody wants them, as there may be many.
fn losses() -> Value {
    let counter = Subject::Group.of("redis_stream_group_entries_lost_total");
    json!({
        "name": "Entries lost",
        "datasource": datasource(),
        "enable": false,
        "hide": false,
        "iconColor": "orange",
        "expr": format!("max by (target, db, stream, group) (increase({counter}[2m])) > 0"),
        "step": "60s",
        "titleFormat": "entries lost",
        "textFormat": "{{stream}} {{group}} · {{target}} {{db}}",
    })
}

fn variables() -> Vec<Value> {
    let stream = r#"label_values(redis_stream_up{target=~"$target"}, stream)"#;
    let group = r#"label_values(redis_stream_group_lag_min{target=~"$target", stream=~"$stream"}, group)"#;
    let tops = ["5", "10", "20", "50"].map(|top| json!({"selected": top == "10", "text": top, "value": top}));
    vec![
        json!({
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "regex": "",
            "refresh": 1,
            "hide": 0,
            "includeAll": false,
            "multi": false,
            "options": [],
            "current": {"selected": false, "text": "${DS_PROMETHEUS}", "value": "${DS_PROMETHEUS}"},
        }),
        names("target", "Target", "label_values(streamgauge_target_up, target)"),
        names("stream", "Stream", stream),
        names("group", "Group", group),
        json!({
            "name": "top",
            "label": "Lines in a panel",
            "description": "Panels show the worst streams, groups or consumers of the time shown: this many.",
            "type": "custom",
            "query": "5,10,20,50",
            "hide": 0,
            "includeAll": false,
            "multi": false,
            "options": tops,
            "current": {"selected": true, "text": "10", "value": "10"},
        }),
    ]
}

/// A variable whose values are those of a label. "All" is the pattern `.*` and not a list: 5,000 names would be a query
/// too long to send.
fn names(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": datasource(),
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": name},
        "regex": "",
        "refresh": 2,
        "sort": 7,
        "hide": 0,
        "includeAll": true,
        "allValue": ".*",
        "multi": true,
        "options": [],
        "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
    })
}

/// Rows one below the other; in each, panels from left to right as they fit. The panels of a row that is closed lie
/// inside of it.
fn laid_out(rows: &[Row]) -> Vec<Value> {
    let (mut panels, mut id, mut top) = (Vec::new(), 0, 0);
    let mut next_id = || {
        id += 1;
        id
    };
    for row in rows {
        let mut title = json!({
            "id": next_id(),
            "type": "row",
            "title": row.title,
            "collapsed": row.opens == Opens::OnClick,
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
            "panels": [],
        });
        let (placed, bottom) = placed(&row.panels, top + 1, &mut next_id);
        match row.opens {
            Opens::AtOnce => {
                panels.push(title);
                panels.extend(placed);
                top = bottom;
            }
            Opens::OnClick => {
                title["panels"] = placed.into();
                panels.push(title);
                top += 1;
            }
        }
    }
    panels
}

/// The panels, and where the next row begins.
fn placed(panels: &[Panel], top: u32, next_id: &mut impl FnMut() -> u32) -> (Vec<Value>, u32) {
    let (mut x, mut y, mut height) = (0, top, 0);
    let mut placed = Vec::new();
    for panel in panels {
        let (w, h) = panel.size;
        if x + w > 24 {
            (x, y, height) = (0, y + height, 0);
        }
        placed.push(panel.json(next_id(), &json!({"x": x, "y": y, "w": w, "h": h})));
        (x, height) = (x + w, height.max(h));
    }
    (placed, y + height)
}
