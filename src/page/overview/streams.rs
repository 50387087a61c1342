//! The streams without groups: they are not read, or by readers without a group, which are not seen.

use std::cmp::Reverse;

use maud::{Markup, html};

use crate::alert::link::stream_path;
use crate::api::partial_sort::sorted_range;
use crate::format::severity::Severity;
use crate::format::units::{ago, count, counted};
use crate::page::label;
use crate::page::layout::badge;
use crate::page::model::PageModel;

/// Streams that are listed; the others are counted.
const SHOWN: usize = 10;

pub(super) fn without_groups(model: &PageModel) -> Markup {
    let without: Vec<_> = model
        .targets
        .iter()
        .filter(|target| !target.is_old())
        .flat_map(|target| {
            let streams = target.report().into_iter().flat_map(|report| &report.streams);
            streams.filter_map(move |stream| Some((target, stream, stream.values.as_ref()?)))
        })
        .filter(|(_, stream, values)| stream.groups.is_empty() && values.groups == 0)
        .collect();
    let found = without.len();
    // Those that grow first, then the longest.
    let shown = sorted_range(without, 0..SHOWN, |(_, one, values), (_, other, others)| {
        let (key, other_key) =
            (Reverse((values.is_unread, values.length)), Reverse((others.is_unread, others.length)));
        key.cmp(&other_key).then_with(|| one.key.cmp(&other.key))
    });
    html! {
        @if found > 0 {
            section #without-groups data-live {
                h2 { "Streams without groups" }
                p.dim { (counted(found, "stream", "streams")) ". Readers without a group (XREAD, XRANGE) are not seen." }
                ul.plain {
                    @for (target, stream, values) in &shown {
                        @let labels = &target.snapshot.labels;
                        li {
                            @match stream_path(&labels.name, &labels.db, &stream.key.text()) {
                                Some(path) => { a href=(path) { strong { (label::short(&stream.key.text())) } } }
                                None => { strong { (label::short(&stream.key.text())) } }
                            }
                            " on " (label::short(&labels.name)) " " (labels.db) ": "
                            (counted(usize::try_from(values.length).unwrap_or(usize::MAX), "entry", "entries"))
                            @if let Some(newest) = values.last_generated().filter(|_| values.length > 0) {
                                ", the newest added " (ago(newest, model.now))
                            }
                            @if values.is_unread { " " span title="it grows, and was not seen to be trimmed" { (badge(Severity::Poor, "grows, not trimmed")) } }
                        }
                    }
                    @if found > SHOWN { li { "and " (count((found - SHOWN) as u64)) " more" } }
                }
            }
        }
    }
}
