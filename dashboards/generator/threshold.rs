//! Where values turn orange or red: where the recommended alerts fire, wherever there is one.

use redis_stream_lag::report::Status;
use serde_json::{Value, json};
use streamgauge::alert::condition::Operand;
use streamgauge::alert::recommended;

/// From which value on, and the colour.
pub(crate) type Step = (f64, &'static str);

/// Nothing to be alarmed at, at any value.
pub(crate) fn none() -> Vec<Step> {
    Vec::new()
}

/// Red from this value on.
pub(crate) fn alarm(at: f64) -> Vec<Step> {
    vec![(at, "red")]
}

/// Orange from one value on, red from another.
pub(crate) fn warn(orange: f64, red: f64) -> Vec<Step> {
    vec![(orange, "orange"), (red, "red")]
}

/// The number in the condition of a recommended alert.
pub(crate) fn of_alert(name: &str) -> f64 {
    let rules = recommended::rules(None, &recommended::default_dead_letters());
    let rule = rules.iter().find(|rule| rule.name == name).expect("it is a recommended alert");
    match rule.expression.first().operand {
        Operand::Number(number) => number,
        Operand::Status(status) => panic!("{name} is about the status {status}"),
    }
}

/// As Grafana writes them: green below the first.
pub(crate) fn json(steps: &[Step]) -> Value {
    let mut all = vec![json!({"color": "green", "value": null})];
    all.extend(steps.iter().map(|(value, color)| json!({"color": color, "value": value})));
    json!({"mode": "absolute", "steps": all})
}

/// The colour of a status.
pub(crate) fn colour(status: Status) -> &'static str {
    match status {
        Status::Ok => "green",
        Status::Unknown => "#808080",
        Status::Lagging => "yellow",
        Status::Stuck => "orange",
        Status::Stalled | Status::Abandoned => "red",
        Status::Losing => "dark-red",
        Status::Rewound => "purple",
    }
}

/// Each status with its colour, where its name is that of a line.
pub(crate) fn of_statuses() -> Vec<Value> {
    let fixed = |status: &Status| {
        let colour = json!({"id": "color", "value": {"mode": "fixed", "fixedColor": colour(*status)}});
        json!({"matcher": {"id": "byName", "options": status.as_str()}, "properties": [colour]})
    };
    Status::ALL.iter().map(fixed).collect()
}

/// Each status with its colour, where its name is a value.
pub(crate) fn statuses() -> Value {
    let options = Status::ALL.iter().enumerate().map(|(index, status)| {
        (status.as_str().to_owned(), json!({"color": colour(*status), "index": index}))
    });
    json!([{"type": "value", "options": options.collect::<serde_json::Map<_, _>>()}])
}
