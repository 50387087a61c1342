//! Holds the import rules of the crate documentation: reads src/ and finds what a room may not name.
//!
//! A scan of the text without comments and literals, not a compiler: it sees `crate::room`, `super::room`,
//! `krate::item` and `use krate`. Test modules at the end of a file are free, and so are files that
//! are tests as a whole (`#![cfg(test)]`).

use std::fs;
use std::path::Path;

/// No file is longer before its tests.
const MAX_LINES: usize = 400;

/// What a room of src/ may name.
struct Room {
    name: &'static str,
    /// Rooms, besides itself.
    rooms: Rooms,
    /// Crates of Cargo.toml; std is free.
    crates: Crates,
}

enum Rooms {
    All,
    Only(&'static [&'static str]),
}

enum Crates {
    /// For pure rooms: a crate that is new in Cargo.toml is forbidden until it is listed.
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

const HYPER: [&str; 3] = ["hyper", "hyper_util", "http_body_util"];

/// The table, in the order of the crate documentation. A room that does not exist yet is no fault.
const ROOMS: &[Room] = &[
    room("main", Rooms::All, Crates::AllBut(&["redis"])),
    room("lib", Rooms::All, Crates::AllBut(&["redis"])),
    room("cli", Rooms::Only(&["secret"]), Crates::Only(&["clap", "clap_complete", "humantime"])),
    room("commands", Rooms::All, Crates::AllBut(&["redis"])),
    room("target", Rooms::All, Crates::AllBut(&["redis"])),
    room(
        "config",
        Rooms::Only(&["glob", "alert", "secret", "server_url", "tls"]),
        Crates::AllBut(&["redis", "tokio", "prometheus", "socket2", "clap"]),
    ),
    room("secret", Rooms::Only(&[]), Crates::Only(&[])),
    room("server_url", Rooms::Only(&["secret"]), Crates::Only(&["percent_encoding", "thiserror", "url"])),
    room(
        "tls",
        Rooms::Only(&["secret"]),
        Crates::Only(&["ring", "rustls", "rustls_native_certs", "thiserror", "tokio", "tokio_rustls"]),
    ),
    room(
        "dial",
        Rooms::Only(&["clock", "server_url", "tls"]),
        Crates::Only(&["socket2", "thiserror", "tokio", "tokio_rustls"]),
    ),
    room("glob", Rooms::Only(&[]), Crates::Only(&[])),
    room("clock", Rooms::Only(&[]), Crates::Only(&["tokio"])),
    room("snapshot", Rooms::Only(&[]), Crates::Only(&[])),
    room("lag", Rooms::Only(&["snapshot"]), Crates::Only(&[])),
    room(
        "alert",
        Rooms::Only(&["glob", "lag", "snapshot"]),
        Crates::Only(&["humantime", "percent_encoding"]),
    ),
    room(
        "exposition",
        Rooms::Only(&["lag", "alert", "snapshot"]),
        Crates::Only(&["bytes", "itoa", "flate2", "crc32fast"]),
    ),
    room(
        "page",
        Rooms::Only(&["lag", "alert", "snapshot", "glob"]),
        Crates::AllBut(&["redis", "tokio", "prometheus"]),
    ),
    room(
        "state_file",
        Rooms::Only(&["alert"]),
        Crates::Only(&["humantime", "serde", "serde_json", "tempfile", "thiserror"]),
    ),
    room("self_metrics", Rooms::Only(&[]), Crates::Only(&["prometheus"])),
    room(
        "poller",
        Rooms::Only(&["snapshot", "glob", "self_metrics", "server_url", "config", "clock", "dial", "tls"]),
        Crates::AllBut(&["prometheus", "serde_yaml", "clap"]),
    ),
    room(
        "notify",
        Rooms::Only(&[
            "alert",
            "clock",
            "config",
            "dial",
            "http_client",
            "secret",
            "self_metrics",
            "server_url",
            "shutdown",
            "tls",
        ]),
        Crates::AllBut(&["redis", "prometheus", "serde_yaml", "clap"]),
    ),
    room(
        "http",
        Rooms::Only(&["clock", "config", "secret", "self_metrics", "shutdown", "tls"]),
        Crates::AllBut(&["redis", "prometheus", "serde_yaml", "clap"]),
    ),
    room(
        "workload",
        Rooms::Only(&["shutdown", "clock", "secret", "server_url", "dial", "tls"]),
        Crates::AllBut(&["serde_yaml", "clap"]),
    ),
    room(
        "http_client",
        Rooms::Only(&["clock", "config", "dial", "secret", "server_url", "tls"]),
        Crates::AllBut(&["redis", "prometheus", "serde_yaml", "clap"]),
    ),
    room(
        "terminal",
        Rooms::Only(&["page", "lag"]),
        Crates::Only(&["anstyle", "ratatui", "serde", "tokio", "unicode_width"]),
    ),
    room("shutdown", Rooms::Only(&[]), Crates::AllBut(&["redis", "prometheus", "serde_yaml", "clap"])),
    room("logging", Rooms::Only(&["cli"]), Crates::AllBut(&["redis", "tokio", "prometheus", "serde_yaml"])),
];

/// The rooms that speak HTTP, or put those together that do.
const HTTP_ROOMS: [&str; 7] = ["main", "lib", "commands", "target", "http", "http_client", "notify"];

const fn room(name: &'static str, rooms: Rooms, crates: Crates) -> Room {
    Room { name, rooms, crates }
}

impl Room {
    fn may_use_room(&self, name: &str) -> bool {
        let listed = match self.rooms {
            Rooms::All => true,
            Rooms::Only(rooms) => rooms.contains(&name),
        };
        listed || name == self.name
    }

    fn may_use_crate(&self, name: &str) -> bool {
        if HYPER.contains(&name) {
            return HTTP_ROOMS.contains(&self.name);
        }
        match self.crates {
            Crates::Only(crates) => crates.contains(&name),
            Crates::AllBut(crates) => !crates.contains(&name),
        }
    }
}

#[test]
fn no_room_names_what_it_may_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read_sources(&root.join("src"), "", &mut files);
    assert!(files.iter().any(|(path, _)| path == "lib.rs"), "the sources were found");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml is there");
    let crates = dependencies(&manifest);
    assert!(crates.iter().any(|name| name == "hyper_util"), "the dependencies were found: {crates:?}");
    let faults: Vec<String> = files.iter().flat_map(|(path, text)| faults(path, text, &crates)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_kind_of_fault_is_found() {
    let long = format!("//! Doc.\n{}", "\n".repeat(MAX_LINES));
    let cases = [
        ("snapshot/mod.rs", "//! Doc.\nuse redis::Value;\n", "line 2: snapshot may not name the crate redis"),
        (
            "target.rs",
            "//! Doc.\nfn f(v: ::redis::Value) {}\n",
            "line 2: target may not name the crate redis",
        ),
        (
            "commands/serve.rs",
            "//! Doc.\nuse {std::fmt, redis as r};\n",
            "line 2: commands may not name the crate redis",
        ),
        (
            "lag/age.rs",
            "//! Doc.\nfn f() { tokio::spawn(g()); }\n",
            "line 2: lag may not name the crate tokio",
        ),
        (
            "poller/read.rs",
            "//! Doc.\nuse hyper_util::rt;\n",
            "line 2: poller may not name the crate hyper_util",
        ),
        (
            "poller/read.rs",
            "//! Doc.\nuse redis_stream_lag::Report;\n",
            "line 2: poller may not use the room lag",
        ),
        (
            "poller/read.rs",
            "//! Doc.\nuse crate::{\n    glob::Glob,\n    snapshot::{A, lag},\n    exposition::x,\n};\n",
            "line 2: poller may not use the room exposition",
        ),
        (
            "lag/age.rs",
            "//! Doc.\nuse super::super::poller::read;\n",
            "line 2: lag may not use the room poller",
        ),
        ("glob.rs", "//! Doc.\nuse super::config::Config;\n", "line 2: glob may not use the room config"),
        (
            "workload/consume.rs",
            "//! Doc.\nuse crate::snapshot::StreamId;\n",
            "line 2: workload may not use the room snapshot",
        ),
        ("attic.rs", "//! Doc.\n", "line 1: the room attic is not in the table"),
        ("lag/mod.rs", "//! Doc.\npub(crate) use age::Age;\n", "line 2: a re-export: one path per item"),
        ("lag/mod.rs", "use std::fmt;\n", "line 1: the file does not open with //!"),
        ("lag/mod.rs", long.as_str(), "line 401: more than 400 lines before the tests"),
    ];
    for (path, text, expected) in cases {
        assert_eq!(found(path, text), [format!("src/{path} {expected}")], "{text}");
    }
}

#[test]
fn what_is_allowed_is_no_fault() {
    let cases = [
        (
            "poller/read.rs",
            "//! Doc.\nuse redis::Value;\nuse tokio::net;\nuse crate::snapshot::Snapshot;\nuse super::node;\n",
        ),
        (
            "lag/age.rs",
            "//! Doc of redis::Value.\n/// See crate::poller::read. /* redis::x */\nfn f<'a>(x: &'a str) -> char { 'r' }\n",
        ),
        (
            "lag/age.rs",
            "//! Doc.\nconst A: &str = \"redis::x \\\" tokio::y\";\nconst B: &str = r#\"crate::poller \" redis::\"#;\n",
        ),
        (
            "lag/age.rs",
            "//! Doc.\nuse crate::snapshot::{StreamId, redis};\nuse super::loss;\nfn f() { predis::x(); self::redis::y(); }\n",
        ),
        ("lag/age.rs", "//! Doc.\n/* /* tokio::x */ redis::y */\nfn f() { let c = '\"'; let d = '\\''; }\n"),
        (
            "lag/age.rs",
            "//! Doc.\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    use super::super::super::poller;\n    use redis::Value;\n}\n",
        ),
        ("lag/tests.rs", "//! Doc.\nuse redis::Value;\n"),
        ("http/mod.rs", "//! Doc.\nuse hyper::Request;\nuse http_body_util::Full;\n"),
    ];
    for (path, text) in cases {
        assert_eq!(found(path, text), [] as [String; 0], "{text}");
    }
}

#[test]
fn dependencies_are_those_of_the_program_not_of_the_tests() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n# a = 1\nhyper-util = \"1\"\nredis = { version = \"1\" }\n\n[dev-dependencies]\ninsta = \"1\"\n";
    assert_eq!(dependencies(manifest), ["hyper_util", "redis"]);
}

fn found(path: &str, text: &str) -> Vec<String> {
    let crates = ["redis", "tokio", "hyper", "hyper_util", "http_body_util"].map(str::to_owned);
    faults(path, text, &crates)
}

/// Gathers every .rs file under the folder, as path below src/ and text, in order of path.
fn read_sources(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("src/ can be read").map(|e| e.expect("an entry")).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read_sources(&entry.path(), &format!("{path}/"), files);
        } else if path.ends_with(".rs") {
            files.push((path, fs::read_to_string(entry.path()).expect("a source is UTF-8")));
        }
    }
}

/// The crates under `[dependencies]`, as code names them.
fn dependencies(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let names = lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
    names.map(|(name, _)| name.trim().replace('-', "_")).filter(|name| !name.starts_with('#')).collect()
}

/// All faults of one file, each with the line it is in.
fn faults(path: &str, text: &str, crates: &[String]) -> Vec<String> {
    let modules: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    if modules.contains(&"tests") {
        return Vec::new();
    }
    let Some(room) = ROOMS.iter().find(|room| room.name == modules[0]) else {
        return vec![format!("src/{path} line 1: the room {} is not in the table", modules[0])];
    };
    if text.contains("\n#![cfg(test)]\n") {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("src/{path} line {line}: {what}"));
    if !text.starts_with("//!") {
        fault(1, "the file does not open with //!".to_owned());
    }
    let text = &text[..text.find("\n#[cfg(test)]\nmod tests {").map_or(text.len(), |at| at + 1)];
    if text.lines().count() > MAX_LINES {
        fault(MAX_LINES + 1, format!("more than {MAX_LINES} lines before the tests"));
    }
    let code = blank(text);
    let tokens = tokens(&code);
    // The crate's root is one `super` above a room: main.rs and lib.rs are the root itself.
    let depth = if ["main", "lib"].contains(&room.name) { 0 } else { modules.len() };
    for (at, token) in tokens.iter().enumerate() {
        for used in rooms_named_at(&tokens, at, depth) {
            if !room.may_use_room(used) {
                fault(token.line, format!("{} may not use the room {used}", room.name));
            }
        }
        if crates.iter().any(|name| *name == token.text)
            && names_a_crate(&tokens, at)
            && !room.may_use_crate(token.text)
        {
            fault(token.line, format!("{} may not name the crate {}", room.name, token.text));
        }
        if token.text == "use" && is_public(&tokens[..at]) {
            fault(token.line, "a re-export: one path per item".to_owned());
        }
    }
    faults
}

/// A word, `::`, or a single other character.
struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (code, 1);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let length = if rest.starts_with("::") { 2 } else { word.max(first.len_utf8()) };
        let (text, after) = rest.split_at(length);
        if !first.is_whitespace() {
            tokens.push(Token { text, line });
        }
        line += usize::from(first == '\n');
        rest = after;
    }
    tokens
}

fn text_at<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.text)
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The rooms that a path names which starts at this token with `crate::`, or with as many `super::` as lead there.
fn rooms_named_at<'a>(tokens: &[Token<'a>], at: usize, depth: usize) -> Vec<&'a str> {
    if at > 0 && text_at(tokens, at - 1) == "::" {
        return Vec::new();
    }
    let mut next = at;
    let mut supers = 0;
    while text_at(tokens, next) == "super" && text_at(tokens, next + 1) == "::" {
        supers += 1;
        next += 2;
    }
    if text_at(tokens, at) == "crate" && text_at(tokens, at + 1) == "::" {
        next = at + 2;
    } else if supers == 0 || supers != depth {
        return Vec::new();
    }
    if text_at(tokens, next) != "{" {
        return vec![text_at(tokens, next)];
    }
    let mut named = Vec::new();
    let mut level = 0;
    for (index, token) in tokens.iter().enumerate().skip(next) {
        match token.text {
            "{" => level += 1,
            "}" => level -= 1,
            word if level == 1 && is_word(word) && ["{", ","].contains(&text_at(tokens, index - 1)) => {
                named.push(word);
            }
            _ => {}
        }
        if level == 0 {
            break;
        }
    }
    named
}

/// Whether the word at this place is a crate's name: the first part of a path (`redis::Value`, `::redis::Value`),
/// or imported whole (`use redis;`, `use {redis as r}`).
fn names_a_crate(tokens: &[Token<'_>], at: usize) -> bool {
    let before = at.checked_sub(1).map_or("", |before| text_at(tokens, before));
    let further = at.checked_sub(2).map_or("", |further| text_at(tokens, further));
    if before == "::" && (is_word(further) || further == ">") {
        return false;
    }
    match text_at(tokens, at + 1) {
        "::" => !is_in_use_group_of_a_path(tokens, at),
        ";" | "as" | "," | "}" => is_in_plain_use(tokens, at),
        _ => false,
    }
}

/// The place of the `{` that opens the group this token is in; `None` outside of any.
fn group_start(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut level = 0;
    for index in (0..at).rev() {
        match tokens[index].text {
            "}" => level += 1,
            "{" if level == 0 => return Some(index),
            "{" => level -= 1,
            ";" => return None,
            _ => {}
        }
    }
    None
}

/// Whether this is `bytes::` in `use crate::x::{bytes::Y}`: a module of ours, whatever its name.
fn is_in_use_group_of_a_path(tokens: &[Token<'_>], at: usize) -> bool {
    group_start(tokens, at).is_some_and(|start| start > 0 && text_at(tokens, start - 1) == "::")
}

/// Whether this follows `use`, or is in a group that does.
fn is_in_plain_use(tokens: &[Token<'_>], at: usize) -> bool {
    let start = if ["{", ","].contains(&text_at(tokens, at.saturating_sub(1))) {
        group_start(tokens, at)
    } else {
        Some(at)
    };
    start.is_some_and(|start| start > 0 && text_at(tokens, start - 1) == "use")
}

/// Whether the item that starts after these tokens is public: they end with `pub` or `pub(...)`.
fn is_public(before: &[Token<'_>]) -> bool {
    let mut end = before.len();
    if end > 0 && before[end - 1].text == ")" {
        end = before[..end].iter().rposition(|token| token.text == "(").unwrap_or(end);
    }
    end > 0 && before[end - 1].text == "pub"
}

/// The code with its comments and literals taken out; line ends stay.
fn blank(code: &str) -> String {
    let mut blanked = String::with_capacity(code.len());
    let mut rest = code;
    let mut after_word = false;
    while let Some(first) = rest.chars().next() {
        let literal = if after_word { 0 } else { raw_string(rest) };
        let length = comment(rest).max(string(rest)).max(character(rest)).max(literal);
        let (taken, after) = rest.split_at(length.max(first.len_utf8()));
        match length {
            0 => blanked.push_str(taken),
            _ => blanked.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        after_word = length == 0 && is_word(taken);
        rest = after;
    }
    blanked
}

/// The length of the comment that the text starts with, or 0.
fn comment(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if !text.starts_with("/*") {
        return 0;
    }
    let (mut level, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        match rest.chars().next() {
            None => return text.len(),
            Some(_) if rest.starts_with("/*") => (level, at) = (level + 1, at + 2),
            Some(_) if rest.starts_with("*/") => (level, at) = (level - 1, at + 2),
            Some(c) => at += c.len_utf8(),
        }
        if level == 0 {
            return at;
        }
    }
}

/// The length of the string literal that the text starts with, or 0.
fn string(text: &str) -> usize {
    if text.starts_with('"') { quoted(text, '"') } else { 0 }
}

/// The length of the character literal that the text starts with, or 0: `'a` alone is a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars();
    let is_literal = chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\''));
    if is_literal { quoted(text, '\'') } else { 0 }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The length of the raw string literal (`r"..."`, `br#"..."#`) that the text starts with, or 0.
fn raw_string(text: &str) -> usize {
    let Some(inner) = text.strip_prefix("br").or_else(|| text.strip_prefix('r')) else {
        return 0;
    };
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    if !inner[hashes..].starts_with('"') {
        return 0;
    }
    let start = text.len() - inner.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}
