//! Commands for redis-cli that can be pasted into any POSIX shell, with any names in them.
//!
//! A name of visible characters is quoted for the shell. A name with bytes that are not UTF-8, or with invisible or
//! control characters, which might act on the terminal, is quoted for redis-cli, in ASCII (`--quoted-input`, redis-cli
//! 6.2 and later).

use redis_stream_core::escape::push_byte;
use shlex::try_quote;

use crate::format::unicode::is_invisible;

/// Returns the command line: `arguments` after `program`, which is redis-cli with its connection options.
pub(crate) fn line(program: &[String], arguments: &[&[u8]]) -> String {
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

/// Returns true if [`line()`] quotes the argument for the shell only.
pub(crate) fn is_plain(argument: &[u8]) -> bool {
    plain(argument).is_some()
}

/// Returns the argument quoted for the shell, unless it must be quoted for redis-cli.
fn plain(argument: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(argument).ok()?;
    if text.chars().any(is_invisible) { None } else { Some(for_shell(text)) }
}

/// Quotes a word for the shell. No word contains NUL, the only byte that cannot be quoted.
fn for_shell(word: &str) -> String {
    try_quote(word).map_or_else(|_| "''".to_owned(), |quoted| quoted.into_owned())
}

/// Quotes an argument for redis-cli with `--quoted-input`.
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
