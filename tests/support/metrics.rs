//! Parses the Prometheus text format into a map, for assertions.

use std::collections::BTreeMap;

/// Values by series in the text format, `name{label="value"}`.
pub type Metrics = BTreeMap<String, f64>;

/// Parses the text format. Panics on an invalid line and on a duplicate series.
pub fn parse(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // The value follows the last space, since the exporter writes no timestamps.
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number in {line:?}"));
        let before = metrics.insert(series.to_owned(), value);
        assert!(before.is_none(), "{series} is there twice");
    }
    metrics
}

/// Returns the series of one metric.
pub fn named(metrics: &Metrics, name: &str) -> Metrics {
    let is_of =
        |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    metrics
        .iter()
        .filter(|(series, _)| is_of(series))
        .map(|(series, value)| (series.clone(), *value))
        .collect()
}
