//! Keeps passwords out of logs and messages: a type for known secrets, a filter for quoted user input that may
//! contain one, and a filter for texts that a server sends, which may repeat one.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{LazyLock, PoisonError, RwLock};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Replaces a possible secret in messages.
pub const HIDDEN: &str = "[hidden]";

/// A secret text. `Debug` prints `[redacted]`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret, for the code that sends it to the server.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Adds it to the secrets that [`hide_secrets`] replaces, for the rest of the process. Call this before the secret
    /// is sent to a server.
    pub fn mark_in_use(&self) {
        let is_new = !IN_USE.read().unwrap_or_else(PoisonError::into_inner).contains(&self.0);
        if is_new {
            IN_USE.write().unwrap_or_else(PoisonError::into_inner).insert(&self.0);
        }
    }

    /// Removes it from the secrets that [`hide_secrets`] replaces: for one that has expired, as a process that gets a new
    /// one every few minutes would collect them for ever.
    pub fn mark_expired(&self) {
        IN_USE.write().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Returns user input in a form that messages may quote.
///
/// A URL is cut off after its `://`, and text that may be the rest of one (`:password@host`, `d@host`) is replaced
/// altogether. A path that contains an `@` is kept.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let before_at_sign = text.split_once('@').map(|(before, _)| before);
    match (scheme, before_at_sign) {
        // With an "@" in it, the part before "://" is not a scheme but may contain a password.
        (Some(scheme), _) if !scheme.contains('@') => Cow::Owned(format!("{scheme}://{HIDDEN}")),
        (None, None) => Cow::Borrowed(text),
        (None, Some(before)) if before.contains('/') && !before.contains(':') => Cow::Borrowed(text),
        _ => Cow::Borrowed(HIDDEN),
    }
}

/// Replaces every secret [in use](Secret::mark_in_use) in the text of a server, which may repeat what was sent to it:
/// an unknown command's arguments, a request's headers.
#[must_use]
pub fn hide_secrets(text: &str) -> Cow<'_, str> {
    IN_USE.read().unwrap_or_else(PoisonError::into_inner).hide(text)
}

static IN_USE: LazyLock<RwLock<SecretFilter>> = LazyLock::new(RwLock::default);

/// Bytes by which secrets are indexed, so that the time of a search does not depend on their number.
const INDEXED_BYTES: usize = 4;
/// The beginning of a secret is hidden from this length on: servers cut off long arguments.
const SHORTEST_BEGINNING: usize = 8;

#[derive(Default)]
struct SecretFilter {
    secrets: BTreeSet<String>,
    by_beginning: HashMap<[u8; INDEXED_BYTES], Vec<Box<[u8]>>>,
    /// Secrets too short for the index. They are hidden as whole words only, so that texts stay readable.
    short: Vec<Box<[u8]>>,
}

impl SecretFilter {
    fn contains(&self, secret: &str) -> bool {
        secret.is_empty() || self.secrets.contains(secret)
    }

    fn insert(&mut self, secret: &str) {
        if self.contains(secret) {
            return;
        }
        self.secrets.insert(secret.to_owned());
        for form in forms(secret) {
            match form.first_chunk() {
                Some(beginning) => self.by_beginning.entry(*beginning).or_default().push(form.into()),
                None => self.short.push(form.into()),
            }
        }
    }

    fn remove(&mut self, secret: &str) {
        if !self.secrets.remove(secret) {
            return;
        }
        for form in forms(secret) {
            let known = match form.first_chunk() {
                Some(beginning) => self.by_beginning.entry(*beginning).or_default(),
                None => &mut self.short,
            };
            // Another secret may have the same form.
            if let Some(at) = known.iter().position(|known| **known == *form) {
                known.swap_remove(at);
            }
        }
        self.by_beginning.retain(|_, known| !known.is_empty());
    }

    fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let bytes = on_one_line(text);
        let mut shown = String::new();
        let (mut start, mut at) = (0, 0);
        while at < bytes.len() {
            let length = self.secret_at(&bytes, at);
            if length == 0 {
                at += 1;
                continue;
            }
            shown.push_str(&text[start..at]);
            shown.push_str(HIDDEN);
            at += length;
            start = at;
        }
        if start == 0 {
            return Cow::Borrowed(text);
        }
        shown.push_str(&text[start..]);
        Cow::Owned(shown)
    }

    /// Returns the length of the secret, or of the beginning of one, at this position; 0 if there is none.
    fn secret_at(&self, text: &[u8], at: usize) -> usize {
        let rest = &text[at..];
        let long = rest.first_chunk().and_then(|beginning| self.by_beginning.get(beginning));
        let long = long.into_iter().flatten().map(|secret| {
            let same = secret.iter().zip(rest).take_while(|(one, other)| one == other).count();
            // Not within a character.
            let is_boundary = |length: &usize| rest.get(*length).is_none_or(|byte| byte & 0xC0 != 0x80);
            let same = (0..=same).rev().find(is_boundary).unwrap_or(0);
            if same == secret.len() || same >= SHORTEST_BEGINNING { same } else { 0 }
        });
        let is_word = |length: usize| {
            let before = at.checked_sub(1).and_then(|before| text.get(before));
            [before, rest.get(length)].into_iter().flatten().all(|byte| !byte.is_ascii_alphanumeric())
        };
        let short = self.short.iter().filter(|secret| rest.starts_with(secret) && is_word(secret.len()));
        long.chain(short.map(|secret| secret.len())).max().unwrap_or(0)
    }
}

/// Returns the ways in which a text may have a secret.
fn forms(secret: &str) -> BTreeSet<Vec<u8>> {
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    [secret, &encoded, &secret.escape_debug().to_string()].map(on_one_line).into()
}

/// Replaces line ends, as servers do in an error reply.
fn on_one_line(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_use_are_hidden_in_any_form_and_also_when_cut_off() {
        let mut filter = SecretFilter::default();
        let long = "x".repeat(200);
        for secret in ["hunter2", "p/w \"q\"", "a\nb cd", "caf\u{e9}caf\u{e9}", "k1", "", &long] {
            filter.insert(secret);
        }
        for (text, shown) in [
            ("", ""),
            ("nothing to hide", "nothing to hide"),
            ("args: 'hunter2' 'hunter2'", "args: '[hidden]' '[hidden]'"),
            ("hunter2hunter2", "[hidden][hidden]"),
            ("hunter", "hunter"),
            ("'p/w \"q\"'", "'[hidden]'"),
            (r#""p/w \"q\"""#, r#""[hidden]""#),
            ("p%2Fw%20%22q%22", "[hidden]"),
            ("'a b cd'", "'[hidden]'"),
            ("caf\u{e9}caf\u{e8}", "[hidden]\u{e8}"),
            ("caf\u{e9}caf\u{e9}\u{e9}", "[hidden]\u{e9}"),
            ("k1 k12 'k1'", "[hidden] k12 '[hidden]'"),
            (&format!("'{}", &long[..100]), "'[hidden]"),
        ] {
            assert_eq!(filter.hide(text), shown, "{text}");
        }
    }

    #[test]
    fn a_secret_is_hidden_once_it_is_in_use() {
        let secret = Secret::new("correct horse battery");
        secret.mark_in_use();
        secret.mark_in_use();
        assert_eq!(hide_secrets("ERR correct horse battery"), "ERR [hidden]");
    }

    #[test]
    fn an_expired_secret_leaves_nothing_behind() {
        let mut filter = SecretFilter::default();
        filter.insert("stays here");
        for number in 0..1_000 {
            let secrets = [format!("token \"{number}\""), format!("k{number}")];
            secrets.iter().for_each(|secret| filter.insert(secret));
            assert_eq!(filter.hide(&secrets[0]), "[hidden]");
            secrets.iter().for_each(|secret| filter.remove(secret));
            assert_eq!(filter.hide(&secrets[0]), secrets[0]);
        }
        filter.remove("was never there");
        assert_eq!((filter.secrets.len(), filter.by_beginning.len(), filter.short.len()), (1, 1, 0));
        assert_eq!(filter.hide("stays here"), "[hidden]");
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some([redacted])");
    }

    #[test]
    fn text_that_may_contain_a_secret_is_not_quoted() {
        for (text, shown) in [
            ("", ""),
            ("10 apples", "10 apples"),
            ("cache:6379", "cache:6379"),
            ("redis://:hunter2@cache", "redis://[hidden]"),
            ("redis://hunter2", "redis://[hidden]"),
            ("--redis-ur=redis://:hunter2@cache", "--redis-ur=redis://[hidden]"),
            ("redis:/:hunter2@cache", HIDDEN),
            (":hunter2@cache", HIDDEN),
            (":hunt/er2@cache", HIDDEN),
            ("hunter2@cache/1", HIDDEN),
            ("hunter2@redis://cache", HIDDEN),
            ("/home/me@work/streamgauge.yaml", "/home/me@work/streamgauge.yaml"),
        ] {
            assert_eq!(redact(text), shown, "{text}");
        }
    }
}
