//! The links of `web.links` on pages and beside alerts.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::alert::web_link::{LinkSubject, WebLink};
use crate::page::label;
use crate::page::model::{PageModel, TargetModel};
use redis_stream_core::name::Name;

/// Renders the links about a stream or one of its groups, or nothing if there is none.
pub(super) fn of_page(
    model: &PageModel,
    target: &TargetModel,
    stream: &Name,
    group: Option<&Name>,
) -> Markup {
    let labels = &target.snapshot.labels;
    let (stream, group) = (stream.text(), group.map(Name::text));
    let subject = LinkSubject {
        target: Some(&labels.name),
        db: Some(&labels.db),
        stream: Some(&stream),
        group: group.as_deref(),
        alert: None,
    };
    let links = found(model, &subject, |link| !link.is_of_alert());
    html! {
        @if !links.is_empty() {
            nav.links aria-label="Links to other tools" { @for link in &links { (link) " " } }
        }
    }
}

/// Renders the way from the first page, whose relative path is `root`, to a target.
pub(super) fn crumbs(root: &str, target: &TargetModel) -> Markup {
    let labels = &target.snapshot.labels;
    html! {
        nav aria-label="Path" {
            a href=(root) { "All groups" } " / " (label::short(&labels.name))
            @if labels.db != "db0" { " " (labels.db) }
        }
    }
}

/// Renders the links about an alert, which have its name.
pub(super) fn of_alert(model: &PageModel, labels: &BTreeMap<String, String>) -> Markup {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let subject = LinkSubject {
        target: label("target"),
        db: label("db"),
        stream: label("stream"),
        group: label("group"),
        alert: label("alertname"),
    };
    html! { @for link in found(model, &subject, WebLink::is_of_alert) { (link) " " } }
}

fn found(model: &PageModel, subject: &LinkSubject<'_>, selects: impl Fn(&WebLink) -> bool) -> Vec<Markup> {
    let selected = model.links.iter().filter(|link| selects(link));
    let link = |link: &WebLink| {
        let url = link.url(subject)?;
        Some(html! { a.outside href=(url) rel="noreferrer" { (label::short(&link.name)) } })
    };
    selected.filter_map(link).collect()
}
