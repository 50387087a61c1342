//! The fuzz targets: each takes bytes, and panics where a property that must hold for all bytes does not.
//!
//! The same functions run in this test program, over the kept corpus and inputs of proptest, and in cargo-fuzz, whose
//! programs in `fuzz/fuzz_targets` include this module.
//!
//! | target | input | properties |
//! | --- | --- | --- |
//! | [`replies`] | replies in RESP, and the seed of a model | decoding ends, in bounded memory; a model comes back as it was encoded, by both protocols |
//! | [`polls`] | the seed of polls of a server that says anything | questions end; the report has its bounds in order; what it is written as can be read |
//! | [`configuration`] | YAML | each fault has a place and one line; what a variable holds is in no fault and no `Debug`; what is valid is valid again |
//! | [`expressions`] | a condition and globs | what it is shown as reads back as the same; its PromQL selects what the globs say; the rule file is YAML that holds it |
//! | [`globs`] | a pattern and names | it matches what a plain matcher says, and so does its regular expression |
//! | [`templates`] | a text and a value | it is filled in as by search and replace; of a label that is not there the configuration names those that are |
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each program of cargo-fuzz is one target, and all of this module"
)]

pub mod configuration;
pub mod expressions;
pub mod globs;
pub mod polls;
pub mod replies;
pub mod templates;

mod model;

pub type Run = fn(&[u8]);

/// The bytes up to each NUL: bytes of a target that takes several texts.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == 0)
}

/// A part as text; what is not UTF-8 becomes a sign that says so.
fn text(part: Option<&[u8]>) -> String {
    String::from_utf8_lossy(part.unwrap_or_default()).into_owned()
}

/// A text as YAML and JSON write it between double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            ' '..='~' => quoted.push(char),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(char))),
        }
    }
    quoted.push('"');
    quoted
}
