//! Rendering of payloads, as far as receivers have it in common.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::alert::notification::{Alert, DIAGNOSIS_ANNOTATION};
use crate::alert::{recommended, resolved_reason};
use crate::format::unicode::printable;
use crate::notify::model::{Batch, GroupLabels};
use redis_stream_core::secret::Secret;

/// Annotations that describe an alert; the first that it has is used.
const DESCRIPTIONS: [&str; 3] = ["summary", "description", "message"];

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

/// Returns the subject of an alert in words, such as `group mail of orders`.
pub(super) fn subject(alert: &Alert) -> String {
    let label = |name: &str| alert.labels.get(name).map(|value| printable(value));
    match (label("group"), label("stream")) {
        (Some(group), Some(stream)) => format!("group {group} of {stream}"),
        (None, Some(stream)) => format!("stream {stream}"),
        (group, None) => group.or(label("target")).unwrap_or("the target".into()).into_owned(),
    }
}

/// Returns the description of an alert on one line of at most `max_chars`. A diagnosis replaces the summary of a built-in
/// rule, which has fewer facts; to that of other rules it is added.
pub(super) fn description(alert: &Alert, max_chars: usize) -> Option<String> {
    let diagnosis = alert.annotations.get(DIAGNOSIS_ANNOTATION);
    let text = match (own_words(alert), diagnosis) {
        (Some(_), Some(diagnosis)) if is_built_in(alert) => diagnosis.clone(),
        (Some(text), Some(diagnosis)) => format!("{}. {diagnosis}", text.trim_end_matches(['.', ' '])),
        (text, diagnosis) => text.or(diagnosis)?.clone(),
    };
    Some(one_line(&text, max_chars))
}

/// Returns the description of an alert on one line of at most `max_chars`, with the name of its subject.
pub(super) fn summary(alert: &Alert, max_chars: usize) -> String {
    let names_subject = own_words(alert).is_some()
        && !(is_built_in(alert) && alert.annotations.contains_key(DIAGNOSIS_ANNOTATION));
    match description(alert, max_chars) {
        Some(text) if names_subject => text,
        Some(text) => with_subject(alert, &text, max_chars),
        None => one_line(&subject(alert), max_chars),
    }
}

/// Returns on one line why an alert resolved: the description of a firing alert would contradict that it resolved.
pub(super) fn resolved_description(alert: &Alert, max_chars: usize) -> String {
    match alert.annotations.get(resolved_reason::ANNOTATION) {
        Some(reason) => one_line(reason, max_chars),
        None => match own_words(alert) {
            Some(text) => one_line(&format!("no longer: {text}"), max_chars),
            None => "its condition does not hold any more".to_owned(),
        },
    }
}

/// Returns on one line what resolved and why.
pub(super) fn resolved_summary(alert: &Alert, max_chars: usize) -> String {
    let text = resolved_description(alert, max_chars);
    let names_subject =
        !alert.annotations.contains_key(resolved_reason::ANNOTATION) && own_words(alert).is_some();
    if names_subject { text } else { with_subject(alert, &text, max_chars) }
}

/// Returns true if the subject of a resolved alert is well again; false if it is gone or not known, or has lost entries.
pub(super) fn has_recovered(alert: &Alert) -> bool {
    alert
        .annotations
        .get(resolved_reason::ANNOTATION)
        .is_none_or(|reason| resolved_reason::is_recovery(reason))
}

fn own_words(alert: &Alert) -> Option<&String> {
    DESCRIPTIONS.iter().find_map(|name| alert.annotations.get(*name).filter(|text| !text.is_empty()))
}

fn is_built_in(alert: &Alert) -> bool {
    alert.labels.get("alertname").is_some_and(|name| recommended::names().any(|built_in| built_in == name))
}

fn with_subject(alert: &Alert, text: &str, max_chars: usize) -> String {
    // A long name must not push the text out of the line.
    let subject_chars = max_chars.saturating_sub(text.chars().count() + 2).max(max_chars / 2);
    one_line(&format!("{}: {text}", one_line(&subject(alert), subject_chars)), max_chars)
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
