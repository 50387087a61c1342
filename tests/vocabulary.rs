//! Checks that no text for operators contains words that style avoids: messages, help, pages, alerts and documents.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fmt::Write as _;

use regex::Regex;

#[path = "support/repository.rs"]
#[expect(unreachable_pub, reason = "a module of the support of other tests")]
mod repository;

use repository::{files, read, user_documents};

/// Words without a use in technical English, each with what to write instead.
const BANNED: &[(&str, &str)] = &[
    (r"tell of|tells of|told|telling", "send, notify, report"),
    (r"anew|once more", "again"),
    (r"mend|mends|mended", "fix, repair"),
    (r"lest", "so that ... not"),
    (r"likewise|besides", "also"),
    (r"beforehand", "first"),
    (r"nobody|no one|whoever|whom", "name the part: no receiver, the caller"),
    (r"by chance", "random"),
    (r"in hand", "in flight"),
    (r"no news|news of|of news", "unsent changes"),
    (r"whence|thereof|wherein|hitherto|henceforth", "plain words"),
    (r"no oftener|seldom", "less often"),
    (r"held against|holds it against", "compared with, checked against"),
    (r"stands still|stood still", "stopped, stuck"),
];

/// Returns the string literals of code, without comments and the test module at its end.
fn literals(code: &str) -> String {
    let end = code.find("\n#[cfg(test)]\nmod tests").unwrap_or(code.len());
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: String = code[..end].lines().filter(is_code).fold(String::new(), |mut code, line| {
        let _ = writeln!(code, "{line}");
        code
    });
    let literal = Regex::new(r#"(?s)"((?:[^"\\]|\\.)*)""#).unwrap();
    literal.captures_iter(&code).map(|found| format!("{}\n", &found[1])).collect()
}

/// Returns the doc comments, which clap makes its help of.
fn doc_comments(code: &str) -> String {
    code.lines()
        .filter_map(|line| line.trim_start().strip_prefix("///"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn texts() -> Vec<(String, String)> {
    let mut texts = user_documents();
    let others = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "config.example.yaml",
        "config.reference.yaml",
    ];
    texts.extend(others.map(|path| (path.to_owned(), read(path))));
    texts.extend(["dashboards", "deploy", "scripts"].iter().flat_map(|folder| files(folder)));
    for (path, code) in files("src").into_iter().chain(files("crates")) {
        let is_test =
            path.ends_with("/tests.rs") || path.contains("/tests/") || code.contains("\n#![cfg(test)]\n");
        if path.ends_with(".rs") && !is_test {
            let help = if path.starts_with("src/cli") { doc_comments(&code) } else { String::new() };
            texts.push((path, literals(&code) + &help));
        }
    }
    texts
}

#[test]
fn texts_for_operators_have_no_banned_words() {
    let mut found = String::new();
    let texts = texts();
    for (words, instead) in BANNED {
        let banned = Regex::new(&format!(r"(?i)\b(?:{words})\b")).unwrap();
        for (path, text) in &texts {
            for line in text.lines().filter(|line| banned.is_match(line)) {
                let _ = writeln!(found, "{path}: write {instead}: {}", line.trim());
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn literals_are_found() {
    let code = "// \"a\"\nf(\"b \\\" c\\\n  d\"); // e\n#[cfg(test)]\nmod tests { \"f\" }";
    assert_eq!(literals(code), "b \\\" c\\\n  d\n");
}
