//! The alerts, folded by name: one line each, critical ones first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use maud::{Markup, html};

use crate::alert::active::{ActiveAlert, AlertSummary};
use crate::alert::state::Phase;
use crate::format::units::{clock, count, counted, lasting};
use crate::page::layout::alert_badge;
use crate::page::model::PageModel;
use crate::page::{alert_list, label};

/// Alerts of one name that are listed; the others are counted.
const SHOWN: usize = 10;
/// Names of pending alerts that are shown without a click if none fires.
const FEW: usize = 3;
/// Severities in the order of the list; then all others.
const SEVERITIES: [&str; 5] = ["critical", "page", "error", "warning", "info"];

/// Returns the alerts of each name and severity in one phase, on all targets.
fn folded(model: &PageModel, phase: Phase) -> Vec<AlertSummary> {
    let mut folded = BTreeMap::<_, AlertSummary>::new();
    for summary in model.targets.iter().flat_map(|target| target.active.summaries(phase)) {
        match folded.entry((summary.severity.clone(), summary.name.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(summary);
            }
            Entry::Occupied(entry) => {
                entry.into_mut().merge(&summary);
            }
        }
    }
    let rank =
        |severity: &str| SEVERITIES.iter().position(|one| *one == severity).unwrap_or(SEVERITIES.len());
    let mut folded: Vec<_> = folded.into_values().collect();
    // What is inhibited has a cause that is listed itself.
    folded.sort_by_key(|alerts| {
        (alerts.inhibited == alerts.count, rank(&alerts.severity), Reverse(alerts.count))
    });
    folded
}

pub(super) fn section(model: &PageModel) -> Markup {
    let (firing, pending) = (folded(model, Phase::Firing), folded(model, Phase::Pending));
    let number = |alerts: &[AlertSummary]| -> usize { alerts.iter().map(|alerts| alerts.count).sum() };
    let (fire, wait) = (number(&firing), number(&pending));
    html! {
        section #alerts data-live {
            h2 { "Alerts" }
            @if fire + wait == 0 {
                p.dim { "No active alerts." }
            } @else {
                (list(model, &firing, Phase::Firing))
                @if wait > 0 {
                    details #pending-alerts open[fire == 0 && pending.len() <= FEW] {
                        summary { (about_to_fire(fire, wait)) }
                        (list(model, &pending, Phase::Pending))
                    }
                }
            }
        }
    }
}

fn list(model: &PageModel, folded: &[AlertSummary], phase: Phase) -> Markup {
    html! {
        @if !folded.is_empty() {
            ul.alerts { @for alerts in folded { li { (line(model, alerts, phase)) } } }
        }
    }
}

fn line(model: &PageModel, folded: &AlertSummary, phase: Phase) -> Markup {
    let found = model.targets.iter().flat_map(|target| target.active.of_name(&folded.name, phase));
    let has_severity =
        |alert: &ActiveAlert| alert.labels.get("severity").map_or("", String::as_str) == folded.severity;
    let shown: Vec<_> = found.filter(has_severity).take(SHOWN).collect();
    html! {
        @if let [alert] = &shown[..] {
            (alert_list::item(model, "", alert))
        } @else {
            details id={ "alerts-" @if phase == Phase::Firing { "firing" } @else { "pending" } "-" (folded.severity) "-" (folded.name) } {
                summary {
                    (alert_badge(&folded.severity)) " " strong { (label::short(&folded.name)) } " "
                    span.number { "\u{d7}\u{a0}" (count(folded.count as u64)) } " "
                    span.dim.since { "since " (clock(folded.since, model.now)) ", " (lasting(folded.since, model.now)) }
                    @if folded.inhibited > 0 { " " span.dim { (count(folded.inhibited as u64)) " inhibited" } }
                }
                (alert_list::list(model, "", &shown))
                @if folded.count > shown.len() {
                    p { "and " a href="api/v1/alerts" { (count((folded.count - shown.len()) as u64)) " more" } }
                }
            }
        }
    }
}

fn about_to_fire(firing: usize, pending: usize) -> String {
    let verb = if pending == 1 { "is" } else { "are" };
    let alerts = match firing {
        0 => counted(pending, "alert", "alerts"),
        _ => format!("{} more", count(pending as u64)),
    };
    format!("{alerts} {verb} about to fire")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::alert::active::Active;
    use crate::alert::evaluator::{Evaluator, EvaluatorSettings, PollReading, TargetUp};
    use crate::alert::recommended;
    use crate::alert::rule::{Rule, TargetLabels};
    use crate::alert::template::Template;
    use crate::alert::web_link::WebLink;
    use crate::api::groups::TargetSnapshot;
    use crate::format::severity::Severity;
    use crate::page::event_log::{EventLog, LoggedEvent};
    use crate::page::model::TargetModel;
    use crate::page::test_support::{group, report, stream, target, values};
    use redis_stream_lag::report::{GroupValues, Lag, Status};

    /// Twelve pods without a reader, and a group without consumers, for half an hour.
    fn model() -> PageModel {
        model_with(&recommended::rules(None, &[]))
    }

    fn model_with(rules: &[Arc<Rule>]) -> PageModel {
        let abandoned = |consumers| GroupValues {
            lag: Lag::Exact(50),
            status: Status::Abandoned.into(),
            consumers,
            ..values()
        };
        let mut groups: Vec<_> =
            (0..12).map(|n| group(format!("pod-{n:02}").as_str(), abandoned(1))).collect();
        groups.push(group("search", abandoned(0)));
        let report = report(vec![stream("orders", groups)]);
        let labels =
            TargetLabels { name: "shop".to_owned(), db: "db0".to_owned(), configured: BTreeMap::new() };
        let settings = EvaluatorSettings {
            hold: Duration::ZERO,
            external_labels: BTreeMap::new(),
            interval: Duration::from_secs(60),
            has_notifiers: true,
        };
        let mut evaluator = Evaluator::new(rules, labels.clone(), settings);
        let now = |minute: u64| Duration::from_secs(1_700_000_000 + minute * 60);
        for minute in 0..30 {
            evaluator.step(PollReading::Complete(&report), TargetUp::Yes, now(minute));
        }
        let snapshot = TargetSnapshot {
            labels: Arc::new(labels),
            is_up: true,
            last_read: Some(now(29)),
            error: None,
            report: Some(Arc::new(report)),
            redis_cli: Arc::default(),
        };
        let target = TargetModel { active: Arc::new(evaluator.active()), ..target(snapshot) };
        let links = [
            ("Runbook", "https://runbooks.example.com/{{alert}}?group={{group}}"),
            ("Grafana", "https://grafana.example.com/{{group}}"),
        ];
        let links = links.map(|(name, url)| WebLink::new(name.to_owned(), url).unwrap());
        PageModel {
            targets: vec![target],
            now: now(30),
            interval: Duration::from_secs(60),
            links: links.into(),
        }
    }

    #[test]
    fn alerts_of_one_name_are_one_line_and_critical_ones_come_first() {
        let html = section(&model()).into_string();
        let critical = html.find("RedisStreamGroupNoConsumers").expect("the group without consumers");
        let folded = html.find("id=\"alerts-firing-warning-RedisStreamGroupAbandoned\"").expect("the pods");
        assert!(critical < folded, "{html}");
        assert!(html[..critical].contains("critical"), "{html}");
        let line = &html[folded..folded + html[folded..].find("</summary>").unwrap()];
        assert!(line.contains("warning") && line.contains("since 22:"), "{line}");
        assert!(line.contains("\u{d7}\u{a0}12") || line.contains("\u{d7}\u{a0}13"), "{line}");
        assert!(html[folded..].contains("<p>and <a href=\"api/v1/alerts\">"), "ten are listed: {html}");
    }

    #[test]
    fn a_severity_that_depends_on_the_group_is_a_line_of_its_own() {
        let rules = recommended::rules(None, &[]);
        let rule = rules.iter().find(|rule| rule.name == "RedisStreamGroupAbandoned").unwrap();
        let severity = Template::parse("{{ $labels.group }}").unwrap();
        let mut rule = Rule::clone(rule);
        rule.labels.insert("severity".to_owned(), severity);
        let model = model_with(&[rule.into()]);
        let folded: Vec<_> = folded(&model, Phase::Firing)
            .into_iter()
            .map(|alerts| (alerts.severity, alerts.count, alerts.stream, alerts.group))
            .collect();
        assert_eq!(folded.len(), 13, "{folded:?}");
        assert_eq!(folded[0], ("pod-00".to_owned(), 1, Some("orders".into()), Some("pod-00".into())));
    }

    #[test]
    fn an_alert_that_begins_or_ends_is_an_event_with_its_severity_and_subject() {
        let active = &model().targets[0].active;
        let mut log = EventLog::default();
        log.note_alerts(Duration::ZERO, &Active::default(), active, &|_| true);
        log.note_alerts(Duration::ZERO, active, &Active::default(), &|_| false);
        let group = |event: &LoggedEvent| event.group.as_ref().map(|group| group.text().into_owned());
        let events: Vec<_> =
            log.newest().map(|event| (event.severity, group(event), event.text.as_str())).collect();
        let search = Some("search".to_owned());
        for event in [
            (Severity::Bad, search, "RedisStreamGroupNoConsumers began to fire"),
            // A family has no page.
            (Severity::Good, None, "RedisStreamGroupNoConsumers resolved for group search of orders"),
        ] {
            assert!(events.contains(&event), "{events:?}");
        }
        let is_of_pods = |(severity, group, text): &(Severity, Option<String>, &str)| {
            let begins = text.starts_with("RedisStreamGroupAbandoned began to fire (1");
            *severity == Severity::Poor && group.is_none() && begins
        };
        assert!(events.iter().any(is_of_pods), "{events:?}");
    }

    #[test]
    fn an_alert_has_the_links_that_name_it() {
        let html = section(&model()).into_string();
        let runbook = "href=\"https://runbooks.example.com/RedisStreamGroupNoConsumers?group=search\" rel=\"noreferrer\"";
        assert!(html.contains(runbook), "{html}");
        assert!(!html.contains("grafana.example.com"), "that one is about groups: {html}");
    }

    #[test]
    fn without_alerts_there_is_one_line() {
        let mut model = model();
        model.targets[0].active = Arc::default();
        assert!(section(&model).into_string().contains("No active alerts."));
    }
}
