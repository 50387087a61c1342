//! What all pages have in common: the document around their content, and how conditions look.
//!
//! Links are relative, so that the pages also work behind a proxy that serves them below a path of its own.

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};

use crate::page::assets::{ICON, SCRIPT, STYLE};
use redis_stream_lag::report::GroupReport;
use redis_stream_lag::report::Status;

/// How often a page that is open asks for its next version: no oftener, no more seldom.
const REFRESH: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A page to be.
pub(super) struct Frame<'a> {
    /// Of the window.
    pub(super) title: &'a str,
    /// What leads from the page's folder to the first page: `./`, or some `../`.
    pub(super) root: &'a str,
    /// From one poll to the next.
    pub(super) interval: Duration,
}

impl Frame<'_> {
    /// The document with this content.
    pub(super) fn around(&self, content: &Markup) -> Markup {
        let root = self.root;
        let refresh = self.interval.clamp(REFRESH.0, REFRESH.1);
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
                        }
                        div.live {
                            span #live-state role="status" {}
                            button #live-toggle type="button" aria-pressed="true" hidden { "Live" }
                        }
                    }
                    main #content tabindex="-1" { (content) }
                    footer { "streamgauge " (env!("CARGO_PKG_VERSION")) }
                }
            }
        }
    }
}

/// How bad something is. Each has a sign of its own, so that nothing is told by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    /// Work does not get done, or is lost.
    Bad,
    /// It needs a look.
    Poor,
    /// Nobody knows.
    Unknown,
    /// All is well.
    Good,
}

impl Grade {
    /// Of a status; of a group that is missing.
    pub(super) fn of(status: Option<Status>) -> Self {
        match status {
            None | Some(Status::Losing | Status::Abandoned | Status::Stalled) => Self::Bad,
            Some(Status::Rewound | Status::Stuck | Status::Lagging) => Self::Poor,
            Some(Status::Unknown) => Self::Unknown,
            Some(Status::Ok) => Self::Good,
        }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Poor => "poor",
            Self::Unknown => "dark",
            Self::Good => "good",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Bad => "\u{2716}",
            Self::Poor => "\u{25b2}",
            Self::Unknown => "?",
            Self::Good => "\u{2714}",
        }
    }

    /// A word on a coloured ground, with the sign.
    pub(super) fn badge(self, word: &str) -> Markup {
        html! {
            span class={ "badge " (self.class()) } { span aria-hidden="true" { (self.sign()) } " " (word) }
        }
    }
}

/// The status of a group; `None` if it is missing.
pub(super) fn status_of(group: &GroupReport) -> Option<Status> {
    group.values.as_ref().map(|values| values.status)
}

/// The name of a status, or of having none.
pub(super) fn status_name(status: Option<Status>) -> &'static str {
    status.map_or("missing", Status::as_str)
}

/// In place of a value that is not known.
pub(super) fn unknown(why: &str) -> Markup {
    html! { span.dim title=(why) { span aria-hidden="true" { "?" } span.unseen { "not known" } } }
}
