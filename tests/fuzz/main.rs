//! The fuzz targets on stable Rust: each over its kept corpus, and over what proptest makes of it.
//!
//! The corpus is `fuzz/corpus`, which cargo-fuzz starts from too (`make fuzz`). `PROPTEST_CASES` sets the number of
//! inputs per target.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod corpus;
#[path = "../support/peers.rs"]
#[expect(unreachable_pub, reason = "it is a module of the support of other tests")]
mod peers;
mod targets;

use std::panic;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};

use targets::Run;

const TARGETS: [(&str, Run); 6] = [
    ("configuration", targets::configuration::run),
    ("expressions", targets::expressions::run),
    ("globs", targets::globs::run),
    ("polls", targets::polls::run),
    ("replies", targets::replies::run),
    ("templates", targets::templates::run),
];

/// Runs a target over its corpus, then over random bytes and over random sequences of the corpus' lines.
fn fuzz(name: &str) {
    let (_, run) = TARGETS.into_iter().find(|(other, _)| *other == name).unwrap();
    let corpus = corpus::read(name);
    for (file, input) in &corpus {
        let ended = panic::catch_unwind(|| run(input));
        assert!(ended.is_ok(), "fuzz/corpus/{name}/{file} fails");
    }
    let lines: Vec<_> = corpus.iter().flat_map(|(_, input)| lines(input)).collect();
    let inputs =
        prop_oneof![vec(any::<u8>(), 0..512), vec(select(lines), 0..24).prop_map(|lines| lines.concat())];
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let result = runner.run(&inputs, |input| {
        run(&input);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, input)) => panic!("{name}: {reason}\non b\"{}\"", input.escape_ascii()),
        Err(TestError::Abort(reason)) => panic!("{name}: {reason}"),
    }
}

/// Splits an input behind each newline and each NUL, which separates the parts of some targets' inputs.
fn lines(input: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    input.split_inclusive(|byte| b"\n\0".contains(byte)).map(<[u8]>::to_vec)
}

#[test]
fn configuration() {
    fuzz("configuration");
}

#[test]
fn expressions() {
    fuzz("expressions");
}

#[test]
fn globs() {
    fuzz("globs");
}

#[test]
fn polls() {
    fuzz("polls");
}

#[test]
fn replies() {
    fuzz("replies");
}

#[test]
fn templates() {
    fuzz("templates");
}
