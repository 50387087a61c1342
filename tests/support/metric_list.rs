//! All metrics of the program and their labels, taken from its code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis_stream_consumer::consume::metrics::Metrics as ConsumerMetrics;
use redis_stream_consumer::entry::GroupMember;
use streamgauge::alert::fact::SubjectKind;
use streamgauge::alert::rule::label_names;
use streamgauge::exposition::alerts;
use streamgauge::self_metrics::SelfMetrics;
use streamgauge::self_metrics::labels::PollResult;
use streamgauge::values::table::FAMILIES;

/// Returns the exporter's and the consumer's own metrics as text, each with at least one series.
pub fn own_metrics() -> String {
    let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
    let target = metrics.for_target("t", &[]);
    target.set_node_up("n", true);
    target.observe_poll(PollResult::Ok, Duration::ZERO);
    target.set_last_successful_poll(Duration::ZERO);
    target.set_oldest_reading(Some(Duration::ZERO));
    metrics.count_request("/", 200);
    metrics.for_notifier("n");
    let consumer =
        ConsumerMetrics::new(&GroupMember { stream: vec![b's'], group: vec![b'g'], consumer: vec![b'c'] });
    let own = [metrics.render(None, |_| false).unwrap(), consumer.unwrap().render().unwrap()].concat();
    String::from_utf8(own).unwrap()
}

/// Returns the labels of each series by its name; a histogram has several names, one for each part.
pub fn series() -> BTreeMap<String, BTreeSet<String>> {
    let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    let mut known: BTreeMap<_, _> =
        FAMILIES.iter().map(|family| (family.name.to_owned(), owned(family.labels()))).collect();
    let subject = label_names(SubjectKind::Group).iter().chain(&alerts::LABELS);
    known.insert(alerts::NAME.to_owned(), subject.map(|label| (*label).to_owned()).collect());
    known.insert(alerts::GROUP_GONE.to_owned(), owned(label_names(SubjectKind::Group)));
    for line in own_metrics().lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap(), ""));
        let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
        known.entry(name.to_owned()).or_default().extend(labels.map(|(name, _)| name.to_owned()));
    }
    known
}

/// Returns the name of a series' metric: for a part of a histogram, that of the histogram.
pub fn metric_of(series: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| series.strip_suffix(part));
    let mut histograms = parts.filter(|name| name.ends_with("_seconds"));
    histograms.next().unwrap_or(series)
}
