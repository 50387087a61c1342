//! The server that the flags (or `REDIS_URL`) name, for the commands that need just one.

use std::env;

use crate::cli;
use crate::commands::exit::UsageError;
use crate::workload::endpoint::Endpoint;
use crate::workload::error::WorkloadError;

/// Reads the flags; `REDIS_URL` where they hold no URL.
///
/// # Errors
///
/// A [`UsageError`] that says what to give.
pub fn read(flags: &cli::Server) -> anyhow::Result<Endpoint> {
    from(flags, env::var("REDIS_URL").ok().as_deref())
}

/// An error of the workload, as the error of a command: those that the caller has to mend are usage errors.
pub fn classify(error: WorkloadError) -> anyhow::Error {
    match error {
        WorkloadError::Setting(_) | WorkloadError::PasswordFile { .. } => {
            UsageError(format!("{:#}", anyhow::Error::from(error))).into()
        }
        WorkloadError::Refused { .. } | WorkloadError::Sink(_) => error.into(),
    }
}

fn from(flags: &cli::Server, redis_url: Option<&str>) -> anyhow::Result<Endpoint> {
    let Some(url) = flags.redis_url.as_deref().or(redis_url).filter(|url| !url.is_empty()) else {
        let text = "no server given: use --redis-url redis://host:port, or set REDIS_URL";
        return Err(UsageError(text.to_owned()).into());
    };
    let file = flags.redis_password_file.clone();
    Endpoint::new(url, flags.redis_username.as_deref(), file).map_err(classify)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(redis_url: Option<&str>) -> cli::Server {
        let redis_url = redis_url.map(str::to_owned);
        cli::Server { redis_url, redis_username: None, redis_password_file: None }
    }

    #[test]
    fn the_flag_goes_before_the_variable() {
        let both = from(&flags(Some("redis://flag")), Some("redis://variable")).unwrap();
        assert_eq!(both.to_string(), "redis://flag:6379");
        let variable = from(&flags(None), Some("redis://variable")).unwrap();
        assert_eq!(variable.to_string(), "redis://variable:6379");
    }

    #[test]
    fn no_server_is_a_usage_error_that_says_what_to_give() {
        let error = from(&flags(None), None).unwrap_err();
        assert!(error.is::<UsageError>());
        assert_eq!(error.to_string(), "no server given: use --redis-url redis://host:port, or set REDIS_URL");
    }

    #[test]
    fn a_wrong_url_is_a_usage_error() {
        assert!(from(&flags(Some("cache")), None).unwrap_err().is::<UsageError>());
    }
}
