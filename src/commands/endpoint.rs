//! The server of the flags or `REDIS_URL`, for the commands that use exactly one.

use tracing::warn;

use crate::cli;
use crate::commands::exit_code::UsageError;
use crate::commands::source;
use crate::config::environment::{Environment, of_process};
use crate::config::flags::{self, Overrides};
use crate::config::topology::Topology;
use crate::config::tree::Flag;
use crate::config::{Config, Password, Target};
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::error::RunError;
use redis_stream_core::redis_url::ServerUrl;
use redis_stream_core::tls::{SKIPPED, Verification};

/// Reads the flags the same way as `serve`, or `REDIS_URL` if they hold no URL.
///
/// # Errors
///
/// A usage error that lists everything that is missing or invalid.
pub fn read(flags: &cli::Server) -> anyhow::Result<ConnectOptions> {
    from(flags, &of_process)
}

/// Converts an error of the consumer or producer: those that the caller can correct become usage errors.
pub fn classify(error: impl Into<RunError>) -> anyhow::Error {
    let error = error.into();
    match error {
        RunError::Config(_) | RunError::PasswordFile { .. } => {
            UsageError(format!("{:#}", anyhow::Error::from(error))).into()
        }
        RunError::Refused { .. } | RunError::Output(_) => error.into(),
    }
}

/// Returns the configuration of a target on the server of the flags.
///
/// # Errors
///
/// The errors of [`read`].
pub fn config(flags: &cli::Server) -> anyhow::Result<Config> {
    config_from(flags, &of_process)
}

fn from(given: &cli::Server, environment: &Environment<'_>) -> anyhow::Result<ConnectOptions> {
    let mut targets = config_from(given, environment)?.targets;
    connect_options(targets.swap_remove(0))
}

fn config_from(given: &cli::Server, environment: &Environment<'_>) -> anyhow::Result<Config> {
    let fallback = || {
        let text = environment("REDIS_URL").filter(|url| !url.is_empty())?;
        Some(Flag { name: "REDIS_URL".to_owned(), text })
    };
    let Some(url) = source::url(given, environment).or_else(fallback) else {
        let text = "no server given: use --redis-url redis://host:port, or set REDIS_URL";
        return Err(UsageError(text.to_owned()).into());
    };
    let server = source::server(url, given, Vec::new(), environment);
    Ok(flags::alone(&server, &Overrides::default())?)
}

fn connect_options(target: Target) -> anyhow::Result<ConnectOptions> {
    let Target { name, topology, tls, db, username, password, .. } = target;
    let Topology::Standalone(place) = topology else {
        return Err(UsageError(format!("{topology} is not one server")).into());
    };
    let (password, password_file) = match password {
        Some(Password::Text(secret)) => (Some(secret), None),
        Some(Password::File(path)) => (None, Some(path)),
        None => (None, None),
    };
    if tls.verification == Verification::Skipped {
        warn!(server = %name, "{SKIPPED}");
    }
    let url = ServerUrl { place, db, username, password };
    Ok(ConnectOptions::from_url(url, password_file).map_err(classify)?.with_tls(tls))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn flags(redis_url: Option<&str>) -> cli::Server {
        let redis_url = redis_url.map(str::to_owned);
        cli::Server {
            redis_url,
            redis_username: None,
            redis_password_file: None,
            tls: cli::tls::Tls::default(),
        }
    }

    fn redis_url(value: &'static str) -> impl Fn(&str) -> Option<String> {
        move |name| (name == "REDIS_URL").then(|| value.to_owned())
    }

    #[test]
    fn the_flag_goes_before_the_variable() {
        let variable = redis_url("redis://variable");
        let both = from(&flags(Some("redis://flag")), &variable).unwrap();
        assert_eq!(both.to_string(), "redis://flag:6379");
        for absent in [None, Some("")] {
            assert_eq!(from(&flags(absent), &variable).unwrap().to_string(), "redis://variable:6379");
        }
    }

    #[test]
    fn no_server_is_a_usage_error_that_says_what_to_give() {
        let nothing = |_: &str| None;
        let empty = redis_url("");
        for variable in [&nothing as &Environment<'_>, &empty] {
            let error = from(&flags(None), variable).unwrap_err();
            assert!(error.is::<UsageError>());
            assert_eq!(
                error.to_string(),
                "no server given: use --redis-url redis://host:port, or set REDIS_URL"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_serve_says_it_and_names_the_flag_or_the_variable() {
        let form = "expected redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]";
        let with_user = |url| cli::Server { redis_username: Some("me".to_owned()), ..flags(url) };
        let no_file = PathBuf::from("/nowhere/password");
        for (given, said) in [
            (flags(Some("cache")), format!("--redis-url: not a URL; {form}")),
            (flags(None), format!("REDIS_URL: unix:// without a path that begins with /; {form}")),
            (
                with_user(Some("redis://:hunter2@cache")),
                "--redis-username: --redis-url has credentials too; expected them in one place".to_owned(),
            ),
            (
                with_user(Some("redis://cache")),
                "--redis-username: a user without a password; expected a password too".to_owned(),
            ),
            (
                cli::Server { redis_password_file: Some(no_file), ..flags(Some("redis://cache")) },
                "--redis-password-file: cannot read /nowhere/password: No such file or directory \
                 (os error 2); expected a readable file"
                    .to_owned(),
            ),
        ] {
            let error = from(&given, &redis_url("unix://hunter2")).unwrap_err();
            assert_eq!(error.to_string(), said);
        }
    }
}
