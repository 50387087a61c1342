//! Families as [`redis_stream_lag::family`] folds them, beside the values of their streams one by one, folded as the rows of
//! the table state.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::values::family::{Aggregation, Family, MetricOrigin, Number, ValueReading, ValueSource};
use crate::values::table::{FAMILIES, GROUP_VALUES};
use redis_stream_core::name::Name;
use redis_stream_lag::family::of_family;
use redis_stream_lag::report::{
    GroupReport, GroupValues, ReportedStream, Status, StreamReport, StreamValues,
};

const GROUP: &str = "g";
/// Time of the readings, of which the random values are.
const READ_AT: Duration = Duration::from_secs(1_700_000_000);

fn stream(rng: &mut Rng, at: usize) -> ReportedStream {
    let values = (rng.u8(0..4) > 0).then(|| GroupValues::random(rng));
    let group = GroupReport::new(Name::from(GROUP), values);
    let key = Name::from(format!("room:{at}").as_str());
    let family = Some(Name::from("rooms"));
    let read_at = READ_AT.into();
    let values = Some(StreamValues::random(rng));
    StreamReport { family, read_at, ..StreamReport::new(key, values, vec![group]) }.into()
}

fn read(family: &Family, stream: &ReportedStream) -> ValueReading {
    let Some(group) = stream.group(&Name::from(GROUP)) else { return ValueReading::Absent };
    match family.source {
        ValueSource::StreamUp => ValueReading::stream_up(stream),
        ValueSource::Stream(read) => ValueReading::of_stream(stream, read),
        ValueSource::GroupUp => ValueReading::group_up(group),
        ValueSource::Group(read) => ValueReading::of_group(stream, group, read),
        _ => ValueReading::Absent,
    }
}

/// Returns what the row states of the readings of all streams.
fn folded(aggregation: Aggregation, readings: &[ValueReading]) -> Option<f64> {
    let known: Vec<f64> = readings.iter().filter_map(|reading| reading.known().map(Number::as_f64)).collect();
    let is_unknown = readings.contains(&ValueReading::Unknown);
    let (least, most) = (known.iter().copied().reduce(f64::min), known.iter().copied().reduce(f64::max));
    let sum = (!known.is_empty()).then(|| known.iter().sum());
    match aggregation {
        Aggregation::Sum => sum.filter(|_| !is_unknown),
        Aggregation::SumOfKnown | Aggregation::Counter => sum,
        Aggregation::Min => least.filter(|_| !is_unknown),
        Aggregation::Max => most.filter(|_| !is_unknown),
        Aggregation::SmallestKnown => least,
        Aggregation::LargestKnown => most.filter(|most| !is_unknown || *most > 0.0),
        Aggregation::Any | Aggregation::OfFamily | Aggregation::LeftOut => None,
    }
}

#[test]
fn each_value_of_a_family_is_the_fold_that_its_row_states() {
    let mut seen = BTreeSet::new();
    for seed in 0..3_000 {
        let mut rng = Rng::with_seed(seed);
        let streams: Vec<_> = (0..rng.usize(1..5)).map(|at| stream(&mut rng, at)).collect();
        let family: ReportedStream =
            of_family(&Name::from("rooms"), &streams.iter().collect::<Vec<_>>()).into();
        let rows = FAMILIES.iter().filter(|row| row.origin == MetricOrigin::Own);
        for row in rows.filter(|row| row.aggregation != Aggregation::OfFamily) {
            let readings: Vec<_> = streams.iter().map(|stream| read(row, stream)).collect();
            let expected = folded(row.aggregation, &readings);
            let found = read(row, &family).known().map(Number::as_f64);
            let is_same = match (expected, found) {
                (Some(expected), Some(found)) => (expected - found).abs() < 1e-5,
                (expected, found) => expected == found,
            };
            assert!(is_same, "{}, seed {seed}: {found:?} of {readings:?}", row.name);
            seen.extend(found.filter(|number| *number > 0.0).map(|_| row.name));
        }
        assert_status(&streams, &family, seed);
    }
    let all = GROUP_VALUES.iter().map(|row| row.name);
    assert_eq!(all.filter(|name| !seen.contains(name)).collect::<Vec<_>>(), [""; 0], "never above 0");
}

fn assert_status(streams: &[ReportedStream], family: &StreamReport, seed: u64) {
    let read = streams.iter().filter_map(|stream| stream.groups[0].values.as_ref());
    let statuses: Vec<_> = read.map(|values| values.status).collect();
    let (Some(values), Some(fold)) = (&family.groups[0].values, family.groups[0].fold()) else {
        return assert!(statuses.is_empty(), "seed {seed}");
    };
    for (condition, number) in Status::ALL.into_iter().zip(fold.by_status) {
        let holds = statuses.iter().map(|status| status.iter().any(|one| one == condition));
        assert_eq!(holds.filter(|holds| *holds).count() as u64, number, "seed {seed}");
        if condition.is_condition() {
            let known: Vec<_> = statuses.iter().map(|status| status.holds(condition)).collect();
            let expected = match (known.contains(&Some(true)), known.contains(&None)) {
                (true, _) => Some(true),
                (false, true) => None,
                (false, false) => Some(false),
            };
            assert_eq!(values.status.holds(condition), expected, "{}, seed {seed}", condition.as_str());
        }
    }
}

#[test]
fn each_row_states_a_fold_that_fits_its_source() {
    for row in FAMILIES {
        let fits = match (row.source, row.aggregation) {
            (ValueSource::Consumer(_) | ValueSource::Holder, aggregation) => {
                aggregation == Aggregation::LeftOut
            }
            (ValueSource::FamilyGroups, aggregation) => aggregation == Aggregation::OfFamily,
            (ValueSource::Status, aggregation) => aggregation == Aggregation::Any,
            (_, aggregation) => {
                let is_counter = row.kind == crate::values::family::MetricKind::Counter;
                is_counter == (aggregation == Aggregation::Counter)
            }
        };
        assert!(fits, "{}", row.name);
    }
}
