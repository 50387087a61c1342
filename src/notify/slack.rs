//! Slack's incoming webhook: a headline with what changed, which a phone shows as its notification, and below it one line
//! for each alert.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;

use crate::alert::link;
use crate::alert::notification::{Alert, AlertStatus};
use crate::format::unicode::printable;
use crate::notify::model::Batch;
use crate::notify::render::{
    PayloadFormat, RenderContext, name_and_target, resolved_summary, summary, write,
};

/// Characters of one line, before they are escaped.
const LINE_CHARS: usize = 300;
/// Bytes of all lines: Slack cuts off longer texts, in the middle of a line.
const TEXT_BYTES: usize = 7_000;

pub(super) const FORMAT: PayloadFormat = PayloadFormat { group_labels: name_and_target, body };

/// Renders the changed alerts; without any, those that still fire.
fn body(batch: &Batch, context: &RenderContext) -> Bytes {
    let shown: Vec<_> =
        if batch.changed.is_empty() { batch.still_firing.iter() } else { batch.changed.iter() }.collect();
    let color = if batch.firing() > 0 { "danger" } else { "good" };
    let lines = lines(&shown, context.max_alerts);
    let attachment = json!({ "color": color, "text": lines, "mrkdwn_in": ["text"] });
    write(&json!({ "text": headline(batch, context), "attachments": [attachment] }))
}

/// `*2 firing, 1 resolved: OrdersLagHigh* on orders (7 firing in all)`.
fn headline(batch: &Batch, context: &RenderContext) -> String {
    let count = |status| batch.changed.iter().filter(|alert| alert.status == status).count();
    let (began, ended) = (count(AlertStatus::Firing), count(AlertStatus::Resolved));
    let what = match (began, ended) {
        (0, 0) => format!("{} still firing", batch.firing()),
        (began, 0) => format!("{began} firing"),
        (0, ended) => format!("{ended} resolved"),
        (began, ended) => format!("{began} firing, {ended} resolved"),
    };
    let name = escape(&printable(batch.group.get("alertname").map_or("alert", String::as_str)));
    let name = match &context.external_url {
        Some(url) => format!("<{}|{name}>", escape(&page(batch, url))),
        None => name,
    };
    let mut line = format!("*{what}: {name}*");
    if let Some(target) = batch.group.get("target") {
        let _ = write!(line, " on {}", escape(&printable(target)));
    }
    if !batch.changed.is_empty() && batch.firing() > began {
        let _ = write!(line, " ({} firing in all)", batch.firing());
    }
    line
}

/// Returns the page of the only alert, or the first page.
fn page(batch: &Batch, external_url: &str) -> String {
    let mut alerts = batch.alerts();
    match (alerts.next(), alerts.next()) {
        (Some(alert), None) => link::of_alert(external_url, &alert.labels),
        _ => external_url.to_owned(),
    }
}

fn lines(alerts: &[&Arc<Alert>], max_alerts: usize) -> String {
    let mut text = String::new();
    let mut shown = 0;
    for alert in alerts.iter().take(max_alerts) {
        let line = line(alert);
        if text.len() + line.len() > TEXT_BYTES {
            break;
        }
        text.push_str(&line);
        shown += 1;
    }
    if alerts.len() > shown {
        let _ = write!(text, "and {} more", alerts.len() - shown);
    }
    text
}

fn line(alert: &Alert) -> String {
    match alert.status {
        AlertStatus::Firing => {
            let text = escape(&summary(alert, LINE_CHARS));
            format!("• {text} (since {})\n", moment(alert.starts_at))
        }
        AlertStatus::Resolved => {
            let text = escape(&resolved_summary(alert, LINE_CHARS));
            let seconds = alert.ends_at.saturating_sub(alert.starts_at).as_secs();
            let lasted = humantime::format_duration(Duration::from_secs(seconds));
            format!("• resolved after {lasted}: {text}\n")
        }
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

    /// The body as a reader of JSON sees it.
    fn written(batch: &Batch, context: &RenderContext) -> String {
        let value: serde_json::Value = serde_json::from_slice(&body(batch, context)).unwrap();
        let attachment = &value["attachments"][0];
        assert_eq!(attachment["mrkdwn_in"], serde_json::json!(["text"]));
        let [text, color, lines] = [&value["text"], &attachment["color"], &attachment["text"]];
        [text, color, lines].map(|value| value.as_str().unwrap().trim_end()).join("\n")
    }

    #[test]
    fn changed_alerts_are_listed() {
        let changed = vec![firing("LagHigh", "mail"), resolved("LagHigh", "audit", 90)];
        let batch = batch(changed, vec![firing("LagHigh", "b")]);
        insta::assert_snapshot!(written(&batch, &context(Some("https://gauge.example.com/?a=1&b=2"))), @r#"
        *1 firing, 1 resolved: <https://gauge.example.com/?a=1&amp;b=2|LagHigh>* on &lt;cache&gt; (2 firing in all)
        danger
        • mail is behind (since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • resolved after 1m 30s: audit is behind
        "#);
    }

    #[test]
    fn a_batch_about_one_alert_leads_to_its_page() {
        let batch = batch(vec![firing("LagHigh", "a/b")], vec![]);
        let text = written(&batch, &context(Some("https://gauge.example.com/")));
        let link = "<https://gauge.example.com/groups/cache/db0/orders/a%2Fb|LagHigh>";
        assert!(text.starts_with(&format!("*1 firing: {link}*")), "{text}");
    }

    #[test]
    fn what_resolved_is_good() {
        let batch = batch(vec![resolved("LagHigh", "audit", 90)], vec![]);
        insta::assert_snapshot!(written(&batch, &context(None)), @r#"
        *1 resolved: LagHigh* on &lt;cache&gt;
        good
        • resolved after 1m 30s: audit is behind
        "#);
    }

    #[test]
    fn a_reminder_lists_alerts_that_still_fire() {
        let batch = batch(vec![], ["a", "b", "c", "d", "e"].map(|group| firing("LagHigh", group)).to_vec());
        insta::assert_snapshot!(written(&batch, &context(None)), @r#"
        *5 still firing: LagHigh* on &lt;cache&gt;
        danger
        • a is behind (since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • b is behind (since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • c is behind (since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        and 2 more
        "#);
    }

    #[test]
    fn text_is_escaped_on_one_line_and_without_a_summary_the_subject_is_shown() {
        let mut silent = firing("LagHigh", "a&b");
        silent.annotations.clear();
        let mut of_the_target = silent.clone();
        Arc::make_mut(&mut of_the_target.labels).retain(|name, _| name == "alertname" || name == "target");
        let batch = batch(vec![saying("<!channel> *1 > 0*\n & <@U1>"), silent, of_the_target], vec![]);
        insta::assert_snapshot!(written(&batch, &context(None)), @r#"
        *3 firing: LagHigh* on &lt;cache&gt;
        danger
        • &lt;!channel&gt; *1 &gt; 0* &amp; &lt;@U1&gt; (since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • orders / a&amp;b (since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        • the target (since <!date^1795377600^{date_short_pretty} {time}|2026-11-22T20:00:00Z>)
        "#);
    }

    #[test]
    fn long_texts_are_cut_between_lines() {
        let long = "ä".repeat(2 * LINE_CHARS);
        let batch = batch(vec![saying(&long); 100], vec![]);
        let context = RenderContext { max_alerts: 100, ..context(None) };
        let text = written(&batch, &context);
        assert!(text.len() < TEXT_BYTES + 200, "{}", text.len());
        let (lines, last) = text.rsplit_once('\n').unwrap();
        let shown = lines.lines().filter(|line| line.starts_with('•') && line.contains('…')).count();
        assert_eq!(last, format!("and {} more", 100 - shown));
    }

    #[test]
    fn a_resolved_alert_has_its_reason_in_place_of_its_summary() {
        let mut alert = resolved("LagHigh", "audit", 90);
        let reason = "17,213 entries were removed before they were read";
        alert.annotations.insert("resolved_reason".to_owned(), reason.to_owned());
        let mut long = alert.clone();
        Arc::make_mut(&mut long.labels).insert("group".to_owned(), "g".repeat(2 * LINE_CHARS));
        let text = written(&batch(vec![alert, long], vec![]), &context(None));
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(lines[0], format!("• resolved after 1m 30s: group audit of orders: {reason}"));
        assert!(lines[1].contains('…') && lines[1].ends_with(reason), "{}", lines[1]);
    }
}
