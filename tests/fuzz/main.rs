//! The fuzz targets on stable Rust: each over its kept corpus, and then for a while over what mutation makes of it.
//!
//! The corpus is `fuzz/corpus`, which cargo-fuzz starts from too. `STREAMGAUGE_FUZZ_SECONDS` says how long each target
//! is run (1 by default), `STREAMGAUGE_FUZZ_SEED` with which numbers: the same by default, so that what is found in one
//! run of the tests is found in all. `make fuzz` runs it longer, and each time with others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod corpus;
mod mutation;
#[path = "../support/peers.rs"]
#[expect(unreachable_pub, reason = "it is a module of the support of other tests")]
mod peers;
mod search;
mod targets;

use std::time::Duration;

use targets::Run;

/// Every target.
const TARGETS: [(&str, Run); 6] = [
    ("configuration", targets::configuration::run),
    ("expressions", targets::expressions::run),
    ("globs", targets::globs::run),
    ("polls", targets::polls::run),
    ("replies", targets::replies::run),
    ("templates", targets::templates::run),
];

fn fuzz(name: &str) {
    let (name, run) = TARGETS.into_iter().find(|(other, _)| *other == name).unwrap();
    let seconds = variable("STREAMGAUGE_FUZZ_SECONDS").unwrap_or(1);
    let seed = variable("STREAMGAUGE_FUZZ_SEED").unwrap_or(0);
    let inputs = search::run(name, run, corpus::read(name), Duration::from_secs(seconds), seed);
    #[expect(clippy::print_stdout, reason = "shown by --show-output")]
    {
        println!("{name}: {inputs} inputs in {seconds} s with STREAMGAUGE_FUZZ_SEED={seed}");
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a whole number")))
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
