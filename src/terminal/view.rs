//! The view that `status --watch` draws: which groups, in which order, which of them is looked at. No terminal.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::api::groups::{Group, Listing};
use crate::terminal::columns::{Sort, status};
use crate::terminal::entries::Entry;

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All groups.
    #[default]
    List,
    /// All groups, while the filter is typed.
    Filter,
    /// One group.
    Detail,
}

/// What a key asks for beyond the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing.
    Nothing,
    /// To end.
    Quit,
}

/// Which group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Name of the target.
    pub target: String,
    /// Key of the stream, as text.
    pub stream: String,
    /// Name of the group, as text.
    pub group: String,
}

/// What is known of the pending entries of the group that is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Entries {
    /// They are being read.
    #[default]
    Loading,
    /// The first of them.
    Listed(Vec<Entry>),
    /// They cannot be read, and why.
    Failed(String),
    /// Where the groups come from tells of their number and of the oldest, and not of each.
    Untold,
}

/// What is shown, and how.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Where the groups come from, as the title has it.
    pub origin: String,
    /// The groups as they were read last.
    pub listing: Listing,
    /// What the last attempt to read them failed of.
    pub problem: Option<String>,
    /// What is looked at.
    pub mode: Mode,
    /// What the list is sorted by.
    pub sort: Sort,
    /// Whether the order is the other way round.
    pub is_reversed: bool,
    /// What a shown group has somewhere in its names or its status.
    pub filter: String,
    /// Pending entries of the group that is looked at.
    pub entries: Entries,
    /// First line shown of a single group.
    pub scroll: u16,
    /// Rows that the list has room for; set when it is drawn.
    pub page: usize,
    cursor: usize,
    selected: Subject,
    /// What is known of pending entries when a group begins to be looked at.
    entries_at_first: Entries,
}

impl Subject {
    fn of(group: &Group) -> Self {
        Self { target: group.target.clone(), stream: group.stream.clone(), group: group.group.clone() }
    }

    fn is_of(&self, group: &Group) -> bool {
        self.target == group.target && self.stream == group.stream && self.group == group.group
    }
}

impl View {
    /// A view of groups that come from there; none yet.
    #[must_use]
    pub fn new(origin: String) -> Self {
        Self { origin, page: 10, ..Self::default() }
    }

    /// The same of groups whose pending entries will never come.
    #[must_use]
    pub fn without_entries(origin: String) -> Self {
        Self { entries_at_first: Entries::Untold, ..Self::new(origin) }
    }

    /// Takes the groups as they are now. The cursor stays on its group.
    pub fn update(&mut self, listing: Listing) {
        self.listing = listing;
        self.problem = None;
        self.find_cursor();
    }

    /// The groups that are shown, in their order.
    #[must_use]
    pub fn rows(&self) -> Vec<&Group> {
        let wanted = self.filter.to_lowercase();
        let is_shown = |group: &&Group| {
            let texts = [&group.target, &group.stream, &group.group];
            wanted.is_empty()
                || status(group).contains(&wanted)
                || texts.iter().any(|text| text.to_lowercase().contains(&wanted))
        };
        let mut rows: Vec<_> = self.listing.groups.iter().filter(is_shown).collect();
        rows.sort_by(|one, other| self.sort.compare(one, other));
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Position of the cursor in the rows.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The group that is looked at, in detail; `None` while all are.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        (self.mode == Mode::Detail).then_some(&self.selected)
    }

    /// The group that is looked at, as it was read last; `None` if it is gone.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        self.listing.groups.iter().find(|group| self.selected.is_of(group))
    }

    /// What is looked at, by its names.
    #[must_use]
    pub fn selected(&self) -> &Subject {
        &self.selected
    }

    /// Takes the pending entries of a group, unless another is looked at by now.
    pub fn take_entries(&mut self, of: &Subject, entries: Entries) {
        if self.subject() == Some(of) {
            self.entries = entries;
        }
    }

    /// Takes a key, or a change of size.
    pub fn take(&mut self, event: &Event) -> Request {
        let Event::Key(key) = event else { return Request::Nothing };
        if key.kind == KeyEventKind::Release {
            return Request::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Request::Quit } else { Request::Nothing };
        }
        match self.mode {
            Mode::Filter => self.type_filter(*key),
            Mode::List if key.code == KeyCode::Char('q') => return Request::Quit,
            Mode::Detail if key.code == KeyCode::Char('q') => return Request::Quit,
            Mode::List => self.press_in_list(*key),
            Mode::Detail => self.press_in_detail(*key),
        }
        Request::Nothing
    }

    fn type_filter(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Enter => self.mode = Mode::List,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::List;
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
            KeyCode::Char('s') => self.reorder(self.sort.next(), self.is_reversed),
            KeyCode::Char('r') => self.reorder(self.sort, !self.is_reversed),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => {
                self.filter.clear();
                self.find_cursor();
            }
            KeyCode::Enter if self.rows().get(self.cursor).is_some() => {
                self.mode = Mode::Detail;
                self.scroll = 0;
                self.entries = self.entries_at_first.clone();
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
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => self.mode = Mode::List,
            _ => {}
        }
    }

    fn move_to(&mut self, row: usize) {
        let subject = self.rows().get(row).map(|group| Subject::of(group));
        if let Some(subject) = subject {
            (self.cursor, self.selected) = (row, subject);
        }
    }

    /// The cursor goes to the top: whoever sorts wants to see what comes first.
    fn reorder(&mut self, sort: Sort, is_reversed: bool) {
        (self.sort, self.is_reversed) = (sort, is_reversed);
        self.move_to(0);
    }

    /// Puts the cursor on the group that was selected, or near where that was.
    fn find_cursor(&mut self) {
        let rows = self.rows();
        let found = rows.iter().position(|group| self.selected.is_of(group));
        let last = rows.len().saturating_sub(1);
        let row = found.unwrap_or_else(|| self.cursor.min(last));
        self.cursor = row;
        // What is looked at in detail stays so when it is gone, and says so.
        if self.mode != Mode::Detail {
            self.move_to(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_lag::report::Status;

    fn group(name: &str, lag: u64, pending: u64) -> Group {
        Group {
            target: "t".to_owned(),
            stream: "orders".to_owned(),
            group: name.to_owned(),
            up: true,
            status: Some(if lag > 5 { Status::Stalled } else { Status::Ok }),
            lag: Some(lag),
            lag_min: Some(lag),
            lag_max: Some(lag),
            messages_pending: Some(pending),
            ..Group::default()
        }
    }

    fn view() -> View {
        let groups = vec![group("mail", 9, 1), group("audit", 7, 0), group("stock", 0, 30)];
        let mut view = View::new("here".to_owned());
        view.update(Listing { matched: 3, groups, targets: Vec::new() });
        view
    }

    fn press(view: &mut View, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                'v' => KeyCode::Down,
                '^' => KeyCode::Up,
                other => KeyCode::Char(other),
            };
            assert_eq!(view.take(&Event::Key(code.into())), Request::Nothing);
        }
    }

    fn names(view: &View) -> Vec<&str> {
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
        assert_eq!(view.mode, Mode::List, "there is nothing to look at");
    }

    #[test]
    fn one_group_is_looked_at_and_left() {
        let mut view = view();
        press(&mut view, "v\n");
        let audit = view.subject().unwrap().clone();
        assert_eq!(audit.group, "audit");
        view.take_entries(&Subject::default(), Entries::Failed("another".to_owned()));
        assert_eq!(view.entries, Entries::Loading);
        view.take_entries(&audit, Entries::Listed(Vec::new()));
        assert_eq!(view.entries, Entries::Listed(Vec::new()));
        view.update(Listing { matched: 1, groups: vec![group("mail", 9, 1)], targets: Vec::new() });
        assert_eq!((view.subject(), view.group()), (Some(&audit), None));
        press(&mut view, "\x1b");
        assert_eq!((view.mode, view.subject()), (Mode::List, None));
    }

    #[test]
    fn entries_that_never_come_are_not_waited_for() {
        let mut view = View::without_entries("there".to_owned());
        view.update(Listing { matched: 1, groups: vec![group("mail", 9, 1)], targets: Vec::new() });
        press(&mut view, "\n");
        assert_eq!((view.mode, &view.entries), (Mode::Detail, &Entries::Untold));
    }

    #[test]
    fn q_ends_it_but_not_in_a_filter_and_control_c_always() {
        let mut view = view();
        let q = Event::Key(KeyCode::Char('q').into());
        press(&mut view, "/q");
        assert_eq!(view.filter, "q");
        let control_c = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!(view.take(&control_c), Request::Quit);
        press(&mut view, "\x1b");
        assert_eq!(view.take(&q), Request::Quit);
        press(&mut view, "\n");
        assert_eq!(view.take(&q), Request::Quit);
    }
}
