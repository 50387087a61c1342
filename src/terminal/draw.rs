//! Draws the view: a list of groups, one group, what happened, or the help.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;

use crate::api::groups::ListedTarget;
use crate::format::severity::Severity;
use crate::format::unicode::printable;
use crate::format::units::clock_seconds;
use crate::terminal::colour::colour;
use crate::terminal::columns::{self, TableLine, severity};
use crate::terminal::detail::detail;
use crate::terminal::event_line::event_line;
use crate::terminal::help;
use crate::terminal::layout::{GAP, line};
use crate::terminal::status_view::{StatusView, ViewLine, ViewMode};
use crate::terminal::table::{groups_abandoned, largest_streams, limited, summary, unread, unread_streams};
use crate::terminal::text::{elide, span, width};

/// Readings of the chart in a line of the list.
const CHART: usize = 20;
/// The least numbers of rows for the line of targets and for the last events.
const ROWS_FOR_TARGETS: u16 = 9;
const ROWS_FOR_EVENTS: u16 = 16;
/// Events below the list.
const LAST_EVENTS: usize = 3;

pub(crate) fn draw(frame: &mut Frame<'_>, view: &mut StatusView) {
    let area = frame.area();
    let is_list = matches!(view.mode, ViewMode::List | ViewMode::Filter);
    let events =
        if is_list && area.height >= ROWS_FOR_EVENTS { view.events.len().min(LAST_EVENTS) } else { 0 };
    let [title, targets, notes, body, last_events, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(area.height >= ROWS_FOR_TARGETS)),
        Constraint::Length(u16::from(area.height > 2)),
        Constraint::Min(0),
        Constraint::Length(u16::try_from(events).unwrap_or(0)),
        Constraint::Length(u16::from(area.height > 1)),
    ])
    .areas(area);
    frame.render_widget(Line::from(title_line(view, area.width.into())).style(Modifier::BOLD), title);
    frame.render_widget(targets_line(view, area.width.into()), targets);
    frame.render_widget(note(view, area.width.into()), notes);
    // One line is the heading of the table.
    view.page = usize::from(body.height).saturating_sub(1);
    let text = match view.mode {
        ViewMode::List | ViewMode::Filter => list(view, body),
        ViewMode::Detail => detail(view, body),
        ViewMode::Events => events_text(view),
        ViewMode::Help => help::text(),
    };
    let hidden = text.lines.len().saturating_sub(usize::from(body.height));
    view.scroll = view.scroll.min(u16::try_from(hidden).unwrap_or(u16::MAX));
    let scroll = if is_list { 0 } else { view.scroll };
    frame.render_widget(Paragraph::new(text).scroll((scroll, 0)), body);
    let last: Vec<_> = view.events.iter().take(events).map(|event| event_line(view, event)).collect();
    frame.render_widget(Paragraph::new(last), last_events);
    let help = help::keys(view.mode, area.width.into());
    frame.render_widget(Line::from(help).style(Modifier::DIM), keys);
}

/// Returns what is shown, and on the right the time.
fn title_line(view: &StatusView, columns: usize) -> String {
    let clock = format!("{} UTC", clock_seconds(view.now));
    let title = heading(view);
    match columns.checked_sub(clock.len() + GAP.len()) {
        Some(room) if room >= 30 => {
            let title = elide(&title, room);
            let padding = " ".repeat(columns - width(&title) - clock.len());
            format!("{title}{padding}{clock}")
        }
        _ => elide(&title, columns).into_owned(),
    }
}

fn heading(view: &StatusView) -> String {
    match view.mode {
        ViewMode::Detail => {
            format!("{} on {}", view.selected().words(), printable(&view.selected().target))
        }
        ViewMode::List | ViewMode::Filter => {
            format!("{}: {}", printable(&view.origin), summary(&view.listing))
        }
        ViewMode::Events => format!("{}: recent events", printable(&view.origin)),
        ViewMode::Help => "keys and words".to_owned(),
    }
}

/// Returns the targets with the age of their data, those that cannot be read first.
fn targets_line(view: &StatusView, columns: usize) -> Line<'static> {
    let mut targets: Vec<_> = view.listing.targets.iter().collect();
    targets.sort_by_key(|target| target.up);
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut used = 0;
    for (at, target) in targets.iter().enumerate() {
        let more = match targets.len() - at - 1 {
            0 => String::new(),
            more => format!("{GAP}and {more} more"),
        };
        let text = target_text(view, target);
        let gap = if at == 0 { "" } else { GAP };
        if at > 0 && used + gap.len() + 2 + width(&text) + width(&more) > columns {
            spans.push(Span::raw(format!("{GAP}and {} more", targets.len() - at)));
            break;
        }
        used += gap.len() + 2 + width(&text);
        let (dot, style) = match (target.up, target.last_successful_poll_timestamp_seconds) {
            (true, _) => ("\u{25cf} ", Style::from(Color::Green)),
            (false, None) if target.error.is_none() => ("\u{25cb} ", Style::from(Color::Yellow)),
            (false, _) => ("\u{25cb} ", Style::from(Color::Red)),
        };
        spans.push(Span::raw(gap));
        spans.push(Span::styled(dot, style));
        spans.push(Span::raw(text));
    }
    Line::from(spans)
}

fn target_text(view: &StatusView, target: &ListedTarget) -> String {
    let name = printable(&target.target);
    let Some(read) = target.last_successful_poll_timestamp_seconds else {
        return format!("{name} not read yet");
    };
    // Times of another machine may be ahead of this one's.
    let age = match (view.now.as_secs_f64() - read).max(0.0).floor() {
        seconds @ ..10.0 => format!("{seconds:.0}s"),
        seconds => span(seconds),
    };
    if target.up {
        return format!("{name} read {age} ago");
    }
    let at = std::time::Duration::try_from_secs_f64(read).map(clock_seconds).unwrap_or_default();
    format!("{name} cannot be read, as of {at} UTC ({age} ago)")
}

/// Returns the first problem, or else the order and filter of a list.
fn note(view: &StatusView, columns: usize) -> Line<'static> {
    if view.mode == ViewMode::Filter {
        return Line::from(format!("filter: {}_", printable(&view.filter)));
    }
    let problem = view.problem.clone().or_else(|| {
        let mut lines = unread(&view.listing);
        lines.extend(limited(&view.listing));
        lines.extend(unread_streams(&view.listing));
        lines.extend(groups_abandoned(&view.listing));
        lines.extend(largest_streams(&view.listing));
        let more = lines.len().saturating_sub(1);
        lines.into_iter().next().map(|line| if more > 0 { format!("{line} (and {more} more)") } else { line })
    });
    if let Some(problem) = problem {
        return Line::styled(elide(&printable(&problem), columns).into_owned(), Color::Red);
    }
    if !matches!(view.mode, ViewMode::List) {
        return Line::default();
    }
    let direction = if view.is_reversed { ", reversed" } else { "" };
    let filter = match view.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter: {}", printable(filter)),
    };
    Line::styled(format!("sorted by {}{direction}{filter}", view.order.as_str()), Modifier::DIM)
}

fn list(view: &StatusView, area: Rect) -> Text<'static> {
    let all = view.lines();
    let room = usize::from(area.height).saturating_sub(1);
    // Scrolls so that the cursor is visible.
    let first = view.cursor().saturating_sub(room.saturating_sub(1));
    let visible: Vec<_> = all.iter().skip(first).take(room).collect();
    let lines: Vec<_> = visible.iter().map(|line| table_line(view, line)).collect();
    let table = columns::table(&view.listing, &lines, Some(usize::from(area.width)));
    let mut text = Text::from(Line::styled(line(&table.heading()), Modifier::BOLD));
    for (index, (shown, mut cells)) in lines.iter().zip(table.rows()).enumerate() {
        let is_old = shown.groups.iter().all(|group| view.is_old(group));
        let worst = shown.groups.first().map_or(Severity::Unknown, |group| severity(group));
        let status = Span::styled(cells.remove(0), if is_old { Style::default() } else { colour(worst) });
        let rest = Span::raw(format!("{GAP}{}", cells.join(GAP)));
        let mut style = if is_old { Modifier::DIM.into() } else { Style::default() };
        if first + index == view.cursor() {
            style = style.add_modifier(Modifier::REVERSED);
        }
        text.push_line(Line::from(vec![status, rest]).style(style));
    }
    if all.is_empty() && !view.listing.groups.is_empty() {
        text.push_line("no group matches the filter");
    }
    text
}

fn table_line<'a>(view: &StatusView, line: &ViewLine<'a>) -> TableLine<'a> {
    let (marker, chart) = match line {
        ViewLine::Group(group) => ("", view.history.chart(group, CHART)),
        ViewLine::Indented(group) => ("  ", view.history.chart(group, CHART)),
        ViewLine::Folded(_) => ("\u{25b8} ", String::new()),
        ViewLine::Open(_) => ("\u{25be} ", String::new()),
    };
    TableLine { groups: line.groups(), marker, chart: Some(chart) }
}

fn events_text(view: &StatusView) -> Text<'static> {
    let mut text = Text::default();
    if let Some(problem) = &view.events_problem {
        text.push_line(Line::styled(format!("cannot read the events: {}", printable(problem)), Color::Red));
    } else if view.events.is_empty() {
        text.push_line("none");
    }
    text.extend(view.events.iter().map(|event| event_line(view, event)));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::api::events::ListedEvent;
    use crate::api::groups::{ListedGroup, ListedValues};
    use crate::terminal::test_support::{event, group, listing};
    use redis_stream_lag::report::{Age, EntryRate, GroupValues, Lag, Status};

    /// Returns the screen as text, without spaces at the ends of lines.
    fn screen(view: &mut StatusView, columns: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let cells = terminal.backend().buffer().content();
        let lines = cells.chunks(usize::from(columns)).map(|row| {
            let mut line = String::new();
            let mut skipped = 0;
            for cell in row {
                // A wide character is followed by a cell that it covers.
                if skipped == 0 {
                    line.push_str(cell.symbol());
                    skipped = width(cell.symbol()).max(1);
                }
                skipped -= 1;
            }
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn behind(name: &str, lag: u64) -> ListedGroup {
        let rate = |entries| Some(EntryRate::new(entries, Duration::from_secs(10)));
        let values = GroupValues {
            lag: Lag::Exact(lag),
            lag_seconds: Some(Age::of(Duration::from_secs(lag / 10))),
            messages_pending: 3,
            consumers: 2,
            added_rate: rate(120),
            delivered_rate: rate(45),
            ..GroupValues::default()
        };
        ListedGroup {
            values: ListedValues::of((&values).into()),
            conditions: vec![Status::Lagging],
            ..group(name, lag, 3)
        }
    }

    fn view() -> StatusView {
        let mut view = StatusView::new("here".to_owned());
        for reading in 0..12_u32 {
            let lag = u64::from(reading) * 150;
            let mut groups =
                vec![behind("billing-of-the-eu-region-1", lag + 10), behind("\u{6ce8}\u{6587}", 40)];
            groups.extend((0..24).map(|n| group(&format!("cache-invalidator-6c8d7f9b54-{n:05}"), 0, 0)));
            let mut listing = listing(groups);
            listing.targets[0].last_successful_poll_timestamp_seconds =
                Some(1_700_000_000.0 + f64::from(reading * 5));
            let down = ListedTarget {
                target: "reports".to_owned(),
                last_successful_poll_timestamp_seconds: Some(1_700_000_000.0 - 300.0),
                error: Some("cannot connect to 10.0.0.7:6379: connection refused".to_owned()),
                ..ListedTarget::default()
            };
            listing.targets.push(down);
            view.set_time(Duration::from_secs(1_700_000_000 + u64::from(reading) * 5 + 2));
            view.update(listing);
        }
        let stuck = ListedEvent {
            stream: Some("orders".to_owned()),
            group: Some("billing-of-the-eu-region-1".to_owned()),
            ..event("became stuck")
        };
        view.set_events(Ok(vec![stuck]));
        view
    }

    #[test]
    fn a_wide_screen_shows_more_than_a_narrow_one() {
        let down = "\u{25cb} reports cannot be read, as of 22:08:20 UTC (5m 57s ago)  \u{25cf} t read 2s ago";
        let event = "22:13 UTC  billing-of-the-eu-region-1 of orders: became stuck on t";
        for (columns, texts) in [
            (80, &["22:14:17 UTC", "\u{25b8} 24 groups", "\u{6ce8}\u{6587}", "1,660", down, event][..]),
            (
                200,
                &["RECENT LAG", "TREND", "\u{25b2} 7.5/s", "DRAIN", "IN/S", "OUT/S", "\u{2581}", "\u{2588}"],
            ),
        ] {
            let shown = screen(&mut view(), columns, 16);
            assert!(texts.iter().all(|text| shown.contains(text)), "{shown}");
            assert_eq!(shown.contains("RECENT LAG"), columns == 200, "{shown}");
        }
    }

    #[test]
    fn every_size_can_be_drawn() {
        for (columns, rows) in [(1, 1), (2, 3), (12, 5), (40, 10), (80, 1), (1, 24), (200, 60)] {
            for mode in [ViewMode::List, ViewMode::Filter, ViewMode::Detail, ViewMode::Events, ViewMode::Help]
            {
                let mut view = view();
                (view.mode, view.scroll) = (mode, 500);
                let shown = screen(&mut view, columns, rows);
                assert!(shown.lines().all(|line| width(line) <= columns.into()), "{mode:?}: {shown}");
            }
        }
        let mut help = view();
        help.mode = ViewMode::Help;
        let shown = screen(&mut help, 40, 10);
        assert!(
            shown.starts_with("keys and words") && shown.ends_with("q back  \u{2191}\u{2193} scroll"),
            "{shown}"
        );
    }
}
