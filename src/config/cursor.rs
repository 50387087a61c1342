//! A cursor over the YAML tree that knows its key path and collects faults instead of stopping at the first. It knows
//! the types of YAML, not the meaning of keys; `scalar` reads the types of values.
//!
//! A [`Flag`] overrides the key path that it stands for, and faults of its value name the flag. Absent keys and null
//! (`streams:` without a value) are the same.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use crate::config::env::{Environment, substitute};
use crate::config::error::Fault;

/// A value given on the command line or in the environment instead of a key of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name in messages: `--redis-url`, or `REDIS_URL` if it comes from there.
    pub name: String,
    /// The value.
    pub text: String,
}

/// State shared by the cursors of a configuration.
pub(super) struct Tree<'t> {
    /// The file in messages; empty without a file.
    pub(super) file: &'t str,
    /// The folder that relative paths are relative to.
    pub(super) folder: &'t Path,
    /// Flags by the key path that they override.
    pub(super) flags: Vec<(String, &'t Flag)>,
    pub(super) environment: &'t Environment<'t>,
    pub(super) faults: RefCell<Vec<KeyFault>>,
    /// All key paths that were read, with `[]` for any item of a list.
    pub(super) asked: RefCell<BTreeSet<String>>,
}

/// A fault with the path of its key in the file; empty for the whole file, and for a flag.
pub(super) struct KeyFault {
    pub(super) fault: Fault,
    pub(super) path: String,
}

/// A position in the tree.
pub(super) struct Cursor<'t> {
    tree: &'t Tree<'t>,
    path: String,
    source: CursorValue<'t>,
}

#[derive(Clone, Copy)]
enum CursorValue<'t> {
    Absent,
    File(&'t Value),
    Flag(&'t Flag),
}

/// A map being read. It records the keys that were read, since all others are unknown.
pub(super) struct Section<'t> {
    tree: &'t Tree<'t>,
    path: String,
    entries: Option<&'t Mapping>,
    known: RefCell<Vec<&'static str>>,
}

pub(super) struct Text {
    /// The text of the file. May be quoted in messages, unlike the value, which may be a secret.
    pub(super) written: String,
    /// The text with environment variables substituted.
    pub(super) value: String,
}

impl<'t> Tree<'t> {
    pub(super) fn new(
        file: &'t str,
        folder: &'t Path,
        flags: Vec<(String, &'t Flag)>,
        environment: &'t Environment<'t>,
    ) -> Self {
        Self { file, folder, flags, environment, faults: RefCell::default(), asked: RefCell::default() }
    }

    pub(super) fn root(&'t self, value: &'t Value) -> Cursor<'t> {
        Cursor { tree: self, path: String::new(), source: CursorValue::File(value) }
    }

    fn flag(&self, path: &str) -> Option<&'t Flag> {
        self.flags.iter().find(|(over, _)| over == path).map(|(_, flag)| *flag)
    }
}

impl<'t> Cursor<'t> {
    pub(super) fn is_given(&self) -> bool {
        !matches!(self.source, CursorValue::Absent)
    }

    /// Returns an environment variable, for a default that depends on it.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.tree.environment)(name)
    }

    /// Returns the flags over keys of this map.
    pub(super) fn flags_below(&self) -> impl Iterator<Item = Self> {
        let (tree, start) = (self.tree, format!("{}.", self.path));
        let below = tree.flags.iter().filter(move |(path, _)| path.starts_with(&start));
        below.map(move |(path, flag)| Cursor { tree, path: path.clone(), source: CursorValue::Flag(flag) })
    }

    fn is_an_empty_list(&self) -> bool {
        matches!(self.source, CursorValue::File(Value::Sequence(items)) if items.is_empty())
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.source, CursorValue::File(Value::String(_)))
    }

    pub(super) fn is_empty_text(&self) -> bool {
        matches!(self.source, CursorValue::File(Value::String(text)) if text.is_empty())
    }

    /// Returns the key path or flag, for messages about another key.
    pub(super) fn label(&self) -> &str {
        match self.source {
            CursorValue::Flag(flag) => &flag.name,
            CursorValue::Absent | CursorValue::File(_) => &self.path,
        }
    }

    /// Records a fault.
    pub(super) fn fault(&self, message: impl Display) {
        self.fault_at(&self.path, message);
    }

    /// Records a fault at a key that the message does not name.
    fn fault_at(&self, path: &str, message: impl Display) {
        let is_in_file = matches!(self.source, CursorValue::Absent | CursorValue::File(_));
        let path = if is_in_file { path.to_owned() } else { String::new() };
        let subject = match (self.source, self.path.as_str()) {
            (CursorValue::Flag(flag), _) => flag.name.clone(),
            (_, "") => self.tree.file.to_owned(),
            (_, path) if self.tree.file.is_empty() => path.to_owned(),
            (_, path) => format!("{}: {path}", self.tree.file),
        };
        let fault = Fault { subject, message: message.to_string() };
        self.tree.faults.borrow_mut().push(KeyFault { fault, path });
    }

    /// Records the fault that the value is of another kind.
    pub(super) fn found_another_kind(&self, expected: &str) {
        if let CursorValue::File(value) = self.source {
            self.fault(format_args!("found {}; expected {expected}", kind(value)));
        }
    }

    /// Reads a map, then refuses the keys that `read` did not read. Of another value that is the only fault: `read`
    /// runs only to learn the known keys.
    pub(super) fn section<T>(&self, read: impl FnOnce(&Section<'t>) -> T) -> T {
        let entries = match self.source {
            CursorValue::File(Value::Mapping(entries)) => Some(entries),
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

    /// Reads a map like [`section`](Self::section), unless it is absent: so no key of it is missing.
    pub(super) fn given_section<T>(&self, read: impl FnOnce(&Section<'t>) -> Option<T>) -> Option<T> {
        if self.is_given() { self.section(read) } else { None }
    }

    /// Returns a path as it is in this configuration, which may be relative to its folder.
    pub(super) fn in_folder(&self, path: &str) -> PathBuf {
        self.tree.folder.join(path)
    }

    /// Returns the items of a list; `None` if it is absent or no list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let CursorValue::File(Value::Sequence(items)) = self.source else {
            self.found_another_kind("a list");
            return None;
        };
        let item = |(at, value)| Cursor {
            tree: self.tree,
            path: format!("{}[{at}]", self.path),
            source: CursorValue::File(value),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Returns the entries of a map with the user's keys; none if it is absent or no map.
    pub(super) fn entries(&self) -> Vec<(String, Self)> {
        let CursorValue::File(Value::Mapping(entries)) = self.source else {
            self.found_another_kind("a map");
            return Vec::new();
        };
        let entry = |(key, value)| {
            let name = key_text(key);
            let path = join(&self.path, &name);
            (name, Cursor { tree: self.tree, path, source: CursorValue::File(value) })
        };
        entries.iter().map(entry).collect()
    }

    /// Reads text. Numbers and booleans are refused, since YAML has already changed them (`007`, `1e3`).
    pub(super) fn text(&self) -> Option<Text> {
        match self.source {
            CursorValue::File(Value::Number(_) | Value::Bool(_)) => {
                self.found_another_kind("text (put it in quotes)");
                None
            }
            _ => self.scalar("text"),
        }
    }

    /// Reads text, and reports an empty one.
    pub(super) fn filled_text(&self, expected: &str) -> Option<String> {
        let text = self.text()?.value;
        if text.is_empty() {
            self.fault(format_args!("empty; expected {expected}"));
        }
        Some(text)
    }

    pub(super) fn require(&self, expected: impl Display) {
        if !self.is_given() {
            self.fault(format_args!("missing; expected {expected}"));
        }
    }

    pub(super) fn require_items(&self, expected: &str) {
        if self.is_an_empty_list() {
            self.fault(format_args!("an empty list; expected {expected}"));
        }
    }

    /// Reports that this key is given beside another one.
    pub(super) fn refuse_beside(&self, other: &Self) {
        if self.is_given() && other.is_given() {
            self.fault(format_args!("{} is there too; expected one of them", other.label()));
        }
    }

    /// Reads any scalar as text: a number in quotes or from a variable is a number.
    pub(super) fn scalar(&self, expected: &str) -> Option<Text> {
        let written = match self.source {
            CursorValue::File(Value::String(text)) => text.clone(),
            CursorValue::File(Value::Number(number)) => number.to_string(),
            CursorValue::File(Value::Bool(boolean)) => boolean.to_string(),
            // The shell has already substituted variables.
            CursorValue::Flag(flag) => {
                return Some(Text { written: flag.text.clone(), value: flag.text.clone() });
            }
            CursorValue::File(_) | CursorValue::Absent => {
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
    /// Returns the value of a key.
    pub(super) fn key(&self, name: &'static str) -> Cursor<'t> {
        self.known.borrow_mut().push(name);
        let path = join(&self.path, name);
        self.tree.asked.borrow_mut().insert(without_indices(&path));
        let source = match (self.tree.flag(&path), self.entries.and_then(|entries| entries.get(name))) {
            (Some(flag), _) => CursorValue::Flag(flag),
            (None, None | Some(Value::Null)) => CursorValue::Absent,
            (None, Some(value)) => CursorValue::File(value),
        };
        Cursor { tree: self.tree, path, source }
    }

    fn refuse_unknown_keys(&self) {
        let known = self.known.borrow();
        for (number, (key, value)) in self.entries.into_iter().flatten().enumerate() {
            let name = key_text(key);
            let is_extension = self.path.is_empty() && name.starts_with("x-");
            if key.is_string() && (known.contains(&name.as_str()) || is_extension) {
                continue;
            }
            let cursor = |path| Cursor { tree: self.tree, path, source: CursorValue::File(value) };
            match closest(&name, &known) {
                Some(close) => {
                    let message = format_args!("unknown key; did you mean {close}?");
                    cursor(join(&self.path, &name)).fault(message);
                }
                // It may be a password that slipped into the wrong position, so it is not quoted.
                None => {
                    let (number, expected) = (number + 1, listing(&known));
                    let message =
                        format_args!("unknown key, number {number} in the map; expected {expected}");
                    cursor(self.path.clone()).fault_at(&join(&self.path, &name), message);
                }
            }
        }
    }
}

/// Returns the known key that `name` is most likely a typo of.
pub(crate) fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |key: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), &key.to_lowercase());
    let close = known.iter().copied().min_by_key(distance)?;
    (distance(&close) <= close.len().div_ceil(4)).then_some(close)
}

/// Formats a list as `a, b or c`.
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

pub(super) fn join(path: &str, name: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "_-.()/ ".contains(char);
    let quoted =
        if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { quoted } else { format!("{path}.{quoted}") }
}

/// Replaces `targets[3].name` by `targets[].name`.
pub(super) fn without_indices(path: &str) -> String {
    let digit = |char: char| char.is_ascii_digit();
    let parts = path.split('[').map(|part| part.trim_start_matches(digit));
    parts.collect::<Vec<_>>().join("[")
}
