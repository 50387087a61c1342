//! The view that `status --watch` draws: the listed groups, their order, the cursor and the selected group. Does not
//! know the terminal.

use std::ops::ControlFlow;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::api::groups::{ListedGroup, Listing};
use crate::terminal::columns::{GroupOrder, conditions};
use crate::terminal::entries::ListedEntry;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ViewMode {
    #[default]
    List,
    /// The list, while the filter is typed.
    Filter,
    /// One group.
    Detail,
}

/// The names of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SelectedGroup {
    pub(crate) target: String,
    /// Key of the stream, as text.
    pub(crate) stream: String,
    /// Name of the group, as text.
    pub(crate) group: String,
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
    /// First line shown of a single group.
    pub(crate) scroll: u16,
    /// Number of rows that fit; set by drawing.
    pub(crate) page: usize,
    cursor: usize,
    selected: SelectedGroup,
    /// The entries of a group that was just opened.
    initial_entries: EntryList,
}

impl SelectedGroup {
    fn of(group: &ListedGroup) -> Self {
        Self { target: group.target.clone(), stream: group.stream.clone(), group: group.group.clone() }
    }

    fn is_of(&self, group: &ListedGroup) -> bool {
        self.target == group.target && self.stream == group.stream && self.group == group.group
    }
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

    /// Replaces the groups. The cursor stays on its group.
    pub fn update(&mut self, listing: Listing) {
        self.listing = listing;
        self.problem = None;
        self.find_cursor();
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

    /// Returns the row of the cursor.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Returns the group that is shown in detail; `None` while the list is shown.
    pub(crate) fn subject(&self) -> Option<&SelectedGroup> {
        (self.mode == ViewMode::Detail).then_some(&self.selected)
    }

    /// Returns the selected group as last read; `None` if it no longer exists.
    pub(crate) fn group(&self) -> Option<&ListedGroup> {
        self.listing.groups.iter().find(|group| self.selected.is_of(group))
    }

    pub(crate) fn selected(&self) -> &SelectedGroup {
        &self.selected
    }

    /// Stores the pending entries of a group, unless another group is shown by now.
    pub(crate) fn take_entries(&mut self, of: &SelectedGroup, entries: EntryList) {
        if self.subject() == Some(of) {
            self.entries = entries;
        }
    }

    /// Handles a key; breaks if the user quits.
    pub(crate) fn handle(&mut self, event: &Event) -> ControlFlow<()> {
        let Event::Key(key) = event else { return ControlFlow::Continue(()) };
        if key.kind == KeyEventKind::Release {
            return ControlFlow::Continue(());
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            };
        }
        match self.mode {
            ViewMode::Filter => self.type_filter(*key),
            ViewMode::List | ViewMode::Detail if key.code == KeyCode::Char('q') => {
                return ControlFlow::Break(());
            }
            ViewMode::List => self.press_in_list(*key),
            ViewMode::Detail => self.press_in_detail(*key),
        }
        ControlFlow::Continue(())
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
        let last = self.rows().len().saturating_sub(1);
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
            KeyCode::Esc => {
                self.filter.clear();
                self.find_cursor();
            }
            KeyCode::Enter if self.rows().get(self.cursor).is_some() => {
                self.mode = ViewMode::Detail;
                self.scroll = 0;
                self.entries = self.initial_entries.clone();
            }
            _ => {}
        }
    }

    fn press_in_detail(&mut self, key: KeyEvent) {
        let page = u16::try_from(self.page).unwrap_or(u16::MAX).max(1);
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => self.mode = ViewMode::List,
            _ => {}
        }
    }

    fn move_to(&mut self, row: usize) {
        let subject = self.rows().get(row).map(|group| SelectedGroup::of(group));
        if let Some(subject) = subject {
            (self.cursor, self.selected) = (row, subject);
        }
    }

    /// Sorts, and moves the cursor to the top.
    fn reorder(&mut self, order: GroupOrder, is_reversed: bool) {
        (self.order, self.is_reversed) = (order, is_reversed);
        self.move_to(0);
    }

    /// Moves the cursor to the selected group, or keeps its row if that group is gone.
    fn find_cursor(&mut self) {
        let rows = self.rows();
        let found = rows.iter().position(|group| self.selected.is_of(group));
        let last = rows.len().saturating_sub(1);
        let row = found.unwrap_or_else(|| self.cursor.min(last));
        self.cursor = row;
        // The detail of a group that is gone stays open, with a message.
        if self.mode != ViewMode::Detail {
            self.move_to(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::groups::ListedValues;
    use redis_stream_lag::report::{GroupValues, Lag, Status};

    fn group(name: &str, lag: u64, pending: u64) -> ListedGroup {
        ListedGroup {
            target: "t".to_owned(),
            stream: "orders".to_owned(),
            group: name.to_owned(),
            up: true,
            status: Some(if lag > 5 { Status::Stalled } else { Status::Ok }),
            values: ListedValues::of(
                (&GroupValues { lag: Lag::Exact(lag), messages_pending: pending, ..GroupValues::default() })
                    .into(),
            ),
            ..ListedGroup::default()
        }
    }

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
            assert_eq!(view.handle(&Event::Key(code.into())), ControlFlow::Continue(()));
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
        view.take_entries(&SelectedGroup::default(), EntryList::Failed("another".to_owned()));
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
        let q = Event::Key(KeyCode::Char('q').into());
        press(&mut view, "/q");
        assert_eq!(view.filter, "q");
        let control_c = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!(view.handle(&control_c), ControlFlow::Break(()));
        press(&mut view, "\x1b");
        assert_eq!(view.handle(&q), ControlFlow::Break(()));
        press(&mut view, "\n");
        assert_eq!(view.handle(&q), ControlFlow::Break(()));
    }
}
