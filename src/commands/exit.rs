//! Which exit code an error means: 2 where the caller has to change what was asked for, 3 where groups are as bad as
//! was asked about, 1 for the rest.

use std::io::{self, Write as _};
use std::process::ExitCode;

use thiserror::Error;

use crate::config::error::ConfigError;

/// What was asked for cannot be done as it was asked for: a flag, a setting or a file of them is wrong.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What `status --fail-on` looks for was found.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct FoundStatus(pub String);

/// Says on standard error what went wrong, and tells the exit code: 2 for a [`UsageError`] or a
/// [`ConfigError`] anywhere in the chain, 3 for a [`FoundStatus`], else 1.
pub fn report(error: &anyhow::Error) -> ExitCode {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", message(error));
    match error {
        _ if is_usage(error) => ExitCode::from(2),
        _ if error.is::<FoundStatus>() => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

/// Joins the error and its causes, leaving out causes that the error before them ends with.
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
