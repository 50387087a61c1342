//! The document around the content of each page, and the badges.
//!
//! Links are relative, so that the pages also work behind a proxy that serves them below a path of its own.

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};

use crate::format::severity::Severity;
use crate::page::advice;
use crate::page::assets::{ICON, SCRIPT, STYLE};
use crate::page::model::status_name;
use redis_stream_lag::report::Status;

const MIN_REFRESH: Duration = Duration::from_secs(2);
const MAX_REFRESH: Duration = Duration::from_secs(60);

pub(super) struct PageLayout<'a> {
    pub(super) title: &'a str,
    /// The relative path from the page's folder to the first page: `./`, or some `../`.
    pub(super) root: &'a str,
    /// The poll interval.
    pub(super) interval: Duration,
}

impl PageLayout<'_> {
    /// Returns the document with this content.
    pub(super) fn around(&self, content: &Markup) -> Markup {
        let root = self.root;
        let refresh = self.interval.clamp(MIN_REFRESH, MAX_REFRESH);
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · streamgauge" }
                    link rel="icon" type="image/svg+xml" href={ (root) (ICON.path()) };
                    link rel="stylesheet" href={ (root) (STYLE.path()) };
                    script defer src={ (root) (SCRIPT.path()) } {}
                }
                body data-refresh-ms=(refresh.as_millis()) {
                    a.skip href="#content" { "Skip to content" }
                    header.top {
                        a.home href=(root) { "streamgauge" }
                        nav aria-label="Other views" {
                            a href={ (root) "metrics" } { "Metrics" }
                            a href={ (root) "api/v1/groups" } { "Groups as JSON" }
                            a href={ (root) "api/v1/alerts" } { "Alerts as JSON" }
                            a href={ (root) "api/v1/events" } { "Events as JSON" }
                        }
                        div.live {
                            span #live-state role="status" {}
                            button #keys-button type="button" aria-label="Keys" title="Keys" hidden { "?" }
                            button #live-toggle type="button" aria-pressed="true" hidden { "Live" }
                        }
                    }
                    main #content tabindex="-1" { (content) }
                    footer { "streamgauge " (env!("CARGO_PKG_VERSION")) ". Times are in UTC." }
                    (keys())
                }
            }
        }
    }
}

/// The keys that the script handles.
const KEYS: [(&str, &str); 5] = [
    ("/", "search"),
    ("j, k", "next and previous row"),
    ("Enter", "open the row"),
    ("g", "all groups"),
    ("?", "this help"),
];

/// Renders the help that the script opens.
fn keys() -> Markup {
    html! {
        dialog #keys aria-labelledby="keys-title" {
            h2 #keys-title { "Keys" }
            dl.legend { @for (key, what) in KEYS { dt { kbd { (key) } } dd { (what) } } }
            form method="dialog" { button { "Close" } }
        }
    }
}

/// Returns a word on a coloured ground, with a sign so that colour is not the only difference.
pub(super) fn badge(severity: Severity, word: &str) -> Markup {
    html! {
        span class={ "badge " (severity_class(severity)) } { span aria-hidden="true" { (sign(severity)) } " " (word) }
    }
}

fn sign(severity: Severity) -> &'static str {
    match severity {
        Severity::Bad => "\u{2716}",
        Severity::Poor => "\u{25b2}",
        Severity::Unknown => "?",
        Severity::Good => "\u{2714}",
    }
}

/// Returns the sign of an event; nothing for one that is neither good nor bad.
pub(super) fn event_sign(severity: Severity) -> Markup {
    let word = match severity {
        Severity::Bad => "critical",
        Severity::Poor => "warning",
        Severity::Good => "ok",
        Severity::Unknown => return html! { span.sign {} },
    };
    html! {
        span class={ "sign " (severity_class(severity)) } title=(word) {
            span aria-hidden="true" { (sign(severity)) } span.unseen { (word) ": " }
        }
    }
}

/// Returns the badge of a severity label of an alert.
pub(super) fn alert_badge(severity: &str) -> Markup {
    badge(Severity::of_label(severity), if severity.is_empty() { "alert" } else { severity })
}

/// Returns the class of the colours.
pub(super) fn severity_class(severity: Severity) -> &'static str {
    match severity {
        Severity::Bad => "bad",
        Severity::Poor => "poor",
        Severity::Unknown => "dark",
        Severity::Good => "good",
    }
}

/// Returns the badge of a status, with its meaning as a tooltip.
pub(super) fn status_badge(status: Option<Status>) -> Markup {
    html! { span title=(advice::meaning(status)) { (badge(Severity::of(status), status_name(status))) } }
}

/// Returns the badge of a status that was read too long ago to count.
pub(super) fn old_badge(status: Option<Status>) -> Markup {
    badge(Severity::Unknown, status_name(status))
}

/// Returns the sign for a value that is not known.
pub(super) fn unknown(why: &str) -> Markup {
    html! { span.dim title=(why) { span aria-hidden="true" { "?" } span.unseen { "not known" } } }
}
