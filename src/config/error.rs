//! Errors of a configuration, all at once. A fault never has the value of an environment variable (except the name of
//! an unreadable file) or a part of a URL, since these may be secrets.

use std::fmt;

use thiserror::Error;

use crate::format::unicode::printable;

/// The most faults that are displayed, of a file that may be something else.
const SHOWN_FAULTS: usize = 1000;

/// An invalid configuration. Displays one line per fault, in the order of reading.
#[derive(Debug, Error)]
#[error("{}", lines(.faults))]
pub struct ConfigError {
    /// At least one fault.
    pub faults: Vec<Fault>,
}

/// One fault. Displays as `FILE:LINE: key.path: found; expected` or `--flag: found; expected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File, line and key path, flag, or environment variable.
    pub subject: String,
    /// The value that was found and the one expected.
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
    let shown = faults.iter().take(SHOWN_FAULTS);
    let mut lines: Vec<_> = shown.map(|fault| printable(&fault.to_string()).into_owned()).collect();
    if faults.len() > SHOWN_FAULTS {
        lines.push(format!("and {} more", faults.len() - SHOWN_FAULTS));
    }
    lines.join("\n")
}
