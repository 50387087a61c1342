//! Commands for redis-cli as they can be pasted into a shell, whatever the names in them.
//!
//! A name of ordinary characters is quoted for the shell. Any other one, with bytes that are no text, or controls,
//! which would be invisible or might act on the terminal they are pasted into, goes through redis-cli's own quoting,
//! which is plain ASCII (`--quoted-input`, redis-cli 6.2 and later). Both work in any POSIX shell.

use redis_stream_core::escape::push_byte;
use shlex::try_quote;

use crate::format::unicode::is_invisible;

/// A command: `arguments` after `program`, which is redis-cli and what it needs to find the server.
pub(super) fn line(program: &[String], arguments: &[&[u8]]) -> String {
    let plain: Option<Vec<_>> = arguments.iter().map(|argument| plain(argument)).collect();
    let words: Vec<_> = match plain {
        Some(words) => words,
        None => {
            let quoted = arguments.iter().map(|argument| for_shell(&for_redis_cli(argument)));
            ["--quoted-input".to_owned()].into_iter().chain(quoted).collect()
        }
    };
    let program = program.iter().map(|word| for_shell(word));
    program.chain(words).collect::<Vec<_>>().join(" ")
}

/// An argument that needs the shell's quoting alone.
fn plain(argument: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(argument).ok()?;
    if text.chars().any(is_invisible) { None } else { Some(for_shell(text)) }
}

/// A word without NUL, as no other comes here.
fn for_shell(word: &str) -> String {
    try_quote(word).map_or_else(|_| "''".to_owned(), |quoted| quoted.into_owned())
}

/// An argument as redis-cli reads it with `--quoted-input`.
fn for_redis_cli(argument: &[u8]) -> String {
    let is_bare = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(byte);
    if !argument.is_empty() && argument.iter().all(is_bare) {
        return argument.iter().map(|byte| char::from(*byte)).collect();
    }
    let mut quoted = String::from('"');
    for byte in argument {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            _ => push_byte(&mut quoted, *byte),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_the_shell_and_odd_ones_for_redis_cli() {
        let program = ["redis-cli", "-h", "a b"].map(str::to_owned);
        let cases: [(&[u8], &[&str]); 8] = [
            (b"orders:eu", &["orders:eu"]),
            (b"it's $(rm -rf /)", &["it's $(rm -rf /)"]),
            ("gr\u{fc}n".as_bytes(), &["gr\u{fc}n"]),
            (b"\"<&>\\", &["\"<&>\\"]),
            (b"", &[""]),
            (b"a\xffb", &["--quoted-input", "\"a\\xffb\""]),
            (b"a\n\"\\'", &["--quoted-input", "\"a\\x0a\\\"\\\\'\""]),
            ("\u{202e}x".as_bytes(), &["--quoted-input", "\"\\xe2\\x80\\xaex\""]),
        ];
        for (name, expected) in cases {
            let written = line(&program, &[b"XINFO", b"GROUPS", name]);
            let words = shlex::split(&written).expect("a shell understands it");
            let (quoting, name) = expected.split_at(expected.len() - 1);
            let expected = [&["redis-cli", "-h", "a b"], quoting, &["XINFO", "GROUPS"], name].concat();
            assert_eq!(words, expected, "{written}");
            assert!(!written.contains(is_invisible), "{written}");
        }
        assert_eq!(line(&program, &[b"XLEN", b"orders"]), "redis-cli -h 'a b' XLEN orders");
    }
}
