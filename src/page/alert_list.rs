//! Alerts as a list, each with its summary and a link to its group.

use maud::{Markup, html};

use crate::alert::active::ActiveAlert;
use crate::alert::link::group_path;
use crate::alert::state::Phase;
use crate::format::severity::Severity;
use crate::format::units::lasting;
use crate::page::layout::{alert_badge, badge};
use crate::page::model::PageModel;
use crate::page::{label, links};

/// Renders the section about alerts on a page with the relative path `root` to the first page.
pub(super) fn section(model: &PageModel, root: &str, alerts: &[ActiveAlert]) -> Markup {
    html! {
        section #alerts data-live {
            h2 { "Alerts" }
            @if alerts.is_empty() { p.dim { "No active alerts." } }
            @else { (list(model, root, alerts)) }
        }
    }
}

/// Renders alerts for a page with the relative path `root` to the first page.
pub(super) fn list(model: &PageModel, root: &str, alerts: &[ActiveAlert]) -> Markup {
    html! {
        ul.alerts { @for alert in alerts { li { (item(model, root, alert)) } } }
    }
}

pub(super) fn item(model: &PageModel, root: &str, alert: &ActiveAlert) -> Markup {
    let label_of = |name: &str| alert.labels.get(name).map_or("", String::as_str);
    let path = group_path(label_of("target"), label_of("db"), label_of("stream"), label_of("group"));
    let path = path.filter(|_| !label_of("group").is_empty());
    let since = alert.state.since();
    let subject = ["group", "stream", "target"].into_iter().find(|name| !label_of(name).is_empty());
    html! {
        @match (alert.state.phase, &alert.inhibited_by) {
            (Phase::Pending, _) => (badge(Severity::Poor, "pending")),
            (Phase::Firing | Phase::Resolved, Some(_)) => (badge(Severity::Poor, "inhibited")),
            (Phase::Firing | Phase::Resolved, None) => (alert_badge(label_of("severity"))),
        }
        " " strong { (label_of("alertname")) } " "
        @if let Some(subject) = subject {
            @match &path {
                Some(path) => { a href={ (root) (path) } { (label::short(label_of(subject))) } }
                None => { (label::short(label_of(subject))) }
            }
        }
        " " span.dim.since { (lasting(since, model.now)) } " "
        @if let Some(name) = &alert.inhibited_by { span.dim { "not sent while " (name) " fires" } " " }
        (links::of_alert(model, &alert.labels))
        @if let Some(summary) = alert.annotations.get("summary") { div.says { (label::long(summary)) } }
    }
}
