//! The exit code of an error: 2 if the arguments or the configuration are invalid, 3 if `--fail-on` found a group, 1
//! otherwise.

use std::process::ExitCode;

use thiserror::Error;

use crate::commands::output::{self, print_error, print_error_lines};
use crate::config::error::ConfigError;

/// A flag, a setting or a configuration file is invalid.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// A group has a status of `status --fail-on`.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct FoundStatus(pub String);

/// Prints the error to standard error and returns the exit code: 2 for a [`UsageError`] or a [`ConfigError`] anywhere
/// in the chain, 3 for a [`FoundStatus`], otherwise 1. A reader of standard output that has ended is no error.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if output::is_reader_gone(error) {
        return ExitCode::SUCCESS;
    }
    // Only an invalid configuration has several lines, and escapes each itself.
    let message = message(error);
    if error.chain().any(|cause| cause.is::<ConfigError>()) {
        print_error_lines(&message);
    } else {
        print_error(&message);
    }
    match error {
        _ if is_usage(error) => ExitCode::from(2),
        _ if error.is::<FoundStatus>() => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

/// Prints clap's error in the style of all others, and returns its exit code.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    print_error_lines(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    ExitCode::from(2)
}

/// Joins the error and its causes, without causes that the previous text already ends with.
fn message(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .reduce(
            |message, cause| if message.ends_with(&cause) { message } else { format!("{message}: {cause}") },
        )
        .unwrap_or_default()
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<UsageError>() || cause.is::<ConfigError>())
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_usage_error_is_known_through_its_context() {
        let usage = anyhow::Error::from(UsageError("no URL".to_owned()));
        assert!(is_usage(&usage));
        assert!(is_usage(&Err::<(), _>(usage).context("consume").unwrap_err()));
        assert!(!is_usage(&anyhow!("connection refused")));
    }

    #[test]
    fn a_cause_is_not_repeated() {
        #[derive(Debug, Error)]
        #[error("cannot connect: {0}")]
        struct Connect(#[source] io::Error);
        let error = anyhow::Error::from(Connect(io::Error::other("refused"))).context("h:1");
        assert_eq!(message(&error), "h:1: cannot connect: refused");
    }
}
