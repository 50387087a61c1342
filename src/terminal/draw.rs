//! Draws the view: a list of groups, or one group with its consumers and pending entries.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;

use crate::api::groups::{Consumer, Group};
use crate::format::units::count;
use crate::terminal::columns::{Column, Severity, severity, status};
use crate::terminal::entries;
use crate::terminal::layout::{Align, GAP, Heading, fit, lay_out, lines};
use crate::terminal::table::{summary, unread};
use crate::terminal::text::{count_or_unknown, lag, printable, span, span_or_unknown};
use crate::terminal::view::{Entries, Mode, View};

const LIST_KEYS: &str = "q quit  ↑↓ move  Enter details  s sort  r reverse  / filter";
const DETAIL_KEYS: &str = "q quit  Esc back  ↑↓ scroll";
const FILTER_KEYS: &str = "Enter done  Esc clear";

/// In place of the entries that a running streamgauge does not tell of.
const UNTOLD: &str = "only with --redis-url or --config; a running streamgauge lists no entries";

const CONSUMERS: [Heading; 4] = [
    Heading { title: "CONSUMER", align: Align::Left, expendable: None, shrinks_to: Some(8) },
    Heading { title: "PENDING", align: Align::Right, expendable: None, shrinks_to: None },
    Heading { title: "IDLE", align: Align::Right, expendable: None, shrinks_to: None },
    Heading { title: "INACTIVE", align: Align::Right, expendable: Some(0), shrinks_to: None },
];

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let [title, notes, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(heading(view)).style(Modifier::BOLD), title);
    frame.render_widget(note(view), notes);
    // One line is the heading of the table.
    view.page = usize::from(body.height).saturating_sub(1);
    let text = match view.mode {
        Mode::List | Mode::Filter => list(view, body),
        Mode::Detail => detail(view, body),
    };
    let scroll = if view.mode == Mode::Detail {
        let hidden = text.lines.len().saturating_sub(usize::from(body.height));
        view.scroll = view.scroll.min(u16::try_from(hidden).unwrap_or(u16::MAX));
        view.scroll
    } else {
        0
    };
    frame.render_widget(Paragraph::new(text).scroll((scroll, 0)), body);
    let help = match view.mode {
        Mode::List => LIST_KEYS,
        Mode::Filter => FILTER_KEYS,
        Mode::Detail => DETAIL_KEYS,
    };
    frame.render_widget(Line::from(help).style(Modifier::DIM), keys);
}

fn heading(view: &View) -> String {
    match view.mode {
        Mode::Detail => {
            let of = view.selected();
            format!(
                "group {} of stream {} on {}",
                printable(&of.group),
                printable(&of.stream),
                printable(&of.target)
            )
        }
        Mode::List | Mode::Filter => format!("{}: {}", printable(&view.origin), summary(&view.listing)),
    }
}

/// What is wrong, else how a list is sorted and filtered.
fn note(view: &View) -> Line<'static> {
    let problem = view.problem.clone().or_else(|| {
        let unread = unread(&view.listing);
        let more = unread.len().saturating_sub(1);
        unread
            .into_iter()
            .next()
            .map(|line| if more > 0 { format!("{line} (and {more} more)") } else { line })
    });
    if view.mode == Mode::Filter {
        return Line::from(format!("filter: {}_", printable(&view.filter)));
    }
    if let Some(problem) = problem {
        return Line::styled(printable(&problem).into_owned(), Color::Red);
    }
    if view.mode == Mode::Detail {
        return Line::default();
    }
    let direction = if view.is_reversed { ", reversed" } else { "" };
    let filter = match view.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter: {}", printable(filter)),
    };
    Line::styled(format!("sorted by {}{direction}{filter}", view.sort.as_str()), Modifier::DIM)
}

fn list(view: &View, area: Rect) -> Text<'static> {
    let columns = Column::of(&view.listing);
    let headings: Vec<_> = columns.iter().map(|column| column.heading()).collect();
    let all = view.rows();
    let room = usize::from(area.height).saturating_sub(1);
    // The cursor is always within what is shown.
    let first = view.cursor().saturating_sub(room.saturating_sub(1));
    let visible: Vec<_> = all.iter().skip(first).take(room).collect();
    let cells: Vec<Vec<String>> =
        visible.iter().map(|group| columns.iter().map(|column| column.cell(group)).collect()).collect();
    let shown = lay_out(&headings, &cells, Some(usize::from(area.width)));
    let gap = " ".repeat(GAP);
    let head: Vec<_> =
        shown.iter().map(|one| fit(headings[one.at].title, headings[one.at].align, one.width)).collect();
    let mut text = Text::from(Line::styled(head.join(&gap), Modifier::BOLD));
    for (at, (group, row)) in visible.iter().zip(&cells).enumerate() {
        let mut spans = Vec::new();
        for one in &shown {
            let cell = fit(&row[one.at], headings[one.at].align, one.width);
            let style =
                if columns[one.at] == Column::Status { colour(severity(group)) } else { Style::default() };
            spans.push(Span::styled(cell, style));
            spans.push(Span::raw(gap.clone()));
        }
        let is_selected = first + at == view.cursor();
        let style = if is_selected { Modifier::REVERSED.into() } else { Style::default() };
        text.push_line(Line::from(spans).style(style));
    }
    if all.is_empty() && !view.listing.groups.is_empty() {
        text.push_line("no group matches the filter");
    }
    text
}

fn colour(severity: Severity) -> Style {
    match severity {
        Severity::Bad => Color::Red.into(),
        Severity::Doubtful => Color::Yellow.into(),
        Severity::Fine => Color::Green.into(),
    }
}

fn detail(view: &View, area: Rect) -> Text<'static> {
    let Some(group) = view.group() else { return Text::from("this group is not there any more") };
    let room = Some(usize::from(area.width));
    let mut text = Text::default();
    text.push_line(Line::from(vec![
        Span::raw("status          "),
        Span::styled(status(group), colour(severity(group))),
    ]));
    for (name, value) in facts(group) {
        text.push_line(format!("{name:<16}{value}"));
    }
    text.push_line("");
    section(&mut text, "Consumers", &consumers(group.consumer_list.as_deref(), room));
    text.push_line("");
    let listed = match &view.entries {
        Entries::Loading => vec!["reading them".to_owned()],
        Entries::Failed(why) => vec![printable(why).into_owned()],
        Entries::Untold => vec![UNTOLD.to_owned()],
        Entries::Listed(list) if list.is_empty() => vec!["none".to_owned()],
        Entries::Listed(list) => entries::table(list, room),
    };
    section(&mut text, "Pending entries, from the oldest on", &listed);
    text
}

fn section(text: &mut Text<'static>, title: &'static str, lines: &[String]) {
    text.push_line(Line::styled(title, Modifier::BOLD));
    for line in lines {
        text.push_line(line.clone());
    }
}

fn facts(group: &Group) -> Vec<(&'static str, String)> {
    let oldest = match (group.messages_pending, group.oldest_pending_deliveries) {
        (Some(0), _) => "-".to_owned(),
        (_, None) => span_or_unknown(group.oldest_pending_age_seconds),
        (_, Some(deliveries)) => format!(
            "{}, last delivered {} ago, {} in all",
            span_or_unknown(group.oldest_pending_age_seconds),
            span_or_unknown(group.oldest_pending_idle_seconds),
            if deliveries == 1 { "once".to_owned() } else { format!("{} times", count(deliveries)) },
        ),
    };
    let retention = group.retention_used_ratio.map(|ratio| format!("{:.0} %", ratio * 100.0));
    vec![
        ("lag", lag(group.lag, group.lag_min, group.lag_max)),
        ("behind", span_or_unknown(group.lag_seconds)),
        (
            "last delivered",
            group.last_delivered_id_age_seconds.map_or("?".to_owned(), |age| span(age) + " ago"),
        ),
        ("pending", count_or_unknown(group.messages_pending)),
        ("oldest pending", oldest),
        ("orphaned", count_or_unknown(group.pending_orphaned)),
        ("lost", count_or_unknown(group.entries_lost_total)),
        ("retention used", retention.unwrap_or_else(|| "?".to_owned())),
        ("consumers", count_or_unknown(group.consumers)),
    ]
}

fn consumers(list: Option<&[Consumer]>, room: Option<usize>) -> Vec<String> {
    let Some(list) = list else { return vec!["not read".to_owned()] };
    if list.is_empty() {
        return vec!["none".to_owned()];
    }
    let row = |consumer: &Consumer| {
        vec![
            printable(&consumer.consumer).into_owned(),
            count(consumer.messages_pending),
            span(consumer.idle_seconds),
            span_or_unknown(consumer.inactive_seconds),
        ]
    };
    lines(&CONSUMERS, &list.iter().map(row).collect::<Vec<_>>(), room)
}
