//! The first page: problems, targets, alerts, all groups with the worst first, streams without groups, and what the words
//! mean.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::alert::state::Phase;
use crate::format::severity::Severity;
use crate::format::units::{ago, count, counted};
use crate::page::label;
use crate::page::layout::{PageLayout, badge, status_badge};
use crate::page::model::{PageModel, TargetModel, health};
use crate::page::overview::groups::GroupTable;
use crate::page::overview::query::{OverviewQuery, StatusFilter};
use redis_stream_lag::report::Status;

mod alerts;
mod events;
mod groups;
mod legend;
pub mod query;
mod streams;
mod targets;

/// Targets in trouble that are described one by one.
const PROBLEMS: usize = 10;

/// Renders the first page.
pub fn render(model: &PageModel, query: &OverviewQuery) -> String {
    let tally = Tally::of(model);
    let trouble = in_words(tally.groups_in_trouble, tally.targets_in_trouble);
    let content = html! {
        (summary(model, &tally, trouble.as_deref()))
        (targets::strip(model))
        (alerts::section(model))
        (GroupTable::of(model, query).section())
        (events::of_last_day(model))
        (streams::without_groups(model))
        (legend::section())
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
        // What a group is now is not known of a target that is not read.
        for row in model.rows().filter(|row| !row.target.is_old()) {
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
            @for target in down.iter().take(PROBLEMS) {
                p.callout { (problem_of(target, model)) }
            }
            @if down.len() > PROBLEMS {
                p.callout { "and " a href="#targets" { (count((down.len() - PROBLEMS) as u64)) " more targets" } }
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

/// Describes the problem of a target, and how old its values are.
fn problem_of(target: &TargetModel, model: &PageModel) -> Markup {
    let snapshot = &target.snapshot;
    let (severity, word) = health(target);
    html! {
        (badge(severity, word)) " " strong { (label::short(&snapshot.labels.name)) } ": "
        @if let Some(error) = &snapshot.error { (label::long(error)) ". " }
        @match (&snapshot.report, snapshot.last_read) {
            (Some(_), Some(at)) if !snapshot.is_up => { "What is shown of it was read " (ago(at, model.now)) "." }
            (None, Some(at)) => {
                "Last seen " (ago(at, model.now)) "."
                @if target.is_old() { " Its last values are shown in grey." }
            }
            (None, None) => { "Nothing is known of it yet." }
            _ => {}
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
    use crate::page::test_support::{group, report, stream, target, values};
    use redis_stream_lag::report::{GroupReport, GroupValues, Lag, Report, StreamReport};

    fn view_of(report: Option<Report>) -> PageModel {
        let labels =
            TargetLabels { name: "shop".to_owned(), db: "db0".to_owned(), configured: BTreeMap::new() };
        let snapshot = TargetSnapshot {
            labels: Arc::new(labels),
            is_up: report.is_some(),
            last_read: Some(Duration::from_secs(1_700_000_000)),
            error: report.is_none().then(|| "cannot connect to cache:6379".to_owned()),
            report: report.map(Arc::new),
            redis_cli: Arc::default(),
        };
        PageModel {
            targets: vec![target(snapshot)],
            now: Duration::from_secs(1_700_000_065),
            interval: Duration::from_secs(10),
            links: Arc::default(),
        }
    }

    fn shop() -> PageModel {
        let with =
            |lag, status: Status| GroupValues { lag, status: status.into(), messages_pending: 1, ..values() };
        let groups = vec![
            group("calm", with(Lag::Exact(0), Status::Ok)),
            group("counted", with(Lag::Between { min: 3.into(), max: 4_000 }, Status::Lagging)),
            group("dead", with(Lag::Exact(1_200), Status::Abandoned)),
            GroupReport::missing("wanted".into()),
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
        ✖ abandoned dead orders 1,200 ? not known ? not known ? not known ? not known 1 oldest ? not known 1 no history yet
        ▲ lagging counted orders 3 to 4,000 ? not known ? not known ? not known ? not known 1 oldest ? not known 1 no history yet
        ✔ ok calm orders 0 ? not known ? not known ? not known 0 s 1 oldest ? not known 1 no history yet
        ✔ ok x other 0 ? not known ? not known ? not known 0 s 0 1 no history yet
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

    /// Twelve pods on one stream, four of which are dead.
    fn pods() -> PageModel {
        let pod = |n: u64| {
            let (lag, status) = if n < 4 { (100 + n, Status::Abandoned) } else { (0, Status::Ok) };
            let values = GroupValues { lag: Lag::Exact(lag), status: status.into(), ..values() };
            group(format!("pod-{n:02}").as_str(), values)
        };
        let slow = GroupValues { lag: Lag::Exact(7), status: Status::Lagging.into(), ..values() };
        let streams =
            vec![stream("cache", (0..12).map(pod).collect()), stream("orders", vec![group("slow", slow)])];
        view_of(Some(report(streams)))
    }

    #[test]
    fn many_groups_of_one_stream_and_status_are_one_line_that_opens() {
        let model = pods();
        insta::assert_snapshot!(shown(&model, &[]).join("\n"), @r"
        ✖ abandoned 4 groups pod-03 , pod-00 , pod-01 , … cache up to 103 ? not known ? not known ? not known ? not known 0 4
        ▲ lagging slow orders 7 ? not known ? not known ? not known ? not known 0 1 no history yet
        ✔ ok 8 groups pod-04 , pod-05 , pod-06 , … cache 0 ? not known ? not known ? not known 0 s 0 8
        ");
        assert_eq!(shown(&model, &[("fold", "no")]).len(), 13);
        let html = render(&model, &OverviewQuery::default());
        let name = html.split("id=\"fold-").nth(1).unwrap()[..8].to_owned();
        assert!(
            html.contains(&format!("href=\"./?open={name}#fold-{name}\" aria-expanded=\"false\"")),
            "{html}"
        );
        let opened = shown(&model, &[("open", &name)]);
        assert_eq!(opened.len(), 3 + 4);
        assert!(opened[1].starts_with("\u{2716} abandoned pod-03 cache 103"), "{opened:?}");
        let html = render(&model, &OverviewQuery::read(&[("open".to_owned(), name.clone())]));
        assert!(html.contains(&format!("href=\"./?#fold-{name}\" aria-expanded=\"true\"")), "{html}");
    }

    #[test]
    fn the_groups_of_a_family_are_one_line_under_its_name() {
        let job = |n: u64| StreamReport {
            family: Some("jobs".into()),
            ..stream(format!("job:{n}").as_str(), vec![group("workers", values())])
        };
        // A stream with the name of the family is no part of it.
        let other = stream("jobs", (0..4).map(|n| group(format!("g{n}").as_str(), values())).collect());
        let mut streams: Vec<_> = (0..5).map(job).collect();
        streams.push(other);
        let shown = shown(&view_of(Some(report(streams))), &[]);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].contains("4 groups g0") || shown[1].contains("4 groups g0"), "{shown:?}");
        let family = shown.iter().find(|line| line.contains("5 groups workers")).unwrap();
        assert!(family.contains("jobs family, on shop"), "{family}");
    }

    #[test]
    fn a_target_that_is_not_read_any_more_shows_its_last_values_and_counts_nowhere() {
        let mut model = pods();
        let target = &mut model.targets[0];
        (target.snapshot.report, target.snapshot.is_up) = (None, false);
        let html = render(&model, &OverviewQuery::default());
        assert!(html.contains("Its last values are shown in grey."), "{html}");
        assert!(html.contains("as of 22:13 UTC") && html.contains("class=\"old\""), "{html}");
        assert!(
            html.contains("<h1>1 target has problems</h1>"),
            "no group of it is known to have any: {html}"
        );
        assert_eq!(rows(&html).len(), 3);
        assert!(rows(&html)[0].starts_with("? abandoned as of 22:13 UTC 4 groups"), "{:?}", rows(&html));
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
        let query = |fold: &str| {
            [("q", "g"), ("fold", fold)].map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let folded = render(&model, &OverviewQuery::read(&query("")));
        let took = began.elapsed();
        let html = render(&model, &OverviewQuery::read(&query("no")));
        assert_eq!([rows(&folded).len(), rows(&html).len()], [50, 50]);
        assert!(folded.contains("1 to 50 of 100 lines with 10,000 groups") && folded.len() < 120_000);
        assert!(html.contains("1 to 50 of 10,000 groups") && html.len() < 120_000, "{} bytes", html.len());
        // Not optimized here, and others work on this machine.
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}
