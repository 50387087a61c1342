//! Slack's incoming webhook: a headline with what changed, which a phone shows as its notification, and below it the alerts
//! as attachments, coloured by severity, one for each stream.
//!
//! All text is shown as it is: mrkdwn is off, and links are the only markup that remains.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::alert::link;
use crate::alert::notification::{Alert, AlertStatus};
use crate::format::unicode::printable;
use crate::format::units::{count, span};
use crate::notify::model::Batch;
use crate::notify::render::{
    PayloadFormat, RenderContext, description, has_recovered, name_and_target, one_line,
    resolved_description, write,
};
use crate::notify::severity::AlertSeverity;

/// Characters of one line, before they are escaped.
const LINE_CHARS: usize = 400;
/// Characters of a name.
const NAME_CHARS: usize = 100;
/// Bytes of all lines: Slack cuts off longer texts, in the middle of a line.
const TEXT_BYTES: usize = 7_000;
/// Alerts of a stream that have a line; the others are named in one.
const LINES: usize = 3;
/// Alerts that are named in one line.
const NAMES: usize = 10;
/// Attachments of one message: Slack advises against more than 20.
const ATTACHMENTS: usize = 15;

pub(super) const FORMAT: PayloadFormat = PayloadFormat { group_labels: name_and_target, body };

/// Returns the changed alerts; without any, those that still fire.
fn listed(batch: &Batch) -> &[Arc<Alert>] {
    if batch.changed.is_empty() { &batch.still_firing } else { &batch.changed }
}

fn body(batch: &Batch, context: &RenderContext) -> Bytes {
    let alerts = listed(batch);
    let shown = &alerts[..alerts.len().min(context.max_alerts)];
    let mut attachments = attachments(shown, context);
    let rendered: usize = attachments.iter().map(|attachment| attachment.alerts).sum();
    if alerts.len() > rendered {
        let (color, text) = (Color::NEUTRAL, format!("and {} more", count((alerts.len() - rendered) as u64)));
        attachments.push(Attachment { color, title: String::new(), text, alerts: 0 });
    }
    let attachments: Vec<_> = attachments.iter().map(Attachment::json).collect();
    write(&json!({ "text": headline(batch), "mrkdwn": false, "attachments": attachments }))
}

/// `[critical] 2 firing, 1 resolved: OrdersLagHigh on orders (7 firing in all)`.
fn headline(batch: &Batch) -> String {
    let count = |status| batch.changed.iter().filter(|alert| alert.status == status).count();
    let (began, ended) = (count(AlertStatus::Firing), count(AlertStatus::Resolved));
    let what = match (began, ended) {
        (0, 0) => format!("{} still firing", batch.firing()),
        (began, 0) => format!("{began} firing"),
        (0, ended) => format!("{ended} resolved"),
        (began, ended) => format!("{began} firing, {ended} resolved"),
    };
    let firing = listed(batch).iter().filter(|alert| alert.status == AlertStatus::Firing);
    let labelled = firing.filter(|alert| alert.labels.contains_key("severity"));
    let severity = labelled.map(|alert| AlertSeverity::of(alert)).min();
    let mut line = severity.map(|severity| format!("[{}] ", severity.as_str())).unwrap_or_default();
    let name = printable(batch.group.get("alertname").map_or("alert", String::as_str));
    let _ = write!(line, "{what}: {}", escape(&name));
    if let Some(target) = batch.group.get("target") {
        let _ = write!(line, " on {}", escape(&printable(target)));
    }
    if !batch.changed.is_empty() && batch.firing() > began {
        let _ = write!(line, " ({} firing in all)", batch.firing());
    }
    line
}

/// The colour of an attachment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Color(&'static str);

impl Color {
    const NEUTRAL: Self = Self("#8a979c");

    fn of(alert: &Alert) -> Self {
        match (alert.status, AlertSeverity::of(alert)) {
            (AlertStatus::Firing, AlertSeverity::Critical | AlertSeverity::Error) => Self("danger"),
            (AlertStatus::Firing, AlertSeverity::Warning) => Self("warning"),
            (AlertStatus::Firing, AlertSeverity::Info) => Self("#2f7fb8"),
            (AlertStatus::Resolved, _) if has_recovered(alert) => Self("good"),
            (AlertStatus::Resolved, _) => Self::NEUTRAL,
        }
    }
}

/// The alerts of one stream and colour.
struct Attachment {
    color: Color,
    title: String,
    text: String,
    /// Number of alerts that the text names or counts.
    alerts: usize,
}

impl Attachment {
    /// Without `mrkdwn_in`, Slack shows the text as it is, except for links.
    fn json(&self) -> Value {
        let mut json = json!({ "color": self.color.0, "text": self.text });
        if !self.title.is_empty() {
            json["title"] = self.title.as_str().into();
        }
        json
    }
}

/// Folds alerts, the worst first, by colour and stream.
fn attachments(alerts: &[Arc<Alert>], context: &RenderContext) -> Vec<Attachment> {
    let mut folded: Vec<(Color, Option<String>, Vec<&Alert>)> = Vec::new();
    for alert in alerts {
        let (color, stream) = (Color::of(alert), stream(alert));
        match folded.iter_mut().find(|(one, other, _)| *one == color && *other == stream) {
            Some((.., members)) => members.push(alert),
            None => folded.push((color, stream, vec![alert])),
        }
    }
    let mut bytes = 0;
    let rendered = folded.iter().take(ATTACHMENTS).map_while(|(color, stream, members)| {
        let attachment =
            attachment(*color, stream.as_deref(), members, TEXT_BYTES.saturating_sub(bytes), context)?;
        bytes += attachment.text.len();
        Some(attachment)
    });
    rendered.collect()
}

/// Returns the name of an alert's stream, with its database if that is not the first.
fn stream(alert: &Alert) -> Option<String> {
    let name = one_line(&printable(alert.labels.get("stream")?), NAME_CHARS);
    match alert.labels.get("db").filter(|db| *db != "db0") {
        Some(db) => Some(format!("{name} ({})", printable(db))),
        None => Some(name),
    }
}

/// Renders the alerts of one stream in at most `bytes`; `None` if not even the first fits.
fn attachment(
    color: Color,
    stream: Option<&str>,
    alerts: &[&Alert],
    bytes: usize,
    context: &RenderContext,
) -> Option<Attachment> {
    let mut text = String::new();
    let mut lines = 0;
    for alert in alerts.iter().take(LINES) {
        let line = line(alert, context);
        if text.len() + line.len() > bytes {
            break;
        }
        text.push_str(&line);
        lines += 1;
    }
    if lines == 0 {
        return None;
    }
    let others = &alerts[lines..];
    if !others.is_empty() {
        text.push_str(&also(others, bytes.saturating_sub(text.len()), context));
    }
    let title = match (stream, alerts.len()) {
        (None, _) => String::new(),
        (Some(name), 1) => escape(name),
        (Some(name), alerts) => format!("{}: {alerts} groups", escape(name)),
    };
    Some(Attachment { color, title, text: text.trim_end().to_owned(), alerts: alerts.len() })
}

/// Names the alerts of a stream that have no line of their own.
fn also(alerts: &[&Alert], bytes: usize, context: &RenderContext) -> String {
    let mut text = format!("and {} more: ", count(alerts.len() as u64));
    let mut shown = 0;
    for alert in alerts.iter().take(NAMES) {
        let name = linked_name(alert, context);
        if text.len() + name.len() + 4 > bytes {
            break;
        }
        let _ = write!(text, "{}{name}", if shown == 0 { "" } else { ", " });
        shown += 1;
    }
    match shown {
        0 => format!("and {} more", count(alerts.len() as u64)),
        _ if shown < alerts.len() => text + ", …",
        _ => text,
    }
}

fn line(alert: &Alert, context: &RenderContext) -> String {
    let name = linked_name(alert, context);
    match alert.status {
        AlertStatus::Firing => {
            let text = description(alert, LINE_CHARS).map(|text| format!(": {}", escape(&text)));
            format!("• {name}{} (firing since {})\n", text.unwrap_or_default(), moment(alert.starts_at))
        }
        AlertStatus::Resolved => {
            let text = escape(&resolved_description(alert, LINE_CHARS));
            let seconds = alert.ends_at.saturating_sub(alert.starts_at).as_secs();
            format!("• {name}: resolved after {} – {text}\n", span(Duration::from_secs(seconds)))
        }
    }
}

/// Returns the name of the group, stream or target, as a link to its page.
fn linked_name(alert: &Alert, context: &RenderContext) -> String {
    let label = ["group", "stream", "target"].into_iter().find_map(|name| alert.labels.get(name));
    let name = label.map_or("the target".into(), |name| printable(name));
    let name = escape(&one_line(&name, NAME_CHARS));
    match &context.external_url {
        // A bar would end the address, and a link without a name shows the address.
        Some(url) if !name.is_empty() => {
            let page = escape(&link::of_alert(url, &alert.labels)).replace('|', "%7C");
            format!("<{page}|{name}>")
        }
        _ => name,
    }
}

/// Formats a time, which Slack shows in the reader's time zone; other clients show the text after the bar.
fn moment(time: Duration) -> String {
    let seconds = time.as_secs();
    let elsewhere = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds));
    format!("<!date^{seconds}^{{date_short_pretty}} {{time}}|{elsewhere}>")
}

/// Escapes the three characters of Slack's markup, so that no text becomes a link or a mention.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::model::GroupLabels;
    use crate::notify::test_support::{firing, resolved};

    fn context(external_url: Option<&str>) -> RenderContext {
        RenderContext {
            notifier: "chat".into(),
            max_alerts: 3,
            external_url: external_url.map(Into::into),
            routing_key: None,
        }
    }

    fn batch(changed: Vec<Alert>, still_firing: Vec<Alert>) -> Batch {
        let labels = [("alertname", "LagHigh"), ("target", "<cache>")];
        let group = GroupLabels::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let shared = |alerts: Vec<Alert>| alerts.into_iter().map(Arc::new).collect();
        Batch { group, changed: shared(changed), still_firing: shared(still_firing) }
    }

    fn saying(text: &str) -> Alert {
        let mut alert = firing("LagHigh", "mail");
        alert.annotations.insert("summary".to_owned(), text.to_owned());
        alert
    }

    fn of(severity: &str, value: f64, stream: &str, mut alert: Alert) -> Alert {
        alert.value = value;
        for (name, label) in [("severity", severity), ("stream", stream)] {
            Arc::make_mut(&mut alert.labels).insert(name.to_owned(), label.to_owned());
        }
        alert
    }

    fn annotated(name: &str, text: &str, mut alert: Alert) -> Alert {
        alert.annotations.insert(name.to_owned(), text.to_owned());
        alert
    }

    /// The body as a reader of JSON sees it: the headline, and each attachment with its colour.
    fn written(batch: &Batch, context: &RenderContext) -> String {
        let value: Value = serde_json::from_slice(&body(&batch.sorted(), context)).unwrap();
        assert_eq!(value["mrkdwn"], false);
        let attachments = value["attachments"].as_array().unwrap().iter().map(|attachment| {
            assert!(attachment.get("mrkdwn_in").is_none(), "the text would be parsed: {attachment}");
            let title = attachment["title"].as_str().unwrap_or_default();
            let [color, text] =
                [&attachment["color"], &attachment["text"]].map(|value| value.as_str().unwrap());
            format!("{color} {title}\n{text}")
        });
        let parts: Vec<_> =
            [value["text"].as_str().unwrap().to_owned()].into_iter().chain(attachments).collect();
        parts.join("\n")
    }

    #[test]
    fn the_worst_comes_first_folded_by_stream() {
        let pods = (0..8).map(|pod| of("warning", 10.0, "cache", firing("LagHigh", &format!("pod-{pod}"))));
        let changed = vec![
            of("warning", 50.0, "orders", firing("LagHigh", "audit")),
            of("warning", 6_142.0, "orders", firing("LagHigh", "search")),
            of("critical", 1.0, "jobs", firing("LagHigh", "nightly")),
            annotated(
                "resolved_reason",
                "nothing waits for the group any more",
                resolved("LagHigh", "mail", 90),
            ),
            annotated("resolved_reason", "the group was destroyed", resolved("LagHigh", "gone", 7_500)),
        ];
        let batch = batch(changed.into_iter().chain(pods).collect(), vec![firing("LagHigh", "b")]);
        let context = RenderContext { max_alerts: 20, ..context(Some("https://gauge.example.com/")) };
        insta::assert_snapshot!(written(&batch, &context), @r"
        [critical] 11 firing, 2 resolved: LagHigh on &lt;cache&gt; (12 firing in all)
        danger jobs
        • <https://gauge.example.com/groups/cache/db0/jobs/nightly|nightly>: nightly is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        warning orders: 2 groups
        • <https://gauge.example.com/groups/cache/db0/orders/search|search>: search is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • <https://gauge.example.com/groups/cache/db0/orders/audit|audit>: audit is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        warning cache: 8 groups
        • <https://gauge.example.com/groups/cache/db0/cache/pod-0|pod-0>: pod-0 is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • <https://gauge.example.com/groups/cache/db0/cache/pod-1|pod-1>: pod-1 is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • <https://gauge.example.com/groups/cache/db0/cache/pod-2|pod-2>: pod-2 is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        and 5 more: <https://gauge.example.com/groups/cache/db0/cache/pod-3|pod-3>, <https://gauge.example.com/groups/cache/db0/cache/pod-4|pod-4>, <https://gauge.example.com/groups/cache/db0/cache/pod-5|pod-5>, <https://gauge.example.com/groups/cache/db0/cache/pod-6|pod-6>, <https://gauge.example.com/groups/cache/db0/cache/pod-7|pod-7>
        #8a979c orders
        • <https://gauge.example.com/groups/cache/db0/orders/gone|gone>: resolved after 2 h 5 min – the group was destroyed
        good orders
        • <https://gauge.example.com/groups/cache/db0/orders/mail|mail>: resolved after 1 min 30 s – nothing waits for the group any more
        ");
    }

    #[test]
    fn a_diagnosis_replaces_the_summary_of_a_built_in_rule_and_is_added_to_others() {
        let diagnosis =
            "Blocked: entry 1795895526988-1 has been delivered 217 times, last to fraud-1 0.2 s ago";
        let of_rule = |name: &str| annotated("diagnosis", diagnosis, firing(name, "fraud"));
        let batch = batch(vec![of_rule("LagHigh"), of_rule("RedisStreamGroupStalled")], vec![]);
        insta::assert_snapshot!(written(&batch, &context(None)), @r"
        2 firing: LagHigh on &lt;cache&gt;
        warning orders: 2 groups
        • fraud: fraud is behind. Blocked: entry 1795895526988-1 has been delivered 217 times, last to fraud-1 0.2 s ago (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • fraud: Blocked: entry 1795895526988-1 has been delivered 217 times, last to fraud-1 0.2 s ago (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        ");
    }

    #[test]
    fn what_resolves_without_a_reason_does_not_contradict_itself() {
        let batch = batch(vec![resolved("LagHigh", "audit", 90)], vec![]);
        insta::assert_snapshot!(written(&batch, &context(None)), @r"
        1 resolved: LagHigh on &lt;cache&gt;
        good orders
        • audit: resolved after 1 min 30 s – no longer: audit is behind
        ");
    }

    #[test]
    fn a_reminder_lists_alerts_that_still_fire() {
        let batch = batch(vec![], ["a", "b", "c", "d", "e"].map(|group| firing("LagHigh", group)).to_vec());
        insta::assert_snapshot!(written(&batch, &context(None)), @r"
        5 still firing: LagHigh on &lt;cache&gt;
        warning orders: 3 groups
        • a: a is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • b: b is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • c: c is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        #8a979c 
        and 2 more
        ");
    }

    #[test]
    fn text_is_escaped_on_one_line_and_without_a_summary_the_subject_is_shown() {
        let mut silent = firing("LagHigh", "a&b");
        silent.annotations.clear();
        let mut of_the_target = silent.clone();
        Arc::make_mut(&mut of_the_target.labels).retain(|name, _| name == "alertname" || name == "target");
        let mut elsewhere = firing("LagHigh", "*bold* _it_ `x`|y");
        Arc::make_mut(&mut elsewhere.labels).insert("db".to_owned(), "db1".to_owned());
        let batch =
            batch(vec![saying("<!channel> *1 > 0*\n & <@U1>"), silent, of_the_target, elsewhere], vec![]);
        let context = RenderContext { max_alerts: 9, ..context(Some("https://gauge.example.com/?a=1|&b=2")) };
        insta::assert_snapshot!(written(&batch, &context), @r"
        4 firing: LagHigh on &lt;cache&gt;
        warning orders: 2 groups
        • <https://gauge.example.com/?a=1%7C&amp;b=2/groups/cache/db0/orders/a%26b|a&amp;b> (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • <https://gauge.example.com/?a=1%7C&amp;b=2/groups/cache/db0/orders/mail|mail>: &lt;!channel&gt; *1 &gt; 0* &amp; &lt;@U1&gt; (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        warning orders (db1)
        • <https://gauge.example.com/?a=1%7C&amp;b=2/groups/cache/db1/orders/%2Abold%2A%20_it_%20%60x%60%7Cy|*bold* _it_ `x`|y>: *bold* _it_ `x`|y is behind (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        warning 
        • <https://gauge.example.com/?a=1%7C&amp;b=2|cache> (firing since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        ");
    }

    #[test]
    fn long_texts_are_cut_between_lines_and_each_alert_is_counted() {
        let long = "ä".repeat(2 * LINE_CHARS);
        let alerts = (0..100).map(|n| of("warning", 1.0, &format!("s{}", n / 4), saying(&long)));
        let batch = batch(alerts.collect(), vec![]);
        let context = RenderContext { max_alerts: 100, ..context(None) };
        let text = written(&batch, &context);
        assert!(text.len() < TEXT_BYTES + 2_000, "{}", text.len());
        let (lines, last) = text.rsplit_once('\n').unwrap();
        let shown = lines.lines().filter(|line| line.starts_with('•') && line.contains('…')).count();
        let named: usize = lines
            .lines()
            .filter_map(|line| line.strip_prefix("and ")?.split(' ').next()?.parse::<usize>().ok())
            .sum();
        assert_eq!(last, format!("and {} more", 100 - shown - named));
    }

    #[test]
    fn no_length_of_names_and_texts_exceeds_the_limit_by_more_than_a_count() {
        for chars in (0..LINE_CHARS).step_by(7) {
            let alerts = (0..100).map(|n| {
                let text = "x".repeat(chars);
                of("warning", 1.0, &format!("s{}", n / 7), annotated("summary", &text, firing("A", &text)))
            });
            let context = RenderContext { max_alerts: 100, ..context(Some("https://gauge.example.com")) };
            let value: Value =
                serde_json::from_slice(&body(&batch(alerts.collect(), vec![]), &context)).unwrap();
            let texts = value["attachments"].as_array().unwrap().iter();
            let bytes: usize = texts.map(|attachment| attachment["text"].as_str().unwrap().len()).sum();
            assert!(bytes < TEXT_BYTES + 100, "{chars}: {bytes}");
        }
    }
}
