//! The group that holds a stream, and the entries that no group needs.

use maud::{Markup, html};

use crate::format::units::{count, lasting};
use crate::page::label;
use crate::page::model::{PageModel, TargetModel};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{HeldFor, SafeTrim, StreamHolder};

/// Renders what holds the stream, and the command that trims the rest.
pub(super) fn held(model: &PageModel, target: &TargetModel, key: &Name, trim: &SafeTrim) -> Markup {
    let command = target.snapshot.trim_command(key, trim).filter(|_| trim.entries != Some(0.into()));
    html! {
        div #held {
            p {
                @match &trim.holder {
                    Some(StreamHolder { group, since, held_for }) => {
                        "Of all its groups, " strong { (label::short(&group.text())) }
                        @match held_for {
                            HeldFor::Delivery => " needs the oldest entry, which was not delivered to it yet",
                            HeldFor::Acknowledgement => " needs the oldest entry, which it has not acknowledged yet",
                        }
                        ". It has needed it " (lasting((*since).get(), model.now)) "."
                    }
                    None => "No group needs any of its entries.",
                }
                @if trim.entries != Some(0.into()) {
                    " At the start of the stream, "
                    @match trim.entries {
                        Some(entries) => { strong { (count(entries.get())) } " entries" }
                        None => "entries (being counted)",
                    }
                    " were delivered to every group and acknowledged, as of this reading, and can be trimmed. Readers without a group are not seen."
                }
            }
            @if let Some(command) = command {
                p { strong.writes { "This changes data." } }
                pre tabindex="0" { code { (command) } }
            }
        }
    }
}
