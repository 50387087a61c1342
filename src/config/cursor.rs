//! A cursor over the YAML tree that knows its key path and gathers faults in place of stopping at one. It
//! knows types of YAML, not what any key means; the leaves' own types are in `scalar`.
//!
//! A value may also come from a flag: a [`Flag`] lies over the key path it stands for, wins over what the file
//! has there, and its faults name the flag. Keys that are absent or null (`streams:` with nothing behind it)
//! are the same.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;

use serde_yaml::{Mapping, Value};

use crate::config::env::{Environment, substitute};
use crate::config::error::Fault;

/// A value given on the command line or in the environment in place of a key of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name in messages: `--redis-url`, or `REDIS_URL` if the value came from there.
    pub name: String,
    /// The value as text.
    pub text: String,
}

/// What all cursors of one configuration share.
pub(super) struct Tree<'t> {
    /// How faults name the file. Empty where there is none.
    pub(super) file: &'t str,
    /// What flags say, each over the key path that it stands for.
    pub(super) flags: Vec<(String, &'t Flag)>,
    /// Where `${NAME}` is looked up.
    pub(super) environment: &'t Environment<'t>,
    /// What was found wrong so far.
    pub(super) faults: RefCell<Vec<Fault>>,
    /// Every key path that was asked for, with `[]` for any item of a list.
    pub(super) asked: RefCell<BTreeSet<String>>,
}

/// A place in the tree.
pub(super) struct Cursor<'t> {
    tree: &'t Tree<'t>,
    path: String,
    source: Source<'t>,
}

#[derive(Clone, Copy)]
enum Source<'t> {
    Absent,
    File(&'t Value),
    Flag(&'t Flag),
}

/// A map that is being read: remembers which keys were asked for, since all others are unknown.
pub(super) struct Section<'t> {
    tree: &'t Tree<'t>,
    path: String,
    entries: Option<&'t Mapping>,
    known: RefCell<Vec<&'static str>>,
}

/// A scalar.
pub(super) struct Text {
    /// As it stands in the file. To be quoted in messages, unlike the value, which may be a secret.
    pub(super) written: String,
    /// With environment variables put in.
    pub(super) value: String,
}

impl<'t> Tree<'t> {
    pub(super) fn new(
        file: &'t str,
        flags: Vec<(String, &'t Flag)>,
        environment: &'t Environment<'t>,
    ) -> Self {
        Self { file, flags, environment, faults: RefCell::default(), asked: RefCell::default() }
    }

    pub(super) fn root(&'t self, value: &'t Value) -> Cursor<'t> {
        Cursor { tree: self, path: String::new(), source: Source::File(value) }
    }

    fn flag(&self, path: &str) -> Option<&'t Flag> {
        self.flags.iter().find(|(over, _)| over == path).map(|(_, flag)| *flag)
    }
}

impl<'t> Cursor<'t> {
    /// Whether the key is there at all.
    pub(super) fn is_given(&self) -> bool {
        !matches!(self.source, Source::Absent)
    }

    /// What flags say of keys of this map.
    pub(super) fn flags_below(&self) -> impl Iterator<Item = Self> {
        let (tree, start) = (self.tree, format!("{}.", self.path));
        let below = tree.flags.iter().filter(move |(path, _)| path.starts_with(&start));
        below.map(move |(path, flag)| Cursor { tree, path: path.clone(), source: Source::Flag(flag) })
    }

    /// Whether this is a list of nothing.
    pub(super) fn is_an_empty_list(&self) -> bool {
        matches!(self.source, Source::File(Value::Sequence(items)) if items.is_empty())
    }

    /// Whether this is text without a character.
    pub(super) fn is_empty_text(&self) -> bool {
        matches!(self.source, Source::File(Value::String(text)) if text.is_empty())
    }

    /// The key path, or the flag: how messages about another key name this one.
    pub(super) fn label(&self) -> &str {
        match self.source {
            Source::Flag(flag) => &flag.name,
            Source::Absent | Source::File(_) => &self.path,
        }
    }

    /// Records that something is wrong here.
    pub(super) fn fault(&self, message: impl Display) {
        let subject = match (self.source, self.path.as_str()) {
            (Source::Flag(flag), _) => flag.name.clone(),
            (_, "") => self.tree.file.to_owned(),
            (_, path) if self.tree.file.is_empty() => path.to_owned(),
            (_, path) => format!("{}: {path}", self.tree.file),
        };
        self.tree.faults.borrow_mut().push(Fault { subject, message: message.to_string() });
    }

    /// Records that what is here is not of the kind it should be.
    pub(super) fn found_another_kind(&self, expected: &str) {
        if let Source::File(value) = self.source {
            self.fault(format_args!("found {}; expected {expected}", kind(value)));
        }
    }

    /// Reads a map, then refuses the keys that `read` did not ask for. Where the map is absent, every key of it
    /// is. Where something else is in its place, that is the one fault: `read` runs only to tell its keys.
    pub(super) fn section<T>(&self, read: impl FnOnce(&Section<'t>) -> T) -> T {
        let entries = match self.source {
            Source::File(Value::Mapping(entries)) => Some(entries),
            _ => None,
        };
        let section =
            Section { tree: self.tree, path: self.path.clone(), entries, known: RefCell::default() };
        let faults_before = self.tree.faults.borrow().len();
        let result = read(&section);
        if entries.is_none() && self.is_given() {
            self.tree.faults.borrow_mut().truncate(faults_before);
            self.found_another_kind(&format!("a map of {}", listing(&section.known.borrow())));
        }
        section.refuse_unknown_keys();
        result
    }

    /// The items of a list. `None` where it is absent or no list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let Source::File(Value::Sequence(items)) = self.source else {
            self.found_another_kind("a list");
            return None;
        };
        let item = |(at, value)| Cursor {
            tree: self.tree,
            path: format!("{}[{at}]", self.path),
            source: Source::File(value),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The keys of a map whose keys are not ours, each with its value. Empty where it is absent or no map.
    pub(super) fn entries(&self) -> Vec<(String, Self)> {
        let Source::File(Value::Mapping(entries)) = self.source else {
            self.found_another_kind("a map");
            return Vec::new();
        };
        let entry = |(key, value)| {
            let name = key_text(key);
            let path = join(&self.path, &name);
            (name, Cursor { tree: self.tree, path, source: Source::File(value) })
        };
        entries.iter().map(entry).collect()
    }

    /// Text. Numbers and booleans are refused, since YAML has changed them (`007`, `1e3`) before we see them.
    pub(super) fn text(&self) -> Option<Text> {
        match self.source {
            Source::File(Value::Number(_) | Value::Bool(_)) => {
                self.found_another_kind("text (put it in quotes)");
                None
            }
            _ => self.scalar("text"),
        }
    }

    /// Any scalar, as text: a number in quotes or from an environment variable is as good as a number.
    pub(super) fn scalar(&self, expected: &str) -> Option<Text> {
        let written = match self.source {
            Source::File(Value::String(text)) => text.clone(),
            Source::File(Value::Number(number)) => number.to_string(),
            Source::File(Value::Bool(boolean)) => boolean.to_string(),
            // The shell has put in what there was to put in.
            Source::Flag(flag) => return Some(Text { written: flag.text.clone(), value: flag.text.clone() }),
            Source::File(_) | Source::Absent => {
                self.found_another_kind(expected);
                return None;
            }
        };
        match substitute(&written, self.tree.environment) {
            Ok(value) => Some(Text { written, value }),
            Err(message) => {
                self.fault(message);
                None
            }
        }
    }
}

impl<'t> Section<'t> {
    /// What stands under a key.
    pub(super) fn key(&self, name: &'static str) -> Cursor<'t> {
        self.known.borrow_mut().push(name);
        let path = join(&self.path, name);
        self.tree.asked.borrow_mut().insert(without_indices(&path));
        let source = match (self.tree.flag(&path), self.entries.and_then(|entries| entries.get(name))) {
            (Some(flag), _) => Source::Flag(flag),
            (None, None | Some(Value::Null)) => Source::Absent,
            (None, Some(value)) => Source::File(value),
        };
        Cursor { tree: self.tree, path, source }
    }

    fn refuse_unknown_keys(&self) {
        let known = self.known.borrow();
        for (key, value) in self.entries.into_iter().flatten() {
            let name = key_text(key);
            if key.is_string() && known.contains(&name.as_str()) {
                continue;
            }
            let place =
                Cursor { tree: self.tree, path: join(&self.path, &name), source: Source::File(value) };
            match closest(&name, &known) {
                Some(close) => place.fault(format_args!("unknown key; did you mean {close}?")),
                None => place.fault(format_args!("unknown key; expected {}", listing(&known))),
            }
        }
    }
}

/// The known key that `name` is likely a slip of.
pub(super) fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |key: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), &key.to_lowercase());
    let close = known.iter().copied().min_by_key(distance)?;
    (distance(&close) <= close.len().div_ceil(4)).then_some(close)
}

/// `a, b or c`.
pub(super) fn listing(names: &[&str]) -> String {
    match names {
        [most @ .., last] if !most.is_empty() => format!("{} or {last}", most.join(", ")),
        _ => names.concat(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a map",
        Value::Tagged(_) => "a value with a tag",
    }
}

fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(boolean) => boolean.to_string(),
        other => format!("({})", kind(other)),
    }
}

fn join(path: &str, name: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "_-.()/ ".contains(char);
    let quoted =
        if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { quoted } else { format!("{path}.{quoted}") }
}

/// `targets[].name` for `targets[3].name`.
pub(super) fn without_indices(path: &str) -> String {
    let digit = |char: char| char.is_ascii_digit();
    let parts = path.split('[').map(|part| part.trim_start_matches(digit));
    parts.collect::<Vec<_>>().join("[")
}
