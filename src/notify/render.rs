//! Rendering of payloads, as far as receivers have it in common.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::alert::notification::{Alert, LOSS_ANNOTATION};
use crate::alert::resolved_reason;
use crate::format::unicode::printable;
use crate::notify::model::{Batch, GroupLabels};
use redis_stream_core::secret::Secret;

/// Annotations that describe an alert; the first that it has is used.
const DESCRIPTIONS: [&str; 3] = ["summary", "description", "message"];
/// Labels that name the subject of an alert without such an annotation.
const SUBJECT: [&str; 3] = ["stream", "group", "consumer"];

/// The aggregation groups and the payload of an integration.
#[derive(Clone, Copy, Debug)]
pub(super) struct PayloadFormat {
    /// Alerts with the same group labels are sent in one request.
    pub(super) group_labels: fn(&Alert) -> GroupLabels,
    pub(super) body: fn(&Batch, &RenderContext) -> Bytes,
}

/// Settings that the payload depends on.
#[derive(Clone, Debug)]
pub(super) struct RenderContext {
    pub(super) notifier: Arc<str>,
    pub(super) max_alerts: usize,
    /// The base of links; `None` for no links.
    pub(super) external_url: Option<Arc<str>>,
    /// The integration key, for a receiver that wants it in the payload.
    pub(super) routing_key: Option<Secret>,
}

/// Returns `alertname` and `target`, as far as the alert has them.
pub(super) fn name_and_target(alert: &Alert) -> GroupLabels {
    let labels = ["alertname", "target"].map(|name| alert.labels.get_key_value(name));
    labels.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns all labels, so that each alert is a group of its own.
pub(super) fn all_labels(alert: &Alert) -> GroupLabels {
    GroupLabels::clone(&alert.labels)
}

/// Returns the description of an alert on one line of at most `max_chars`; without one, its subject.
pub(super) fn summary(alert: &Alert, max_chars: usize) -> String {
    let described =
        DESCRIPTIONS.iter().find_map(|name| alert.annotations.get(*name).filter(|text| !text.is_empty()));
    if let Some(text) = described {
        return match alert.annotations.get(LOSS_ANNOTATION) {
            Some(share) => one_line(&format!("{text} ({share})"), max_chars),
            None => one_line(text, max_chars),
        };
    }
    let parts: Vec<_> =
        SUBJECT.iter().filter_map(|name| alert.labels.get(*name)).map(|name| printable(name)).collect();
    if parts.is_empty() { "the target".to_owned() } else { one_line(&parts.join(" / "), max_chars) }
}

/// Returns on one line what resolved and why: the description of a firing alert would contradict that it resolved.
pub(super) fn resolved_summary(alert: &Alert, max_chars: usize) -> String {
    let Some(reason) = alert.annotations.get(resolved_reason::ANNOTATION) else {
        return summary(alert, max_chars);
    };
    let label = |name: &str| alert.labels.get(name).map(String::as_str);
    let subject = match (label("group"), label("stream")) {
        (Some(group), Some(stream)) => format!("group {group} of {stream}"),
        (None, Some(stream)) => format!("stream {stream}"),
        (group, None) => group.or(label("target")).unwrap_or("the target").to_owned(),
    };
    // A long name must not push the reason out of the line.
    let reason_chars = reason.chars().count();
    let subject = one_line(&subject, max_chars.saturating_sub(reason_chars + 2).max(max_chars / 2));
    one_line(&format!("{subject}: {reason}"), max_chars)
}

/// Joins the lines of a text, and cuts it to `max_chars` with an ellipsis at the end.
pub(super) fn one_line(text: &str, max_chars: usize) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let mut line = words.join(" ");
    if line.chars().nth(max_chars).is_some() {
        line = line.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect();
    }
    line
}

/// Writes JSON. All keys are text and all values are finite, so that nothing can fail.
pub(super) fn write(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("maps of text, times and whole numbers can be written").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(one_line(" a\n b\tc ", 5), "a b c");
        assert_eq!(one_line("äöüäöü", 5), "äöüä…");
        assert_eq!(one_line("äöüäö", 5), "äöüäö");
    }
}
