//! A panel, and how it is written as JSON.

use serde_json::{Value, json};

use super::GRAFANA;
use super::query::{Query, When};
use super::threshold::{self, Step};

/// A panel.
pub(crate) struct Panel {
    /// The title.
    pub(crate) title: &'static str,
    /// The description.
    pub(crate) what: &'static str,
    /// Advice when values are bad.
    pub(crate) advice: &'static str,
    /// Grafana's name of the unit.
    pub(crate) unit: &'static str,
    /// Where the value turns bad.
    pub(crate) steps: Vec<Step>,
    /// The queries; those of a table are in its columns.
    pub(crate) queries: Vec<Query>,
    /// Text where there are no data.
    pub(crate) nothing: &'static str,
    /// At how many times it asks, at most.
    pub(crate) points: u32,
    /// Overrides for lines that have a colour of their own.
    pub(crate) colours: Vec<Value>,
    /// Width (of 24) and height, in units of the grid.
    pub(crate) size: (u32, u32),
    /// The visualization.
    pub(crate) kind: Kind,
}

/// The visualization of a panel.
pub(crate) enum Kind {
    /// One number, with a little line behind it.
    Number,
    /// Lines over time.
    Lines,
    /// Bars over time, on top of each other.
    Bars,
    /// One band over time for each, 1 green and 0 red.
    Bands,
    /// A table.
    Table(Table),
}

/// A table: one line for each set of labels.
pub(crate) struct Table {
    /// The labels that are columns, in this order.
    pub(crate) labels: &'static [&'static str],
    /// The columns of values, after those.
    pub(crate) columns: Vec<Column>,
    /// The column to sort by, the highest first.
    pub(crate) sort: &'static str,
}

/// The labels that come after the values: with one database in use, they say little.
const LAST: [&str; 1] = ["db"];
/// Widths of columns of labels in pixels, so that what is read first fits on a screen.
const WIDTHS: [(&str, u32); 6] =
    [("status", 100), ("advice", 330), ("alertname", 260), ("severity", 90), ("target", 130), ("db", 60)];
/// Width of a column of values.
const VALUE_WIDTH: u32 = 100;

/// A column of values.
pub(crate) struct Column {
    /// The title.
    pub(crate) title: &'static str,
    /// The query.
    pub(crate) query: Query,
    /// Grafana's name of the unit.
    pub(crate) unit: &'static str,
    /// Where the value turns bad.
    pub(crate) steps: Vec<Step>,
}

/// The colour of what is not known: neither good nor bad.
const GREY: &str = "#808080";
/// A column whose missing values say something.
const DRAINED: &str = "drained in";

/// Points of a panel whose query looks at every group at each of them.
pub(crate) const FEW: u32 = 100;
/// The most lines of a table.
pub(crate) const LINES: u32 = 200;

impl Panel {
    /// One number.
    pub(crate) fn number() -> Self {
        Self { points: FEW, ..Self::empty(Kind::Number, (4, 4)) }
    }

    /// Lines over time.
    pub(crate) fn lines() -> Self {
        Self::empty(Kind::Lines, (12, 9))
    }

    /// Bars over time.
    pub(crate) fn bars() -> Self {
        Self::empty(Kind::Bars, (12, 9))
    }

    /// Bands over time.
    pub(crate) fn bands() -> Self {
        Self::empty(Kind::Bands, (12, 9))
    }

    /// A table.
    pub(crate) fn table(labels: &'static [&'static str], sort: &'static str, columns: Vec<Column>) -> Self {
        Self::empty(Kind::Table(Table { labels, columns, sort }), (24, 10))
    }

    fn empty(kind: Kind, size: (u32, u32)) -> Self {
        Self {
            title: "",
            what: "",
            advice: "",
            unit: "short",
            steps: threshold::none(),
            queries: Vec::new(),
            nothing: "nothing to show",
            points: 360,
            colours: Vec::new(),
            size,
            kind,
        }
    }

    /// Grafana's name of what draws it.
    pub(crate) fn plugin(&self) -> &'static str {
        match self.kind {
            Kind::Number => "stat",
            Kind::Lines | Kind::Bars => "timeseries",
            Kind::Bands => "state-timeline",
            Kind::Table(_) => "table",
        }
    }

    /// As Grafana writes it.
    pub(crate) fn json(&self, id: u32, place: &Value) -> Value {
        let mut panel = json!({
            "id": id,
            "type": self.plugin(),
            "pluginVersion": GRAFANA,
            "title": self.title,
            "description": format!("{}\n\n**When it looks bad:** {}", self.what, self.advice),
            "datasource": datasource(),
            "gridPos": place,
            "maxDataPoints": self.points,
            "targets": self.targets(),
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "color": self.colours(),
                    "thresholds": threshold::json(&self.steps),
                    "mappings": [],
                    "noValue": self.nothing,
                    "custom": self.custom(),
                },
                "overrides": self.colours,
            },
            "options": self.options(),
        });
        match &self.kind {
            Kind::Bands => panel["fieldConfig"]["defaults"]["mappings"] = up_and_down(),
            Kind::Table(table) => {
                panel["fieldConfig"]["overrides"] = table.overrides();
                panel["transformations"] = table.transformations();
            }
            Kind::Number => panel["fieldConfig"]["defaults"]["mappings"] = self.unknown(),
            Kind::Lines | Kind::Bars => {}
        }
        panel
    }

    /// Returns the mapping that shows unknown values in grey: neither good nor bad.
    fn unknown(&self) -> Value {
        no_value(self.nothing, GREY)
    }

    fn targets(&self) -> Vec<Value> {
        let (queries, format): (Vec<&Query>, _) = match &self.kind {
            Kind::Table(table) => (table.columns.iter().map(|column| &column.query).collect(), "table"),
            _ => (self.queries.iter().collect(), "time_series"),
        };
        let target = |(index, query): (usize, &&Query)| {
            json!({
                "refId": ref_id(index),
                "datasource": datasource(),
                "editorMode": "code",
                "expr": query.expr,
                "legendFormat": if query.legend.is_empty() { "__auto" } else { &query.legend },
                "format": format,
                "range": query.when == When::Range,
                "instant": query.when == When::Instant,
            })
        };
        queries.iter().enumerate().map(target).collect()
    }

    fn colours(&self) -> Value {
        match self.kind {
            Kind::Lines | Kind::Bars => json!({"mode": "palette-classic-by-name"}),
            _ => json!({"mode": "thresholds"}),
        }
    }

    fn custom(&self) -> Value {
        let thresholds = if self.steps.is_empty() { "off" } else { "dashed" };
        let lines = |style: &str, fill: u32, stacking: &str| {
            json!({
                "drawStyle": style,
                "lineWidth": 1,
                "fillOpacity": fill,
                "showPoints": "never",
                "axisSoftMin": 0,
                "spanNulls": false,
                "stacking": {"mode": stacking, "group": "A"},
                "thresholdsStyle": {"mode": thresholds},
            })
        };
        match self.kind {
            Kind::Number => json!({}),
            Kind::Lines => lines("line", 0, "none"),
            Kind::Bars => lines("bars", 70, "normal"),
            Kind::Bands => json!({"fillOpacity": 70, "lineWidth": 0}),
            Kind::Table(_) => json!({"align": "auto", "cellOptions": {"type": "auto"}, "filterable": true}),
        }
    }

    fn options(&self) -> Value {
        let tooltip = json!({"mode": "multi", "sort": "desc"});
        match &self.kind {
            Kind::Number => json!({
                "colorMode": "background",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "percentChangeColorMode": "standard",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "showPercentChange": false,
                "textMode": "value",
                "wideLayout": true,
            }),
            Kind::Lines | Kind::Bars => json!({
                "legend": {
                    "calcs": ["lastNotNull", "max"],
                    "displayMode": "table",
                    "placement": "bottom",
                    "showLegend": true,
                    "sortBy": "Max",
                    "sortDesc": true,
                },
                "tooltip": tooltip,
            }),
            Kind::Bands => json!({
                "alignValue": "left",
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false},
                "mergeValues": true,
                "rowHeight": 0.9,
                "showValue": "never",
                "tooltip": tooltip,
            }),
            Kind::Table(table) => json!({
                "cellHeight": "sm",
                "frameIndex": 0,
                "showHeader": true,
                "sortBy": [{"displayName": table.sort, "desc": true}],
            }),
        }
    }
}

impl Column {
    /// Of a query that is there for its labels, and whose value says nothing.
    pub(crate) fn hidden(query: Query) -> Self {
        Self { title: "", query, unit: "short", steps: threshold::none() }
    }
}

impl Table {
    /// One line for each set of labels, the worst first, and no more than can be read.
    fn transformations(&self) -> Value {
        let names = |index| {
            // With one query alone Grafana leaves its letter out.
            let value = format!("Value #{}", ref_id(index));
            if index == 0 { vec![value, "Value".to_owned()] } else { vec![value] }
        };
        let titles = self.columns.iter().enumerate().filter(|(_, column)| !column.title.is_empty());
        let hidden = self.columns.iter().enumerate().filter(|(_, column)| column.title.is_empty());
        let hidden = hidden.flat_map(|(index, _)| names(index)).chain(["Time".to_owned()]);
        let renamed = titles
            .flat_map(|(index, column)| names(index).into_iter().map(|name| (name, column.title.into())));
        let (first, last): (Vec<&str>, Vec<&str>) =
            self.labels.iter().copied().partition(|label| !LAST.contains(label));
        let labels = first.iter().enumerate().map(|(place, label)| ((*label).to_owned(), place.into()));
        let after = first.len() + self.columns.len();
        let last =
            last.iter().enumerate().map(|(place, label)| ((*label).to_owned(), (after + place).into()));
        let values =
            (0..self.columns.len()).flat_map(|index| names(index).into_iter().map(move |name| (name, index)));
        let values = values.map(|(name, index)| (name, (first.len() + index).into()));
        json!([
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {
                "excludeByName": hidden.map(|name| (name, true.into())).collect::<serde_json::Map<String, Value>>(),
                "indexByName": labels.chain(values).chain(last).collect::<serde_json::Map<String, Value>>(),
                "renameByName": renamed.collect::<serde_json::Map<String, Value>>(),
            }},
            {"id": "sortBy", "options": {"sort": [{"field": self.sort, "desc": true}]}},
            {"id": "limit", "options": {"limitField": LINES}},
        ])
    }

    fn overrides(&self) -> Value {
        let of = |name: &str, properties: Value| json!({"matcher": {"id": "byName", "options": name}, "properties": properties});
        let background =
            json!({"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}});
        let shown = self.columns.iter().filter(|column| !column.title.is_empty());
        let mut overrides: Vec<_> = shown
            .map(|column| {
                let mut properties = vec![
                    json!({"id": "unit", "value": column.unit}),
                    json!({"id": "mappings", "value": match column.title {
                        DRAINED => no_value("does not fall", "orange"),
                        _ => no_value("-", GREY),
                    }}),
                    json!({"id": "custom.width", "value": VALUE_WIDTH.max(8 * u32::try_from(column.title.len()).expect("a title is short") + 40)}),
                ];
                if !column.steps.is_empty() {
                    properties.push(json!({"id": "thresholds", "value": threshold::json(&column.steps)}));
                    properties.push(json!({"id": "custom.cellOptions", "value": {"type": "color-text"}}));
                }
                of(column.title, properties.into())
            })
            .collect();
        let widths = WIDTHS.iter().filter(|(label, _)| self.labels.contains(label));
        overrides
            .extend(widths.map(|(label, width)| of(label, json!([{"id": "custom.width", "value": width}]))));
        if self.labels.contains(&"status") {
            let mappings = json!({"id": "mappings", "value": threshold::statuses()});
            overrides.push(of("status", json!([mappings, background])));
        }
        if self.labels.contains(&"group") {
            overrides.push(of("group", json!([{"id": "links", "value": [only_this_group()]}])));
        }
        overrides.into()
    }
}

fn no_value(text: &str, colour: &str) -> Value {
    let result = json!({"text": text, "color": colour, "index": 0});
    json!([{"type": "special", "options": {"match": "null+nan", "result": result}}])
}

/// A link to this dashboard with one group chosen.
fn only_this_group() -> Value {
    let chosen = ["target", "stream", "group"]
        .map(|label| format!("var-{label}=${{__data.fields.{label}:percentencode}}"));
    json!({
        "title": "Only this group",
        "url": format!("/d/streamgauge?${{__url_time_range}}&${{datasource:queryparam}}&{}", chosen.join("&")),
    })
}

fn up_and_down() -> Value {
    json!([{"type": "value", "options": {
        "0": {"text": "down", "color": "red", "index": 0},
        "1": {"text": "up", "color": "green", "index": 1},
    }}])
}

/// The data source that the dashboard's variable names.
pub(crate) fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn ref_id(index: usize) -> String {
    char::from(b'A' + u8::try_from(index).expect("a panel has few queries")).to_string()
}
