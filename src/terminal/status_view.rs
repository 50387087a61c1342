//! The view that `status --watch` draws: the listed groups, their order, the cursor and the selected group. Does not
//! know the terminal.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::api::events::ListedEvent;
use crate::api::fold::{FoldedLine, Folding, folded};
use crate::api::groups::{ListedGroup, Listing};
use crate::terminal::columns::{GroupOrder, conditions, status};
use crate::terminal::entries::ListedEntry;
use crate::terminal::group_name::GroupName;
use crate::terminal::history::LagHistory;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ViewMode {
    #[default]
    List,
    /// The list, while the filter is typed.
    Filter,
    /// One group.
    Detail,
    /// The events of the last day.
    Events,
    /// The keys and the words.
    Help,
}

/// The key by which groups are folded into one line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FoldKey {
    target: String,
    place: Place,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Family(String),
    Stream(String),
}

/// A line of the list.
#[derive(Clone, Debug)]
pub(crate) enum ViewLine<'a> {
    Group(&'a ListedGroup),
    /// A group below its open line.
    Indented(&'a ListedGroup),
    Folded(Vec<&'a ListedGroup>),
    Open(Vec<&'a ListedGroup>),
}

/// The pending entries of the selected group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum EntryList {
    #[default]
    Loading,
    /// The first of them.
    Listed(Vec<ListedEntry>),
    Failed(String),
    /// The source of the groups does not list entries.
    NotAvailable,
}

/// The groups, and the part of them that is shown.
#[derive(Clone, Debug, Default)]
pub struct StatusView {
    /// The source of the groups, for the title.
    pub(crate) origin: String,
    pub(crate) listing: Listing,
    /// The error of the last attempt to read the groups.
    pub(crate) problem: Option<String>,
    pub(crate) mode: ViewMode,
    pub(crate) order: GroupOrder,
    pub(crate) is_reversed: bool,
    /// Text that a name or a condition of a shown group contains.
    pub(crate) filter: String,
    /// Pending entries of the selected group.
    pub(crate) entries: EntryList,
    /// First line shown of anything but the list.
    pub(crate) scroll: u16,
    /// Number of rows that fit; set by drawing.
    pub(crate) page: usize,
    /// The time since the Unix epoch; zero before [`set_time`](Self::set_time).
    pub(crate) now: Duration,
    pub(crate) history: LagHistory,
    /// The events of the last day, the newest first.
    pub(crate) events: Vec<ListedEvent>,
    /// Why they could not be read.
    pub(crate) events_problem: Option<String>,
    cursor: usize,
    /// The folded line that the cursor is on; `None` if that is a group, which `selected` names.
    cursor_on: Option<FoldKey>,
    selected: GroupName,
    folding: Folding,
    open: HashSet<FoldKey>,
    /// The mode below the help or the events.
    mode_below: ViewMode,
    /// The entries of a group that was just opened.
    initial_entries: EntryList,
}

impl<'a> ViewLine<'a> {
    /// Returns its groups, the first one first.
    pub(crate) fn groups(&self) -> Vec<&'a ListedGroup> {
        match self {
            Self::Group(group) | Self::Indented(group) => vec![group],
            Self::Folded(groups) | Self::Open(groups) => groups.clone(),
        }
    }

    /// Returns what a folded line has in common; `None` for a group.
    fn fold(&self) -> Option<FoldKey> {
        match self {
            Self::Group(_) | Self::Indented(_) => None,
            Self::Folded(groups) | Self::Open(groups) => groups.first().map(|group| fold_key(group)),
        }
    }

    fn shows(&self, name: &GroupName) -> bool {
        match self {
            Self::Group(group) | Self::Indented(group) => name.is_of(group),
            Self::Folded(groups) => groups.iter().any(|group| name.is_of(group)),
            Self::Open(_) => false,
        }
    }
}

fn fold_key(group: &ListedGroup) -> FoldKey {
    let place = match &group.family {
        Some(family) => Place::Family(family.clone()),
        None => Place::Stream(group.stream.clone()),
    };
    FoldKey { target: group.target.clone(), place, status: status(group) }
}

impl StatusView {
    /// Returns a view of groups of this origin, without any group yet.
    pub fn new(origin: String) -> Self {
        Self { origin, page: 10, ..Self::default() }
    }

    /// Returns a view of an origin that does not list pending entries.
    pub(crate) fn without_entries(origin: String) -> Self {
        Self { initial_entries: EntryList::NotAvailable, ..Self::new(origin) }
    }

    /// Sets the time, since the Unix epoch.
    pub(crate) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Replaces the groups. The cursor stays on its line. A target that cannot be read keeps its last groups.
    pub fn update(&mut self, mut listing: Listing) {
        let is_unread = |group: &&ListedGroup| {
            listing.targets.iter().any(|one| one.target == group.target && one.streams.is_none())
        };
        let kept: Vec<_> = self.listing.groups.iter().filter(is_unread).cloned().collect();
        listing.matched += kept.len();
        listing.groups.extend(kept);
        self.history.add(&listing);
        self.listing = listing;
        self.problem = None;
        self.find_cursor();
    }

    /// Replaces the events, or shows why they could not be read.
    pub(crate) fn set_events(&mut self, events: Result<Vec<ListedEvent>, String>) {
        match events {
            Ok(events) => (self.events, self.events_problem) = (events, None),
            Err(problem) => self.events_problem = Some(problem),
        }
    }

    /// Returns the events that concern the selected group: its own, those of its stream and those of the target.
    pub(crate) fn events_of_selected(&self) -> impl Iterator<Item = &ListedEvent> {
        let GroupName { target, stream, group } = &self.selected;
        self.events.iter().filter(move |event| {
            event.target == *target
                && event.stream.as_ref().is_none_or(|name| name == stream)
                && event.group.as_ref().is_none_or(|name| name == group)
        })
    }

    /// Returns true if the values of a group are not of the last reading.
    pub(crate) fn is_old(&self, group: &ListedGroup) -> bool {
        let is_down = || self.listing.targets.iter().any(|one| one.target == group.target && !one.up);
        self.problem.is_some() || is_down()
    }

    /// Returns the groups that the filter selects, sorted.
    pub(crate) fn rows(&self) -> Vec<&ListedGroup> {
        let wanted = self.filter.to_lowercase();
        let is_shown = |group: &&ListedGroup| {
            let texts = [&group.target, &group.stream, &group.group];
            wanted.is_empty()
                || conditions(group).contains(&wanted)
                || texts.iter().any(|text| text.to_lowercase().contains(&wanted))
        };
        let mut rows: Vec<_> = self.listing.groups.iter().filter(is_shown).collect();
        rows.sort_by(|one, other| self.order.compare(one, other));
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Returns the lines of the list: groups, some of them folded.
    pub(crate) fn lines(&self) -> Vec<ViewLine<'_>> {
        let rows = self.rows();
        if self.folding == Folding::Off {
            return rows.into_iter().map(ViewLine::Group).collect();
        }
        let numbered: Vec<_> = rows.into_iter().enumerate().collect();
        let mut folds = folded(numbered, |(_, group)| fold_key(group), |one, other| one.0.cmp(&other.0));
        folds.sort_by_key(|fold| fold.first.0);
        folds.into_iter().flat_map(|fold| self.lines_of(&fold)).collect()
    }

    fn lines_of<'a>(&self, fold: &FoldedLine<(usize, &'a ListedGroup)>) -> Vec<ViewLine<'a>> {
        if fold.others.is_empty() {
            return vec![ViewLine::Group(fold.first.1)];
        }
        let mut numbered: Vec<_> = fold.rows().copied().collect();
        numbered.sort_by_key(|(number, _)| *number);
        let groups: Vec<_> = numbered.into_iter().map(|(_, group)| group).collect();
        if !self.open.contains(&fold_key(fold.first.1)) {
            return vec![ViewLine::Folded(groups)];
        }
        let indented: Vec<_> = groups.iter().map(|group| ViewLine::Indented(group)).collect();
        [ViewLine::Open(groups)].into_iter().chain(indented).collect()
    }

    /// Returns the line of the cursor.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Returns the group that is shown in detail; `None` while none is.
    pub(crate) fn subject(&self) -> Option<&GroupName> {
        (self.mode == ViewMode::Detail).then_some(&self.selected)
    }

    /// Returns the selected group as last read; `None` if it no longer exists.
    pub(crate) fn group(&self) -> Option<&ListedGroup> {
        self.listing.groups.iter().find(|group| self.selected.is_of(group))
    }

    pub(crate) fn selected(&self) -> &GroupName {
        &self.selected
    }

    /// Stores the pending entries of a group, unless another group is shown by now.
    pub(crate) fn take_entries(&mut self, of: &GroupName, entries: EntryList) {
        if self.subject() == Some(of) {
            self.entries = entries;
        }
    }

    /// Handles a key; breaks if the user quits.
    pub(crate) fn handle(&mut self, event: &TerminalEvent) -> ControlFlow<()> {
        let TerminalEvent::Key(key) = event else { return ControlFlow::Continue(()) };
        if key.kind == KeyEventKind::Release {
            return ControlFlow::Continue(());
        }
        let mut key = *key;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            key.code = match key.code {
                KeyCode::Char('c') => return ControlFlow::Break(()),
                KeyCode::Char('f' | 'd') => KeyCode::PageDown,
                KeyCode::Char('b' | 'u') => KeyCode::PageUp,
                _ => return ControlFlow::Continue(()),
            };
        }
        match (self.mode, key.code) {
            (ViewMode::Filter, _) => self.type_filter(key),
            (
                ViewMode::Events | ViewMode::Help,
                KeyCode::Char('q' | '?' | 'e') | KeyCode::Esc | KeyCode::Enter,
            ) => {
                (self.mode, self.scroll) = (self.mode_below, 0);
            }
            (_, KeyCode::Char('q')) => return ControlFlow::Break(()),
            (ViewMode::List | ViewMode::Detail, KeyCode::Char('?')) => self.cover(ViewMode::Help),
            (ViewMode::List | ViewMode::Detail, KeyCode::Char('e')) => self.cover(ViewMode::Events),
            (ViewMode::List, _) => self.press_in_list(key),
            (ViewMode::Detail, KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace) => {
                self.mode = ViewMode::List;
            }
            (ViewMode::Detail | ViewMode::Events | ViewMode::Help, _) => self.press_to_scroll(key),
        }
        ControlFlow::Continue(())
    }

    /// Shows the help or the events above what is shown now.
    fn cover(&mut self, mode: ViewMode) {
        (self.mode_below, self.mode, self.scroll) = (self.mode, mode, 0);
    }

    fn type_filter(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Enter => self.mode = ViewMode::List,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = ViewMode::List;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        self.find_cursor();
    }

    fn press_in_list(&mut self, key: KeyEvent) {
        let last = self.lines().len().saturating_sub(1);
        let page = self.page.max(1);
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.move_to(self.cursor.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.move_to((self.cursor + 1).min(last)),
            KeyCode::PageUp => self.move_to(self.cursor.saturating_sub(page)),
            KeyCode::PageDown => self.move_to((self.cursor + page).min(last)),
            KeyCode::Home | KeyCode::Char('g') => self.move_to(0),
            KeyCode::End | KeyCode::Char('G') => self.move_to(last),
            KeyCode::Char('s') => self.reorder(self.order.next(), self.is_reversed),
            KeyCode::Char('r') => self.reorder(self.order, !self.is_reversed),
            KeyCode::Char('/') => self.mode = ViewMode::Filter,
            KeyCode::Char('f') => {
                self.folding = match self.folding {
                    Folding::ByStream => Folding::Off,
                    Folding::Off => Folding::ByStream,
                };
                self.find_cursor();
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.find_cursor();
            }
            KeyCode::Enter | KeyCode::Char(' ') => self.open_line(key.code),
            _ => {}
        }
    }

    /// Opens or closes the line of the cursor; a group is opened by Enter only, and Space closes the line above it.
    fn open_line(&mut self, key: KeyCode) {
        let line = self.lines().into_iter().nth(self.cursor);
        let fold = match &line {
            Some(ViewLine::Indented(group)) if key != KeyCode::Enter => Some(fold_key(group)),
            line => line.as_ref().and_then(ViewLine::fold),
        };
        match fold {
            Some(fold) => {
                self.cursor_on = Some(fold.clone());
                if !self.open.remove(&fold) {
                    self.open.insert(fold);
                }
                self.find_cursor();
            }
            None if line.is_some() && key == KeyCode::Enter => {
                self.mode = ViewMode::Detail;
                self.scroll = 0;
                self.entries = self.initial_entries.clone();
            }
            None => {}
        }
    }

    fn press_to_scroll(&mut self, key: KeyEvent) {
        let page = u16::try_from(self.page).unwrap_or(u16::MAX).max(1);
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll = self.scroll.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll = u16::MAX,
            _ => {}
        }
    }

    fn move_to(&mut self, row: usize) {
        let found = self.lines().into_iter().nth(row).map(|line| (line.fold(), line.groups()));
        let Some((fold, groups)) = found else { return };
        let first = groups.first().map(|group| GroupName::of(group));
        self.cursor = row;
        self.cursor_on = fold;
        self.selected = first.unwrap_or_default();
    }

    /// Sorts, and moves the cursor to the top.
    fn reorder(&mut self, order: GroupOrder, is_reversed: bool) {
        (self.order, self.is_reversed) = (order, is_reversed);
        self.move_to(0);
    }

    /// Moves the cursor to its line, or to the one that its group is in, or keeps its row if both are gone.
    fn find_cursor(&mut self) {
        let lines = self.lines();
        let is_same = |fold: &FoldKey| lines.iter().position(|line| line.fold().as_ref() == Some(fold));
        let same = self.cursor_on.as_ref().and_then(is_same);
        let found = same.or_else(|| lines.iter().position(|line| line.shows(&self.selected)));
        let last = lines.len().saturating_sub(1);
        let row = found.unwrap_or_else(|| self.cursor.min(last));
        self.cursor = row;
        // The detail of a group that is gone stays open, with a message.
        let mode = match self.mode {
            ViewMode::Events | ViewMode::Help => self.mode_below,
            mode => mode,
        };
        if mode != ViewMode::Detail {
            self.move_to(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::test_support::{event, group, listing};

    fn view() -> StatusView {
        let groups = vec![group("mail", 9, 1), group("audit", 7, 0), group("stock", 0, 30)];
        let mut view = StatusView::new("here".to_owned());
        view.update(Listing { matched: 3, groups, targets: Vec::new() });
        view
    }

    fn press(view: &mut StatusView, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                'v' => KeyCode::Down,
                '^' => KeyCode::Up,
                other => KeyCode::Char(other),
            };
            assert_eq!(view.handle(&TerminalEvent::Key(code.into())), ControlFlow::Continue(()));
        }
    }

    fn names(view: &StatusView) -> Vec<&str> {
        view.rows().iter().map(|group| group.group.as_str()).collect()
    }

    #[test]
    fn it_sorts_and_filters() {
        let mut view = view();
        for (keys, expected) in [
            ("", &["mail", "audit", "stock"][..]),
            ("ss", &["mail", "audit", "stock"]),
            ("s", &["stock", "mail", "audit"]),
            ("ss", &["audit", "mail", "stock"]),
            ("r", &["stock", "mail", "audit"]),
            ("sr", &["mail", "audit", "stock"]),
            ("/STA\n", &["mail", "audit"]),
            ("\x1b", &["mail", "audit", "stock"]),
            ("/stock", &["stock"]),
            ("\x1b", &["mail", "audit", "stock"]),
        ] {
            press(&mut view, keys);
            assert_eq!(names(&view), expected, "after {keys:?}");
        }
    }

    #[test]
    fn the_cursor_stays_on_its_group() {
        let mut view = view();
        press(&mut view, "v");
        assert_eq!((view.cursor(), view.selected().group.as_str()), (1, "audit"));
        let groups = vec![group("audit", 70, 0), group("mail", 9, 1)];
        view.update(Listing { matched: 2, groups, targets: Vec::new() });
        assert_eq!((view.cursor(), view.selected().group.as_str()), (0, "audit"));
        view.update(Listing { matched: 1, groups: vec![group("mail", 9, 1)], targets: Vec::new() });
        assert_eq!((view.cursor(), view.selected().group.as_str()), (0, "mail"));
        view.update(Listing::default());
        press(&mut view, "v^\n");
        assert_eq!(view.mode, ViewMode::List, "there is nothing to look at");
    }

    #[test]
    fn one_group_is_looked_at_and_left() {
        let mut view = view();
        press(&mut view, "v\n");
        let audit = view.subject().unwrap().clone();
        assert_eq!(audit.group, "audit");
        view.take_entries(&GroupName::default(), EntryList::Failed("another".to_owned()));
        assert_eq!(view.entries, EntryList::Loading);
        view.take_entries(&audit, EntryList::Listed(Vec::new()));
        assert_eq!(view.entries, EntryList::Listed(Vec::new()));
        view.update(Listing { matched: 1, groups: vec![group("mail", 9, 1)], targets: Vec::new() });
        assert_eq!((view.subject(), view.group()), (Some(&audit), None));
        press(&mut view, "\x1b");
        assert_eq!((view.mode, view.subject()), (ViewMode::List, None));
    }

    #[test]
    fn entries_that_never_come_are_not_waited_for() {
        let mut view = StatusView::without_entries("there".to_owned());
        view.update(Listing { matched: 1, groups: vec![group("mail", 9, 1)], targets: Vec::new() });
        press(&mut view, "\n");
        assert_eq!((view.mode, &view.entries), (ViewMode::Detail, &EntryList::NotAvailable));
    }

    #[test]
    fn q_ends_it_but_not_in_a_filter_and_control_c_always() {
        let mut view = view();
        let q = TerminalEvent::Key(KeyCode::Char('q').into());
        press(&mut view, "/q");
        assert_eq!(view.filter, "q");
        let control_c = TerminalEvent::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!(view.handle(&control_c), ControlFlow::Break(()));
        press(&mut view, "\x1b");
        assert_eq!(view.handle(&q), ControlFlow::Break(()));
        press(&mut view, "\n");
        assert_eq!(view.handle(&q), ControlFlow::Break(()));
    }

    /// Returns the lines of the list in short; `>` is the cursor.
    fn shown(view: &StatusView) -> Vec<String> {
        let text = |(row, line): (usize, ViewLine<'_>)| {
            let cursor = if row == view.cursor() { ">" } else { "" };
            match line {
                ViewLine::Group(group) => format!("{cursor}{}", group.group),
                ViewLine::Indented(group) => format!("{cursor}  {}", group.group),
                ViewLine::Folded(groups) => format!("{cursor}+{}", groups.len()),
                ViewLine::Open(groups) => format!("{cursor}-{}", groups.len()),
            }
        };
        view.lines().into_iter().enumerate().map(text).collect()
    }

    #[test]
    fn groups_of_one_stream_and_status_are_a_line_that_opens() {
        let mut view = StatusView::new("here".to_owned());
        let mut groups = vec![group("mail", 90, 0)];
        groups.extend((1..=4).map(|n| group(&format!("pod-{n}"), 0, 10 - n)));
        view.update(listing(groups.clone()));
        for (keys, expected) in [
            ("", &[">mail", "+4"][..]),
            ("j", &["mail", ">+4"]),
            (" ", &["mail", ">-4", "  pod-1", "  pod-2", "  pod-3", "  pod-4"]),
            ("G", &["mail", "-4", "  pod-1", "  pod-2", "  pod-3", ">  pod-4"]),
            // From a group in it, Space closes it.
            (" ", &["mail", ">+4"]),
            ("\n", &["mail", ">-4", "  pod-1", "  pod-2", "  pod-3", "  pod-4"]),
            ("f", &["mail", ">pod-1", "pod-2", "pod-3", "pod-4"]),
            ("j", &["mail", "pod-1", ">pod-2", "pod-3", "pod-4"]),
            ("f", &["mail", "-4", "  pod-1", ">  pod-2", "  pod-3", "  pod-4"]),
            ("/pod-2", &[">pod-2"]),
            ("\n\x1b", &["mail", "-4", "  pod-1", ">  pod-2", "  pod-3", "  pod-4"]),
            ("g", &[">mail", "-4", "  pod-1", "  pod-2", "  pod-3", "  pod-4"]),
        ] {
            press(&mut view, keys);
            assert_eq!(shown(&view), expected, "after {keys:?}");
        }
        // The cursor goes into the line that its group is folded into.
        press(&mut view, "j j");
        groups[0] = group("mail", 0, 0);
        view.update(listing(groups));
        assert_eq!(shown(&view), [">+5"]);
    }

    #[test]
    fn streams_of_one_family_are_folded_together() {
        let mut view = StatusView::new("here".to_owned());
        let of_stream = |n: u32, family: Option<&str>| ListedGroup {
            stream: format!("orders:{n}"),
            family: family.map(str::to_owned),
            ..group("mail", 0, 0)
        };
        let mut groups: Vec<_> = (0..5).map(|n| of_stream(n, Some("orders"))).collect();
        // Of the same name, and not reported as part of the family.
        groups.push(ListedGroup { stream: "orders".to_owned(), ..group("mail", 0, 0) });
        groups.extend((5..8).map(|n| of_stream(n, None)));
        view.update(listing(groups));
        assert_eq!(shown(&view), [">+5", "mail", "mail", "mail", "mail"]);
    }

    #[test]
    fn a_target_that_cannot_be_read_keeps_its_last_groups() {
        let mut view = view();
        let mut down = listing(Vec::new());
        (down.targets[0].up, down.targets[0].streams) = (false, None);
        view.update(listing(vec![group("mail", 9, 1), group("stock", 0, 0)]));
        assert!(!view.is_old(view.rows()[0]));
        for _ in 0..2 {
            view.update(down.clone());
            assert_eq!((names(&view), view.listing.matched), (vec!["mail", "stock"], 2));
            assert!(view.is_old(view.rows()[0]));
        }
        view.update(listing(vec![group("mail", 9, 1)]));
        assert_eq!(names(&view), ["mail"]);
        assert!(!view.is_old(view.rows()[0]));
        view.problem = Some("no answer".to_owned());
        assert!(view.is_old(view.rows()[0]));
    }

    #[test]
    fn help_and_events_are_above_what_was_shown() {
        let mut view = view();
        for (keys, mode) in [
            ("?", ViewMode::Help),
            ("q", ViewMode::List),
            ("e", ViewMode::Events),
            ("\x1b", ViewMode::List),
            ("\n?", ViewMode::Help),
            ("?", ViewMode::Detail),
            ("e", ViewMode::Events),
            ("e\x1b", ViewMode::List),
            ("/?", ViewMode::Filter),
        ] {
            press(&mut view, keys);
            assert_eq!(view.mode, mode, "after {keys:?}");
        }
        assert_eq!(view.filter, "?");
    }

    #[test]
    fn events_stay_while_they_cannot_be_read_and_those_of_a_group_are_found() {
        let mut view = view();
        let of = |target: &str, stream: Option<&str>, group: Option<&str>, text: &str| ListedEvent {
            target: target.to_owned(),
            stream: stream.map(str::to_owned),
            group: group.map(str::to_owned),
            ..event(text)
        };
        view.set_events(Ok(vec![
            of("t", Some("orders"), Some("mail"), "own"),
            of("t", Some("orders"), Some("audit"), "of another group"),
            of("t", Some("orders"), None, "trim"),
            of("t", Some("clicks"), None, "of another stream"),
            of("t", None, None, "target"),
            of("u", None, None, "of another target"),
        ]));
        press(&mut view, "j");
        press(&mut view, "k");
        view.set_events(Err("no answer".to_owned()));
        let texts: Vec<_> = view.events_of_selected().map(|event| event.text.as_str()).collect();
        assert_eq!(
            (texts, view.events_problem.as_deref()),
            (vec!["own", "trim", "target"], Some("no answer"))
        );
        view.set_events(Ok(Vec::new()));
        assert_eq!((view.events.len(), &view.events_problem), (0, &None));
    }
}
