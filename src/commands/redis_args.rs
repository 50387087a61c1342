//! The server of the flags or `REDIS_URL`, for the commands that use exactly one.

use clap::ArgMatches;
use tracing::warn;

use crate::commands::config_source;
use crate::commands::exit_code::UsageError;
use crate::config::env::{Environment, of_process};
use crate::config::flags;
use crate::config::topology::Topology;
use crate::config::{Config, LoginPassword, Password, Target};
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::error::RunError;
use redis_stream_core::redis_url::ServerUrl;
use redis_stream_core::tls::{SKIPPED, Verification};

/// Reads the flags the same way as `serve`, or `REDIS_URL` if they hold no URL.
///
/// # Errors
///
/// A usage error that lists everything that is missing or invalid.
pub fn read(args: &ArgMatches) -> anyhow::Result<ConnectOptions> {
    from(args, &of_process)
}

/// Converts an error of the consumer or producer: those that the caller can correct become usage errors.
pub fn classify(error: impl Into<RunError>) -> anyhow::Error {
    let error = error.into();
    match error {
        RunError::Config(_) | RunError::PasswordFile { .. } => {
            UsageError(format!("{:#}", anyhow::Error::from(error))).into()
        }
        RunError::Refused { .. } | RunError::OtherHost { .. } | RunError::Output(_) => error.into(),
    }
}

/// Returns the configuration of a target on the server of the flags.
///
/// # Errors
///
/// The errors of [`read`].
pub fn config(args: &ArgMatches) -> anyhow::Result<Config> {
    config_from(args, &of_process)
}

fn from(args: &ArgMatches, environment: &Environment<'_>) -> anyhow::Result<ConnectOptions> {
    let mut targets = config_from(args, environment)?.targets;
    connect_options(targets.swap_remove(0))
}

fn config_from(args: &ArgMatches, environment: &Environment<'_>) -> anyhow::Result<Config> {
    config_source::refuse_empty(args, &[])?;
    let Some(server) = config_source::server(args, environment) else {
        let text = "no server given: use --redis-url redis://host:port, or set REDIS_URL";
        return Err(UsageError(text.to_owned()).into());
    };
    Ok(flags::alone(&server, &Vec::new())?)
}

fn connect_options(target: Target) -> anyhow::Result<ConnectOptions> {
    let Target { name, topology, tls, db, username, password, .. } = target;
    let Topology::Standalone(endpoint) = topology else {
        return Err(UsageError(format!("{topology} is not one server")).into());
    };
    let (password, password_file) = match password {
        Some(LoginPassword::Configured(Password::Text(secret))) => (Some(secret), None),
        Some(LoginPassword::Configured(Password::File(path))) => (None, Some(path)),
        // The flags have no command.
        Some(LoginPassword::Command(_)) | None => (None, None),
    };
    if tls.verification == Verification::Skipped {
        warn!(server = %name, "{SKIPPED}");
    }
    let url = ServerUrl { endpoint, db, username, password };
    Ok(ConnectOptions::from_url(url, password_file).map_err(classify)?.with_tls(tls))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn flags(arguments: &[&str]) -> ArgMatches {
        let command = ["streamgauge", "produce", "--stream", "s"];
        let arguments = command.into_iter().chain(arguments.iter().copied());
        let mut matches = Cli::command().try_get_matches_from(arguments).unwrap();
        matches.remove_subcommand().unwrap().1
    }

    fn redis_url(value: &'static str) -> impl Fn(&str) -> Option<String> {
        move |name| (name == "REDIS_URL").then(|| value.to_owned())
    }

    #[test]
    fn the_flag_goes_before_the_variable() {
        let variable = redis_url("redis://variable");
        let both = from(&flags(&["--redis-url", "redis://flag"]), &variable).unwrap();
        assert_eq!(both.to_string(), "redis://flag:6379");
        assert_eq!(from(&flags(&[]), &variable).unwrap().to_string(), "redis://variable:6379");
        let bare = from(&flags(&["--redis-url", "[::1]:7000"]), &variable).unwrap();
        assert_eq!(bare.to_string(), "redis://[::1]:7000");
    }

    #[test]
    fn no_server_is_a_usage_error_that_says_what_to_give() {
        let nothing = |_: &str| None;
        let empty = redis_url("");
        for variable in [&nothing as &Environment<'_>, &empty] {
            let error = from(&flags(&[]), variable).unwrap_err();
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
        for (given, said) in [
            (&["--redis-url", "cache/2"][..], format!("--redis-url: not a URL; {form}")),
            (&["--redis-url", ""], "--redis-url: empty; expected a value, or leave the flag out".to_owned()),
            (&[], format!("REDIS_URL: unix:// without a path that begins with /; {form}")),
            (
                &["--redis-url", "redis://:hunter2@cache", "--redis-username", "me"],
                "--redis-username: --redis-url has credentials too; expected them in one place".to_owned(),
            ),
            (
                &["--redis-url", "redis://cache", "--redis-username", "me"],
                "--redis-username: a user without a password; expected a password too".to_owned(),
            ),
            (
                &["--redis-url", "redis://cache", "--redis-password-file", "/nowhere/password"],
                "--redis-password-file: cannot read /nowhere/password: No such file or directory \
                 (os error 2); expected a readable file"
                    .to_owned(),
            ),
        ] {
            let error = from(&flags(given), &redis_url("unix://hunter2")).unwrap_err();
            assert_eq!(error.to_string(), said);
        }
    }
}
