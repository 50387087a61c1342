//! Why a run of the workload ended early, and what can be waited for.

use std::fmt;
use std::io;
use std::path::PathBuf;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;

/// Why a run ended early. No message holds a password.
#[derive(Debug, Error)]
pub enum WorkloadError {
    /// A setting is wrong: the caller has to change it.
    #[error("{0}")]
    Setting(String),
    /// The password file cannot be used: the caller has to mend it.
    #[error("cannot read password file {}", path.display())]
    PasswordFile {
        /// The file as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server said no, and would say so again.
    #[error("{server}")]
    Refused {
        /// The server, without any credential.
        server: String,
        /// What it said.
        source: Refusal,
    },
    /// The entries cannot be written to where they should go. What was written before is acknowledged.
    #[error("cannot write entries")]
    Sink(#[source] io::Error),
}

/// What a server said, in its own words: `WRONGTYPE Operation against a key ...`.
#[derive(Clone, Debug)]
pub struct Refusal(RedisError);

impl Refusal {
    /// Wraps an error of the client library for people.
    pub(super) fn new(error: RedisError) -> Self {
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
            ErrorKind::Io => return write!(f, "{}", self.0),
            _ => {}
        }
        // A pipeline holds its errors in a list: the first says it.
        match self.0.clone().into_server_errors().as_deref().and_then(<[_]>::first) {
            Some((_, said)) => {
                write!(f, "{}", said.code())?;
                said.details().map_or(Ok(()), |details| write!(f, " {details}"))
            }
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for Refusal {}

/// Whether it is worth trying again on a new connection, without anybody doing anything here.
pub(super) fn is_transient(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                // A slot on its way to another node: MOVED follows once it is there.
                | ServerErrorKind::Ask
                // A failover left us on the old master: the address leads to the new one before long.
                | ServerErrorKind::ReadOnly
        ),
        // Memory, disk and replicas come back, and scripts end.
        _ => matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "BUSY")),
    }
}

/// Whether the key or the group is gone: deleted, flushed, or lost in a failover.
pub(super) fn is_group_gone(error: &RedisError) -> bool {
    // UNBLOCKED: the key was deleted while XREADGROUP was waiting on it.
    matches!(error.code(), Some("NOGROUP" | "UNBLOCKED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, detail: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
    }

    #[test]
    fn a_refusal_reads_as_the_server_said_it() {
        let refusal = Refusal::new(said("WRONGTYPE", "Operation against a key"));
        assert_eq!(refusal.to_string(), "WRONGTYPE Operation against a key");
    }

    #[test]
    fn a_failed_authentication_says_nothing_of_the_password() {
        let error = RedisError::from((ErrorKind::AuthenticationFailed, "text", "secret".to_owned()));
        assert_eq!(Refusal::new(error).to_string(), "authentication failed");
    }

    #[test]
    fn what_the_server_gets_over_is_transient_and_what_it_refuses_is_not() {
        let io = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(is_transient(&io));
        assert!(is_transient(&said("OOM", "command not allowed")));
        assert!(!is_transient(&said("NOGROUP", "No such key")));
        assert!(!is_transient(&said("WRONGTYPE", "Operation against a key")));
        assert!(is_group_gone(&said("NOGROUP", "No such key")));
        assert!(!is_group_gone(&said("BUSYGROUP", "already exists")));
    }
}
