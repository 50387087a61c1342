//! The first page: problems, alerts, all groups with the worst first, and targets.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::alert::active::ActiveAlert;
use crate::alert::state::Phase;
use crate::format::severity::Severity;
use crate::format::units::{ago, count, counted};
use crate::page::layout::{PageLayout, badge, status_badge, unknown};
use crate::page::model::{PageModel, TargetModel};
use crate::page::overview::groups::GroupTable;
use crate::page::overview::query::{OverviewQuery, StatusFilter};
use crate::page::{alert_list, label};
use redis_stream_lag::report::Status;

mod groups;
pub mod query;

/// Alerts of a state that are listed; the others are counted.
const ALERTS: usize = 10;
/// Pending alerts that are shown without a click if none fires.
const FEW_ALERTS: usize = 3;
/// Streams of a target that could not be read and are listed; also the targets that are listed.
const STREAMS: usize = 10;

/// Renders the first page.
pub fn render(model: &PageModel, query: &OverviewQuery) -> String {
    let tally = Tally::of(model);
    let trouble = in_words(tally.groups_in_trouble, tally.targets_in_trouble);
    let content = html! {
        (summary(model, &tally, trouble.as_deref()))
        (alerts(model))
        (GroupTable::of(model, query).section())
        (unread_streams(model))
        (targets(model))
    };
    let title = match trouble {
        Some(trouble) => format!("{trouble} with problems"),
        None => "Consumer groups".to_owned(),
    };
    PageLayout { title: &title, root: "./", interval: model.interval }.around(&content).into_string()
}

/// Numbers of groups, and of targets in trouble.
#[derive(Default)]
struct Tally {
    groups: usize,
    groups_in_trouble: usize,
    targets_in_trouble: usize,
    /// Those of each status; `None` is missing. A group with several conditions is counted for each.
    by_status: BTreeMap<Option<Status>, usize>,
}

impl Tally {
    fn of(model: &PageModel) -> Self {
        let is_in_trouble =
            |target: &&TargetModel| matches!(health(target).0, Severity::Bad | Severity::Poor);
        let targets_in_trouble = model.targets.iter().filter(is_in_trouble).count();
        let mut tally = Self { targets_in_trouble, ..Self::default() };
        for row in model.rows() {
            tally.groups += 1;
            tally.groups_in_trouble += usize::from(StatusFilter::Trouble.takes(row.status()));
            for status in row.statuses() {
                *tally.by_status.entry(status).or_default() += 1;
            }
        }
        tally
    }
}

/// Formats a number of groups and of targets; `None` if both are 0.
fn in_words(groups: usize, targets: usize) -> Option<String> {
    let (of_groups, of_targets) = (counted(groups, "group", "groups"), counted(targets, "target", "targets"));
    match (groups, targets) {
        (0, 0) => None,
        (_, 0) => Some(of_groups),
        (0, _) => Some(of_targets),
        _ => Some(format!("{of_groups} and {of_targets}")),
    }
}

fn summary(model: &PageModel, tally: &Tally, trouble: Option<&str>) -> Markup {
    let groups = tally.groups;
    let in_trouble = tally.groups_in_trouble + tally.targets_in_trouble;
    let firing: usize = model.targets.iter().map(|target| target.active.count_of(Phase::Firing)).sum();
    let down: Vec<_> = model.targets.iter().filter(|target| health(target).0 != Severity::Good).collect();
    html! {
        section #summary data-live {
            h1 {
                @if let Some(trouble) = trouble {
                    (trouble) @if in_trouble == 1 { " has" } @else { " have" } " problems"
                }
                @else if groups > 0 && down.is_empty() { "No problem detected" }
                @else { "Consumer groups" }
            }
            p.lead {
                (counted(groups, "group", "groups")) " on " (counted(model.targets.len(), "target", "targets")) ", "
                @if firing == 0 { "no alert fires" }
                @else { a href="#alerts" { (counted(firing, "alert fires", "alerts fire")) } }
            }
            @for target in down.iter().take(STREAMS) {
                p.callout { (problem_of(target, model)) }
            }
            @if down.len() > STREAMS {
                p.callout { "and " a href="#targets" { (count((down.len() - STREAMS) as u64)) " more targets" } }
            }
            ul.counts aria-label="Groups by status" {
                @for (status, groups) in &tally.by_status {
                    li {
                        a href=(by_status_link(StatusFilter::One(*status))) {
                            (status_badge(*status)) " " (count(*groups as u64))
                        }
                    }
                }
            }
        }
    }
}

fn by_status_link(status: StatusFilter) -> String {
    let link = OverviewQuery { status, ..OverviewQuery::default() }.link();
    format!("./{link}#groups")
}

/// Returns the health of a target in a word.
fn health(target: &TargetModel) -> (Severity, &'static str) {
    let snapshot = &target.snapshot;
    match (snapshot.is_up, &snapshot.report) {
        (_, None) if snapshot.last_read.is_none() && snapshot.error.is_none() => {
            (Severity::Unknown, "not polled yet")
        }
        (true, Some(_)) if snapshot.error.is_none() => (Severity::Good, "up"),
        (true, Some(_)) => (Severity::Poor, "read in part"),
        (true, None) => (Severity::Poor, "too old"),
        (false, _) => (Severity::Bad, "down"),
    }
}

/// Describes the problem of a target, and how old its values are.
fn problem_of(target: &TargetModel, model: &PageModel) -> Markup {
    let snapshot = &target.snapshot;
    let (severity, word) = health(target);
    html! {
        (badge(severity, word)) " " strong { (label::short(&snapshot.labels.name)) } ": "
        @if let Some(error) = &snapshot.error { (label::long(error)) ". " }
        @match (&snapshot.report, snapshot.last_read) {
            (Some(_), Some(at)) if !snapshot.is_up => { "What is shown of it was read " (ago(at, model.now)) "." }
            (None, Some(at)) => { "Last seen " (ago(at, model.now)) "." }
            (None, None) => { "Nothing is known of it yet." }
            _ => {}
        }
    }
}

fn alerts(model: &PageModel) -> Markup {
    let count_of =
        |state| -> usize { model.targets.iter().map(|target| target.active.count_of(state)).sum() };
    let (firing, pending) = (count_of(Phase::Firing), count_of(Phase::Pending));
    let first = |state| -> Vec<ActiveAlert> {
        model.targets.iter().flat_map(|target| target.active.of_phase(state)).take(ALERTS).collect()
    };
    html! {
        section #alerts data-live {
            h2 { "Alerts" }
            @if firing + pending == 0 {
                p.dim { "No active alerts." }
            } @else {
                (alert_list::list("", &first(Phase::Firing), model.now))
                (more(firing))
                @if pending > 0 {
                    details #pending-alerts open[firing == 0 && pending <= FEW_ALERTS] {
                        summary { (about_to_fire(firing, pending)) }
                        (alert_list::list("", &first(Phase::Pending), model.now))
                        (more(pending))
                    }
                }
            }
        }
    }
}

fn about_to_fire(firing: usize, pending: usize) -> String {
    let more = if firing > 0 { " more" } else { "" };
    let verb = if pending == 1 { "is" } else { "are" };
    let noun = match (firing, pending) {
        (0, 1) => " alert",
        (0, _) => " alerts",
        _ => "",
    };
    format!("{}{more}{noun} {verb} about to fire", count(pending as u64))
}

fn more(alerts: usize) -> Markup {
    html! {
        @if alerts > ALERTS {
            p { "and " a href="api/v1/alerts" { (count((alerts - ALERTS) as u64)) " more" } }
        }
    }
}

/// Renders the streams that grow and that no group reads.
fn unread_streams(model: &PageModel) -> Markup {
    let unread: Vec<_> = model
        .targets
        .iter()
        .flat_map(|target| {
            let streams = target.snapshot.report.iter().flat_map(|report| report.unread_streams());
            streams.map(move |(stream, values)| (target, stream, values))
        })
        .collect();
    html! {
        @if !unread.is_empty() {
            section #unread data-live {
                h2 { "Unread streams" }
                p.dim {
                    "They grow, have no group, and are not trimmed as far as that was seen. Readers without a group (XREAD, XRANGE) are not seen."
                }
                ul {
                    @for (target, stream, values) in unread.iter().take(STREAMS) {
                        li {
                            strong { (label::short(&stream.key.text())) } " on "
                            (label::short(&target.snapshot.labels.name)) " " (target.snapshot.labels.db) ": "
                            (count(values.length)) " entries"
                        }
                    }
                    @if unread.len() > STREAMS { li { "and " (count((unread.len() - STREAMS) as u64)) " more" } }
                }
            }
        }
    }
}

fn targets(model: &PageModel) -> Markup {
    html! {
        section #targets data-live {
            h2 { "Targets" }
            table role="table" {
                thead role="rowgroup" { tr role="row" {
                    @for heading in ["Target", "Health", "Last read", "Streams", "Groups", "Firing alerts"] {
                        th scope="col" role="columnheader" { (heading) }
                    }
                } }
                tbody role="rowgroup" {
                    @for target in &model.targets { (target_row(target, model)) }
                }
            }
        }
    }
}

fn target_row(target: &TargetModel, model: &PageModel) -> Markup {
    let snapshot = &target.snapshot;
    let (severity, word) = health(target);
    let streams = snapshot.report.as_ref().map(|report| &report.streams);
    let groups = streams.map(|streams| streams.iter().map(|stream| stream.groups.len()).sum::<usize>());
    let unread = streams.into_iter().flatten().filter(|stream| stream.values.is_none());
    let unread: Vec<_> = unread.collect();
    let only = OverviewQuery { target: Some(snapshot.labels.name.clone()), ..OverviewQuery::default() };
    let number = |number: Option<usize>| match number {
        Some(number) => html! { (count(number as u64)) },
        None => unknown("the target was not read, or too long ago"),
    };
    let firing = target.active.count_of(Phase::Firing) as u64;
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                a href={ "./" (only.link()) "#groups" } { (label::short(&snapshot.labels.name)) }
                " " span.dim { (snapshot.labels.db) }
                @for (name, value) in &snapshot.labels.configured { " " span.dim { (name) "=" (label::short(value)) } }
            }
            td role="cell" data-label="Health" {
                (badge(severity, word))
                @if let Some(error) = &snapshot.error { div.dim { (label::long(error)) } }
            }
            td role="cell" data-label="Last read" {
                @match snapshot.last_read { Some(at) => (ago(at, model.now)), None => "never" }
            }
            td.number role="cell" data-label="Streams" {
                (number(streams.map(Vec::len)))
                @if !unread.is_empty() {
                    details id={ "unread-" (snapshot.labels.name) } {
                        summary { (count(unread.len() as u64)) " not read" }
                        ul {
                            @for stream in unread.iter().take(STREAMS) {
                                li {
                                    (label::short(&stream.key.text()))
                                    @if stream.refused { ": denied" } @else { ": missing, or no stream" }
                                }
                            }
                            @if unread.len() > STREAMS { li { "and more" } }
                        }
                    }
                }
            }
            td.number role="cell" data-label="Groups" { (number(groups)) }
            td.number role="cell" data-label="Firing alerts" { (count(firing)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::alert::rule::TargetLabels;
    use crate::api::groups::TargetSnapshot;
    use crate::page::test_support::{group, report, stream, values};
    use redis_stream_lag::report::{GroupReport, GroupValues, Lag, Report};

    fn view_of(report: Option<Report>) -> PageModel {
        let labels =
            TargetLabels { name: "shop".to_owned(), db: "db0".to_owned(), configured: BTreeMap::new() };
        let snapshot = TargetSnapshot {
            labels: Arc::new(labels),
            is_up: report.is_some(),
            last_read: Some(Duration::from_secs(1_700_000_000)),
            error: report.is_none().then(|| "cannot connect to cache:6379".to_owned()),
            report: report.map(Arc::new),
        };
        let target = TargetModel {
            snapshot,
            history: Arc::default(),
            active: Arc::default(),
            redis_cli: Arc::new(["redis-cli".to_owned()]),
        };
        PageModel {
            targets: vec![target],
            now: Duration::from_secs(1_700_000_065),
            interval: Duration::from_secs(10),
        }
    }

    fn shop() -> PageModel {
        let with =
            |lag, status: Status| GroupValues { lag, status: status.into(), messages_pending: 1, ..values() };
        let groups = vec![
            group("calm", with(Lag::Exact(0), Status::Ok)),
            group("counted", with(Lag::Between { min: 3, max: 4_000 }, Status::Lagging)),
            group("dead", with(Lag::Exact(1_200), Status::Abandoned)),
            GroupReport { named: true, values: None, ..group("wanted", values()) },
        ];
        view_of(Some(report(vec![stream("orders", groups), stream("other", vec![group("x", values())])])))
    }

    /// The texts between tags, a line for each row of the table.
    fn rows(html: &str) -> Vec<String> {
        let table = html.split("<table class=\"groups\"").nth(1).unwrap_or_default();
        let table = table.split("</table>").next().unwrap();
        let words = |row: &str| {
            let texts = row.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
        };
        table.split("<tr").skip(2).map(words).collect()
    }

    fn shown(model: &PageModel, query: &[(&str, &str)]) -> Vec<String> {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        rows(&render(model, &OverviewQuery::read(&pairs)))
    }

    #[test]
    fn the_worst_group_comes_first_and_what_is_not_known_is_no_number() {
        insta::assert_snapshot!(shown(&shop(), &[]).join("\n"), @r"
        ✖ missing wanted orders the stream has no such group
        ✖ abandoned dead orders 1,200 ? not known 1 ? not known 1 no history yet
        ▲ lagging counted orders 3 to 4,000 ? not known 1 ? not known 1 no history yet
        ✔ ok calm orders 0 ? not known 1 ? not known 1 no history yet
        ✔ ok x other 0 ? not known 0 none 1 no history yet
        ");
    }

    #[test]
    fn groups_are_searched_and_sorted_with_what_is_not_known_last() {
        let first_words = |query: &[(&str, &str)]| -> Vec<String> {
            let name = |row: &String| row.split(' ').nth(2).unwrap().to_owned();
            shown(&shop(), query).iter().map(name).collect()
        };
        for (query, expected) in [
            (&[("q", "OTHER")][..], &["x"][..]),
            (&[("q", "shop"), ("status", "ok")], &["calm", "x"]),
            (&[("status", "trouble")], &["wanted", "dead", "counted"]),
            (&[("status", "missing")], &["wanted"]),
            (&[("target", "nobody")], &[]),
            (&[("sort", "lag")], &["dead", "counted", "calm", "x", "wanted"]),
            (&[("sort", "lag"), ("order", "asc")], &["calm", "x", "counted", "dead", "wanted"]),
            (&[("sort", "group")], &["calm", "counted", "dead", "wanted", "x"]),
            (&[("sort", "group"), ("order", "desc")], &["x", "wanted", "dead", "counted", "calm"]),
            (
                &[("sort", "stream"), ("order", "desc"), ("page", "7")],
                &["x", "wanted", "dead", "counted", "calm"],
            ),
        ] {
            assert_eq!(first_words(query), expected, "{query:?}");
        }
    }

    #[test]
    fn a_target_that_cannot_be_read_is_told_of_before_all_else() {
        let html = render(&view_of(None), &OverviewQuery::default());
        let told = html.find("class=\"callout\"").expect("it is told of");
        assert!(told < html.find("id=\"alerts\"").unwrap() && told < html.find("id=\"groups\"").unwrap());
        assert!(html.contains("cannot connect to cache:6379"), "{html}");
        assert!(html.contains("Last seen 1 min 5 s ago."), "{html}");
        assert!(html.contains("There is no group to show."), "{html}");
    }

    #[test]
    fn of_ten_thousand_groups_a_page_is_small_and_quick() {
        let groups = |stream: usize| {
            let lag = |n: usize| Lag::Exact((n * 7_919 % 10_007) as u64);
            (0..100)
                .map(|n| {
                    group(format!("g{n:03}").as_str(), GroupValues { lag: lag(n + stream * 100), ..values() })
                })
                .collect()
        };
        let streams = (0..100).map(|n| stream(format!("s{n:03}").as_str(), groups(n))).collect();
        let model = view_of(Some(report(streams)));
        #[expect(clippy::disallowed_methods, reason = "measures how long it takes")]
        let began = tokio::time::Instant::now();
        let html = render(&model, &OverviewQuery::read(&[("q".to_owned(), "g".to_owned())]));
        let took = began.elapsed();
        assert_eq!(rows(&html).len(), 50);
        assert!(html.contains("1 to 50 of 10,000 groups") && html.len() < 120_000, "{} bytes", html.len());
        // Not optimized here, and others work on this machine.
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}
