//! Loads a configuration from text: all of it is valid, or all faults are returned.

use std::io::ErrorKind;
use std::path::Path;

use serde_yaml::Value;

use crate::config::cursor::{Flag, KeyFault, Tree};
use crate::config::env::Environment;
use crate::config::error::ConfigError;
use crate::config::lines::LineFinder;
use crate::config::{Config, root};
use redis_stream_core::file::{FileKind, read_text};
use redis_stream_core::secret::redact;

/// The parser nests at most 128, but reads all of the file before it refuses more.
const MAX_OPEN_BRACKETS: usize = 1000;

/// Reads a file. Relative paths in it are relative to its folder.
///
/// # Errors
///
/// The file cannot be read, or all its faults.
pub fn from_file(path: &Path, environment: &Environment<'_>) -> Result<Config, ConfigError> {
    file(path, Vec::new(), environment)
}

/// Reads text as if it were the file `name` in `folder`, without the lines of faults.
///
/// # Errors
///
/// All faults.
pub fn from_text(
    name: &str,
    text: &str,
    folder: &Path,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    self::text(without_mark(text), &Tree::new(name, folder, Vec::new(), environment), None)
}

/// Reads a file with flags over its keys.
pub(super) fn file(
    path: &Path,
    flags: Vec<(String, &Flag)>,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    let name = redact(&path.to_string_lossy()).into_owned();
    let content = read_text(path, FileKind::Configuration).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => ConfigError::one(&name, error.to_string()),
        _ => ConfigError::one(&name, format!("cannot read the file: {error}")),
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let content = without_mark(&content);
    text(content, &Tree::new(&name, folder, flags, environment), Some(&LineFinder::new(content)))
}

fn text(text: &str, tree: &Tree<'_>, lines: Option<&LineFinder<'_>>) -> Result<Config, ConfigError> {
    if has_many_open_brackets(text) {
        let message = format!("not valid YAML: more than {MAX_OPEN_BRACKETS} brackets are open; close them");
        return Err(ConfigError::one(tree.file, message));
    }
    let value = serde_yaml::from_str(text).and_then(|mut value: Value| {
        value.apply_merge()?;
        Ok(value)
    });
    let value = value.map_err(|error| ConfigError::one(tree.file, syntax_message(&error, text)))?;
    if value == Value::Null {
        return Err(ConfigError::one(
            tree.file,
            "the file is empty; expected targets, at least one with a url",
        ));
    }
    read_with_lines(&value, tree, lines)
}

pub(super) fn read(value: &Value, tree: &Tree<'_>) -> Result<Config, ConfigError> {
    read_with_lines(value, tree, None)
}

fn read_with_lines(
    value: &Value,
    tree: &Tree<'_>,
    lines: Option<&LineFinder<'_>>,
) -> Result<Config, ConfigError> {
    let config = root::config(&tree.root(value));
    let with_line = |KeyFault { mut fault, path }: KeyFault| {
        let line = lines.and_then(|lines| lines.line(&path));
        if let (Some(line), Some(rest)) = (line, fault.subject.strip_prefix(tree.file)) {
            fault.subject = format!("{}:{line}{rest}", tree.file);
        }
        fault
    };
    let faults: Vec<_> = tree.faults.take().into_iter().map(with_line).collect();
    if faults.is_empty() { Ok(config) } else { Err(ConfigError { faults }) }
}

/// Returns text without a byte order mark, which the parser counts as a column: that breaks block maps.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Returns true if lists and maps in brackets are nested so deeply that the parser would take minutes to refuse them.
/// Brackets in text count, too, unless they are closed or escaped as in a glob.
fn has_many_open_brackets(text: &str) -> bool {
    let (mut open, mut before) = (0_usize, 0);
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' if before != b'\\' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        before = byte;
        open > MAX_OPEN_BRACKETS
    })
}

/// Returns the lines of a key of the whole file that is there twice, which the parser does not know.
fn duplicate_lines(message: &str, text: &str) -> Option<String> {
    let key = message.strip_prefix("duplicate entry with key \"")?.strip_suffix('"')?;
    let is_key = |line: &str| {
        let line = line.strip_prefix(['"', '\'']).unwrap_or(line);
        let after = line.strip_prefix(key).map(|after| after.strip_prefix(['"', '\'']).unwrap_or(after));
        after.is_some_and(|after| after.trim_start().starts_with(':'))
    };
    let lines: Vec<_> = (1..).zip(text.lines()).filter(|(_, line)| is_key(line)).collect();
    let numbers: Vec<_> = lines.iter().map(|(number, _): &(usize, _)| number.to_string()).collect();
    (numbers.len() > 1).then(|| numbers.join(" and "))
}

/// Returns true if the value of a key in a line, from 1, begins with a variable, which begins a map for the parser.
fn has_bare_variable(text: &str, line: usize) -> bool {
    let line = line.checked_sub(1).and_then(|line| text.lines().nth(line));
    line.is_some_and(|line| line.contains(": ${"))
}

/// Returns the message of the parser with line and column, unless it quotes a value that does not fit its `!!tag`,
/// which may be a password.
fn syntax_message(error: &serde_yaml::Error, text: &str) -> String {
    let message = error.to_string();
    if let Some(lines) = duplicate_lines(&message, text) {
        return format!("not valid YAML: {message} at lines {lines}");
    }
    let quotes_a_value = ["invalid type", "invalid value"].iter().any(|start| message.contains(start));
    match (quotes_a_value, error.location()) {
        (false, Some(location))
            if message.contains("parsing a flow mapping") && has_bare_variable(text, location.line()) =>
        {
            format!("not valid YAML: {message}; write \"${{NAME}}\" in quotes within braces")
        }
        (false, _) => format!("not valid YAML: {message}"),
        (true, None) => "not valid YAML: a value does not fit its tag".to_owned(),
        (true, Some(location)) => {
            let (line, column) = (location.line(), location.column());
            format!("not valid YAML: a value does not fit its tag at line {line} column {column}")
        }
    }
}
