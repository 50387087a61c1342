//! The consumers of a group: those that work first.

use std::cmp::Reverse;
use std::time::Duration;

use maud::{Markup, html};

use crate::format::units::{count, counted, span};
use crate::page::label;
use crate::page::layout::unknown;
use redis_stream_lag::report::{ConsumerView, GroupView, Report};

/// A consumer that got an entry within this time is active.
const WORKING: Duration = Duration::from_secs(60);
/// A consumer that did not ask for so long, with nothing pending, is idle.
const IDLE: Duration = Duration::from_secs(600);

/// The meaning of a missing time of a consumer's last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastEntry {
    /// The consumer never got one.
    Reported,
    /// Or the server is older than 7.2, or entries are read with NOACK, which it does not note.
    MayBeUnknown,
}

impl LastEntry {
    /// Looks for a consumer with that time, since a report has no version of the server; and for a delivery to the group
    /// that no consumer got.
    pub(super) fn of(report: Option<&Report>, values: GroupView<'_>, consumers: &[ConsumerView<'_>]) -> Self {
        let streams = report.into_iter().flat_map(|report| &report.streams);
        let mut all = streams
            .flat_map(|stream| stream.groups.iter().filter_map(|group| stream.consumers(group)).flatten());
        let newest = consumers.iter().filter_map(ConsumerView::inactive).min();
        let is_noted =
            values.last_delivery_age().is_none_or(|age| newest.is_some_and(|newest| newest <= age + WORKING));
        match is_noted && all.any(|consumer| consumer.inactive().is_some()) {
            true => Self::Reported,
            false => Self::MayBeUnknown,
        }
    }
}

pub(super) fn table(consumers: &[ConsumerView<'_>], last_entry: LastEntry) -> Markup {
    let mut sorted: Vec<_> = consumers.iter().collect();
    sorted.sort_by_key(|consumer| {
        let is_active = is_active(consumer, last_entry);
        (Reverse(is_active), Reverse(consumer.messages_pending()), consumer.idle(), consumer.name())
    });
    html! {
        p.dim { (summary(consumers, last_entry)) }
        table role="table" {
            caption.unseen { "Consumers of the group" }
            thead role="rowgroup" { tr role="row" {
                th scope="col" role="columnheader" { "Consumer" }
                th scope="col" role="columnheader" { "Pending" }
                th scope="col" role="columnheader" title="its last attempt to read; before server 7.2, its last success" { "Last asked" }
                th scope="col" role="columnheader" { "Last entry received" }
            } }
            tbody role="rowgroup" { @for consumer in sorted { (row(consumer, last_entry)) } }
        }
    }
}

fn row(consumer: &ConsumerView<'_>, last_entry: LastEntry) -> Markup {
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (label::short(&consumer.name().text())) }
            td.number role="cell" data-label="Pending" { (count(consumer.messages_pending())) }
            td.number role="cell" data-label="Last asked" { (span(consumer.idle())) " ago" }
            td.number role="cell" data-label="Last entry received" {
                @match (consumer.inactive(), last_entry) {
                    (Some(time), _) => { (span(time)) " ago" }
                    (None, LastEntry::Reported) => { span title="or only with NOACK, which the server does not note" { "never" } }
                    (None, LastEntry::MayBeUnknown) => (unknown("it never got an entry, or only with NOACK, or the server is older than 7.2")),
                }
            }
        }
    }
}

/// `61 consumers: 1 received entries in the last minute, 2 with entries pending, 58 idle for more than 10 min with nothing pending`.
fn summary(consumers: &[ConsumerView<'_>], last_entry: LastEntry) -> String {
    let number = |is: &dyn Fn(&ConsumerView<'_>) -> bool| consumers.iter().filter(|one| is(one)).count();
    let active = number(&|one| is_active(one, last_entry));
    let holding = number(&|one| one.messages_pending() > 0);
    let idle = number(&|one| one.messages_pending() == 0 && one.idle() > IDLE);
    let idle = (idle > 0).then(|| format!(", {idle} idle for more than 10 min with nothing pending"));
    format!(
        "{}: {active} received entries in the last minute, {holding} with entries pending{}",
        counted(consumers.len(), "consumer", "consumers"),
        idle.unwrap_or_default()
    )
}

/// Returns true if the consumer got an entry in the last minute; where that is not reported, if it asked for one.
fn is_active(consumer: &ConsumerView<'_>, last_entry: LastEntry) -> bool {
    match (consumer.inactive(), last_entry) {
        (Some(time), _) => time <= WORKING,
        (None, LastEntry::Reported) => false,
        (None, LastEntry::MayBeUnknown) => consumer.idle() <= WORKING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::name::Name;
    use redis_stream_lag::report::{Age, ConsumerReport, GroupValues};

    const NOW: Duration = Duration::ZERO;

    fn views(consumers: &[ConsumerReport]) -> Vec<ConsumerView<'_>> {
        consumers.iter().map(|consumer| ConsumerView::at(consumer, NOW)).collect()
    }

    fn consumer(name: &str, messages_pending: u64, idle: u64, inactive: Option<u64>) -> ConsumerReport {
        let inactive = inactive.map(Duration::from_secs);
        ConsumerReport::new(Name::from(name), messages_pending, Duration::from_secs(idle), inactive, NOW)
    }

    fn names(html: &str) -> Vec<&str> {
        html.split("<bdi>").skip(1).filter_map(|part| part.split("</bdi>").next()).collect()
    }

    #[test]
    fn consumers_that_work_come_first_and_never_is_never() {
        let consumers = [
            consumer("asks", 0, 1, None),
            consumer("dead", 7, 4_000, Some(4_000)),
            consumer("leaked", 0, 9_000, Some(9_000)),
            consumer("works", 2, 0, Some(3)),
        ];
        let shown = table(&views(&consumers), LastEntry::Reported).into_string();
        assert_eq!(names(&shown), ["works", "dead", "asks", "leaked"]);
        assert!(shown.contains(r#"which the server does not note">never</span></td>"#), "{shown}");
        assert!(shown.contains("4 consumers: 1 received entries in the last minute, 2 with entries pending, 1 idle for more than 10 min with nothing pending"), "{shown}");
    }

    #[test]
    fn before_server_7_2_the_last_entry_is_not_known() {
        let consumers = [consumer("a", 0, 70, None), consumer("b", 0, 5, None)];
        let shown = table(&views(&consumers), LastEntry::MayBeUnknown).into_string();
        assert_eq!(names(&shown), ["b", "a"]);
        assert!(!shown.contains("never</span>") && shown.contains("not known"), "{shown}");
        assert!(shown.contains("2 consumers: 1 received entries"), "{shown}");
    }

    #[test]
    fn never_is_certain_only_where_the_server_notes_each_delivery() {
        use crate::page::test_support::{report, stream, values};
        let never = consumer("a", 0, 1, None);
        let of = |consumers: Vec<ConsumerReport>, others: Vec<ConsumerReport>, delivered: Option<u64>| {
            let values = GroupValues {
                last_delivery_age: delivered.map(Duration::from_secs).map(Age::of),
                ..values()
            };
            let with = |name: &str, consumers: &[ConsumerReport]| {
                let group = crate::page::test_support::group(name, values.clone());
                group.with_consumers(Some(consumers.to_vec()))
            };
            let report = report(vec![stream("s", vec![with("g", &consumers), with("h", &others)])]);
            LastEntry::of(Some(&report), (&values).into(), &views(&consumers))
        };
        let got = consumer("b", 0, 1, Some(5));
        assert_eq!(of(vec![never.clone(), got.clone()], vec![], Some(4)), LastEntry::Reported);
        assert_eq!(of(vec![never.clone()], vec![got.clone()], None), LastEntry::Reported);
        assert_eq!(of(vec![never.clone()], vec![], None), LastEntry::MayBeUnknown, "an old server");
        assert_eq!(of(vec![never], vec![got], Some(4)), LastEntry::MayBeUnknown, "NOACK");
    }
}
