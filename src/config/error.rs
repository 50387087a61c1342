//! What is wrong with a configuration: all of it at once. A fault never shows a secret, so it never shows
//! what an environment variable holds (but for the name of a file that cannot be read), nor any part of a URL.

use std::fmt;

use thiserror::Error;

/// A configuration that cannot be used. Displays as one line per fault, in the order of reading.
#[derive(Debug, Error)]
#[error("{}", lines(.faults))]
pub struct ConfigError {
    /// What is wrong; at least one item.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong. Displays as `FILE: key.path: what is wrong; what was expected`, or
/// `--flag: what is wrong; what was expected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File and key path, or the flag or environment variable.
    pub subject: String,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

impl ConfigError {
    pub(crate) fn one(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { faults: vec![Fault { subject: subject.into(), message: message.into() }] }
    }
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}
