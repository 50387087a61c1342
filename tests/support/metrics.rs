//! Prometheus text as a map, for assertions.

use std::collections::BTreeMap;

/// From series, as they are written (`name{label="value"}`), to value.
pub type Metrics = BTreeMap<String, f64>;

/// Reads Prometheus text. Panics on a line that is none, and on a series that is there twice.
pub fn parse(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // Only the value follows the last space: no timestamps are written, and values hold no space.
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number in {line:?}"));
        let before = metrics.insert(series.to_owned(), value);
        assert!(before.is_none(), "{series} is there twice");
    }
    metrics
}

/// The series of one metric, the name with or without labels.
pub fn named(metrics: &Metrics, name: &str) -> Metrics {
    let is_of =
        |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    metrics
        .iter()
        .filter(|(series, _)| is_of(series))
        .map(|(series, value)| (series.clone(), *value))
        .collect()
}
