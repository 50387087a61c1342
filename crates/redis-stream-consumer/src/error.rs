//! Errors of a run, and which of them to retry.

use std::fmt;
use std::io;
use std::path::PathBuf;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;

use redis_stream_core::secret::hide_secrets;

/// A setting is invalid. The message names it, says what was expected, and holds no password.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct InvalidConfig(String);

impl InvalidConfig {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The error that ended a run. No message holds a password.
#[derive(Debug, Error)]
pub enum RunError {
    /// A setting is invalid, and retrying cannot succeed until the caller changes it.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The password file is not readable.
    #[error("cannot read password file {}", path.display())]
    PasswordFile {
        /// The path that was given.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The server refused, and would refuse again.
    #[error("{server}")]
    Refused {
        /// The server, without credentials.
        server: String,
        /// The server's error.
        source: Refusal,
    },
    /// The stream is on another host, which is not sent the password.
    #[error(
        "{server} redirects to {node}, which is not sent the password: it is another host; use the URL of that node"
    )]
    OtherHost {
        /// The server, without credentials.
        server: String,
        /// Host and port of the node that holds the stream.
        node: String,
    },
    /// The handler cannot write its output. Entries written before are acknowledged.
    #[error("cannot write entries")]
    Output(#[source] io::Error),
}

/// The error reply of a server, in its own words and without secrets: `WRONGTYPE Operation against a key ...`.
#[derive(Clone, Debug)]
pub struct Refusal(RedisError);

impl Refusal {
    pub(crate) fn new(error: RedisError) -> Self {
        Self(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            // The library's own texts end in the name of a variant.
            ErrorKind::AuthenticationFailed => return f.write_str("authentication failed"),
            // One of its texts for "closed by the server" is the system's broken pipe.
            ErrorKind::Io if self.0.is_connection_dropped() && !self.0.is_connection_refusal() => {
                return f.write_str("connection closed");
            }
            _ => {}
        }
        // The error of a pipeline is a list.
        let text = match self.0.clone().into_server_errors().as_deref().and_then(<[_]>::first) {
            Some((_, error)) => match error.details() {
                Some(details) => format!("{} {details}", error.code()),
                None => error.code().to_owned(),
            },
            None => self.0.to_string(),
        };
        f.write_str(&hide_secrets(&text))
    }
}

impl std::error::Error for Refusal {}

/// Returns whether to retry on a new connection, since the error may pass without a change of settings.
pub(crate) fn is_transient(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                // The slot is being migrated; MOVED follows once it is done.
                | ServerErrorKind::Ask
                // A failover demoted this server; the address leads to the new master soon.
                | ServerErrorKind::ReadOnly
        ),
        // Out of memory, failed persistence, too few replicas, a long script: all may pass.
        _ => matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "BUSY")),
    }
}

/// Returns whether the key or the group is gone: deleted, flushed, or lost in a failover.
pub(crate) fn is_group_gone(error: &RedisError) -> bool {
    // UNBLOCKED: the key was deleted while XREADGROUP was waiting on it.
    matches!(error.code(), Some("NOGROUP" | "UNBLOCKED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: &str, detail: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
    }

    #[test]
    fn a_refusal_reads_as_the_server_replied_it() {
        let refusal = Refusal::new(reply("WRONGTYPE", "Operation against a key"));
        assert_eq!(refusal.to_string(), "WRONGTYPE Operation against a key");
    }

    #[test]
    fn a_failed_authentication_does_not_show_the_password() {
        let error = RedisError::from((ErrorKind::AuthenticationFailed, "text", "secret".to_owned()));
        assert_eq!(Refusal::new(error).to_string(), "authentication failed");
    }

    #[test]
    fn a_passing_state_of_the_server_is_transient_and_a_refusal_is_not() {
        let io = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(is_transient(&io));
        assert!(is_transient(&reply("OOM", "command not allowed")));
        assert!(!is_transient(&reply("NOGROUP", "No such key")));
        assert!(!is_transient(&reply("WRONGTYPE", "Operation against a key")));
        assert!(is_group_gone(&reply("NOGROUP", "No such key")));
        assert!(!is_group_gone(&reply("BUSYGROUP", "already exists")));
    }
}
