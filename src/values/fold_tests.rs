//! Families as [`redis_stream_lag::family`] folds them, beside the values of their streams one by one, folded as the rows of
//! the table state.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::values::family::{Aggregation, Family, MetricOrigin, Number, ValueReading, ValueSource};
use crate::values::table::FAMILIES;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::family::of_family;
use redis_stream_lag::question::FATAL_DELIVERIES;
use redis_stream_lag::report::{
    Age, ConditionSet, EntryRate, GroupReport, GroupStatus, GroupValues, HistoryCoverage, Lag, LossEstimate,
    OldestPending, PendingCensus, PendingCensusReading, ReportedStream, Retention, SafeTrim, SilentConsumers,
    Status, StreamReport, StreamValues,
};
use redis_stream_lag::snapshot::Idmp;

const GROUP: &str = "g";

fn maybe<T>(rng: &mut Rng, value: T) -> Option<T> {
    (rng.u8(0..4) > 0).then_some(value)
}

fn count(rng: &mut Rng) -> u64 {
    rng.u64(0..5)
}

fn span(rng: &mut Rng) -> Duration {
    Duration::from_secs(rng.u64(0..4))
}

fn maybe_span(rng: &mut Rng) -> Option<Duration> {
    let span = span(rng);
    maybe(rng, span)
}

fn maybe_count(rng: &mut Rng) -> Option<u64> {
    let count = count(rng);
    maybe(rng, count)
}

fn status(rng: &mut Rng) -> GroupStatus {
    let held = Status::ALL.into_iter().filter(|_| rng.u8(0..8) == 0).collect::<ConditionSet>();
    let coverage = match rng.bool() {
        true => HistoryCoverage::Complete,
        false => HistoryCoverage::Partial { remaining: maybe_span(rng) },
    };
    GroupStatus { conditions: held, coverage, since: maybe_span(rng) }
}

fn oldest_pending(rng: &mut Rng) -> Option<OldestPending> {
    let entry = OldestPending::Entry {
        id: StreamId::new(count(rng), 0),
        consumer: None,
        age: maybe_span(rng).map(Age),
        idle: maybe_span(rng).map(Age),
        deliveries: if rng.u8(0..4) == 0 { FATAL_DELIVERIES } else { 1 + count(rng) },
    };
    match rng.u8(0..3) {
        0 => None,
        1 => Some(OldestPending::Nothing),
        _ => Some(entry),
    }
}

fn census(rng: &mut Rng) -> Option<PendingCensusReading> {
    let census = PendingCensus {
        entries: count(rng),
        redelivered: count(rng),
        failed: rng.u64(0..2),
        max_deliveries: maybe_count(rng),
        max_idle: maybe_span(rng),
        oldest_delivery: maybe_span(rng),
        ..PendingCensus::default()
    };
    let unchanged_until = maybe_span(rng);
    let reading = PendingCensusReading { census: Arc::new(census), age: Age(span(rng)), unchanged_until };
    maybe(rng, reading)
}

fn group_values(rng: &mut Rng) -> GroupValues {
    let (min, more) = (count(rng), count(rng));
    let rate = |rng: &mut Rng| {
        let rate = EntryRate { entries: count(rng), time: Duration::from_secs(1 + rng.u64(0..9)) };
        maybe(rng, rate)
    };
    let silent = SilentConsumers { idle: count(rng), stranded: count(rng) };
    let (loss, retention) =
        (LossEstimate { lost: count(rng), added: 9 }, Retention { lag: count(rng), length: 9 });
    GroupValues {
        lag: if rng.bool() { Lag::Exact(min) } else { Lag::Between { min, max: min + more } },
        lag_seconds: maybe_span(rng).map(Age),
        last_delivered_id: StreamId::new(count(rng), 0),
        last_delivered_id_age: maybe_span(rng).map(Age),
        last_delivery_age: maybe_span(rng).map(Age),
        entries_read: maybe_count(rng),
        messages_pending: rng.u64(0..2),
        messages_released: maybe_count(rng),
        oldest_pending: oldest_pending(rng),
        pending_orphaned: maybe_count(rng),
        pending_census: census(rng),
        consumers: count(rng),
        consumers_growth: maybe_count(rng),
        silent_consumers: maybe(rng, silent),
        entries_lost: maybe_count(rng),
        loss_estimate: maybe(rng, loss),
        retention_used: maybe(rng, retention),
        time_to_loss: maybe_span(rng),
        entries_delivered: maybe_count(rng),
        entries_acknowledged: maybe_count(rng),
        drain_time: maybe_span(rng),
        added_rate: rate(rng),
        delivered_rate: rate(rng),
        pending_dropped: rng.u64(0..2),
        recreation: None,
        status: status(rng),
        fold: None,
    }
}

fn stream(rng: &mut Rng, at: usize) -> ReportedStream {
    let trim = SafeTrim { min_id: StreamId::new(count(rng), 0), entries: maybe_count(rng), holder: None };
    let idmp = Idmp {
        duration_seconds: count(rng),
        max_size: 1 + count(rng),
        producer_ids_tracked: count(rng),
        idempotent_ids_tracked: count(rng),
        entries_added: count(rng),
        duplicates: count(rng),
    };
    let groups = rng.u64(0..2);
    let values = StreamValues {
        length: count(rng),
        groups,
        entries_added: maybe_count(rng),
        first_entry: maybe_span(rng).map(|span| span + Duration::from_secs(1)),
        last_generated: maybe_span(rng).map(|span| span + Duration::from_secs(1)),
        safe_trim: maybe(rng, trim).filter(|_| groups > 0),
        idmp: maybe(rng, idmp),
        memory_bytes: maybe_count(rng),
        ..StreamValues::default()
    };
    let group = GroupReport {
        name: Name::from(GROUP),
        named: rng.bool(),
        values: maybe(rng, ()).map(|()| group_values(rng)),
        consumers: None,
    };
    let key = Name::from(format!("room:{at}").as_str());
    let family = Some(Name::from("rooms"));
    StreamReport { family, ..StreamReport::new(key, Some(values), vec![group]) }.into()
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
        }
        assert_status(&streams, &family, seed);
    }
}

fn assert_status(streams: &[ReportedStream], family: &StreamReport, seed: u64) {
    let read = streams.iter().filter_map(|stream| stream.groups[0].values.as_ref());
    let statuses: Vec<_> = read.map(|values| values.status).collect();
    let Some(values) = &family.groups[0].values else { return assert!(statuses.is_empty(), "seed {seed}") };
    for (condition, number) in Status::ALL.into_iter().zip(values.fold.as_ref().unwrap().by_status) {
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
