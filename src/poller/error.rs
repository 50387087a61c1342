//! What can go wrong with a node, by what can be done about it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::ServerErrorKind;

use crate::self_metrics::labels::Reason;
use redis_stream_core::dial::DialError;
use redis_stream_core::tls::TlsError;

/// How a connection ends that this side did not end.
const CLOSED: &str = "closed by the server";

/// How the detail of the error begins that a server at its `maxclients` answers with.
const TOO_MANY_CLIENTS: &str = "max number of clients";

/// Why a node could not be polled.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The host name does not resolve.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The host name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No secure connection could be made.
    #[error("no TLS with {address}: {detail}")]
    Tls {
        /// Host and port.
        address: String,
        /// What is wrong with its certificate, with ours, or with the files that hold them.
        detail: String,
    },
    /// The connection broke.
    #[error("connection to {address} lost: {detail}")]
    Lost {
        /// Host and port.
        address: String,
        /// What happened.
        detail: String,
    },
    /// The deadline passed.
    #[error("{address} did not answer within the poll's timeout")]
    Timeout {
        /// Host and port.
        address: String,
    },
    /// The password was refused, or one is needed.
    #[error("{address} refuses the login: {detail}")]
    Auth {
        /// Host and port.
        address: String,
        /// What the server said.
        detail: String,
    },
    /// The password file cannot be read.
    #[error("password file: {0}")]
    PasswordFile(
        /// What the system said, with the name of the file.
        io::Error,
    ),
    /// The node is not what the configuration wants it to be.
    #[error("{address} is a {actual}, not a {wanted}")]
    Role {
        /// Host and port.
        address: String,
        /// What it is.
        actual: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A sentinel does not know the master.
    #[error("the sentinel {address} knows no master {master:?}; expected the name that it monitors it by")]
    Sentinel {
        /// Host and port of the sentinel.
        address: String,
        /// What the configuration calls the master.
        master: String,
    },
    /// The server answers with an error that concerns all of it.
    #[error("{address} answers {code} {detail}")]
    Server {
        /// Host and port.
        address: String,
        /// First word of the error reply.
        code: String,
        /// The rest of it.
        detail: String,
    },
    /// A reply that does not have the expected form.
    #[error("{address} sent a reply that cannot be understood: {detail}")]
    Protocol {
        /// Host and port.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl PollError {
    /// The value of the label `reason`.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Resolve { .. } => Reason::Resolve,
            Self::Connect { .. } => Reason::Connect,
            Self::Tls { .. } => Reason::Tls,
            Self::Lost { .. } => Reason::Io,
            Self::Timeout { .. } => Reason::Timeout,
            Self::Auth { .. } => Reason::Auth,
            Self::PasswordFile(_) => Reason::PasswordFile,
            Self::Role { .. } => Reason::Role,
            Self::Sentinel { .. } => Reason::Sentinel,
            Self::Server { code, .. } if code == "LOADING" => Reason::Loading,
            Self::Server { code, .. } if code == "NOPERM" => Reason::Denied,
            Self::Server { .. } => Reason::Server,
            Self::Protocol { .. } => Reason::Protocol,
        }
    }

    /// Whether the server refuses one command (not known, renamed, not allowed) and may answer others.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            // Said in place of a reply to whatever comes first, before it hangs up.
            Self::Server { detail, .. } if detail.starts_with(TOO_MANY_CLIENTS) => false,
            Self::Server { code, .. } => code == "ERR" || code == "NOPERM",
            _ => false,
        }
    }

    /// What the error is where it came in answer to a login.
    pub(super) fn into_auth(self) -> Self {
        match self {
            Self::Server { address, code, detail } if !detail.starts_with(TOO_MANY_CLIENTS) => {
                Self::Auth { address, detail: format!("{code} {detail}") }
            }
            error => error,
        }
    }

    /// From what kept a connection to `address` from being made.
    pub(super) fn from_dial(address: &str, error: DialError) -> Self {
        let address = address.to_owned();
        match error {
            DialError::Resolve { host, source } => Self::Resolve { host, source },
            DialError::Connect(source) => Self::Connect { address, source },
            DialError::Timeout => Self::Timeout { address },
            DialError::Tls(error) => Self::Tls { address, detail: error.to_string() },
        }
    }

    /// From an error of the client library on an established connection to `address`.
    pub(super) fn from_redis(address: &str, error: &redis::RedisError) -> Self {
        let address = address.to_owned();
        match error.kind() {
            // A reply that was cut short looks like one that cannot be parsed.
            redis::ErrorKind::Parse if !error.to_string().contains("end of input") => {
                Self::Protocol { address, detail: "it is not RESP".to_owned() }
            }
            redis::ErrorKind::Parse => Self::Lost { address, detail: CLOSED.to_owned() },
            redis::ErrorKind::Io if tls_complaint(error).is_some() => {
                Self::Tls { address, detail: tls_complaint(error).unwrap_or_default() }
            }
            redis::ErrorKind::Io if error.is_timeout() => Self::Timeout { address },
            // Whether a read or a write meets it first is chance, and no change worth a line in the log.
            _ if error.is_connection_dropped() => Self::Lost { address, detail: CLOSED.to_owned() },
            _ => Self::Lost { address, detail: error.to_string() },
        }
    }

    /// From an error reply that concerns the whole node, not one key.
    pub(super) fn from_reply(address: &str, error: &redis::ServerError) -> Self {
        let (address, detail) = (address.to_owned(), error.details().unwrap_or_default().to_owned());
        match error.code() {
            code @ ("NOAUTH" | "WRONGPASS") => Self::Auth { address, detail: format!("{code} {detail}") },
            code => Self::Server { address, code: code.to_owned(), detail },
        }
    }
}

/// What the other side of a secured connection complained of before it closed it.
fn tls_complaint(error: &redis::RedisError) -> Option<String> {
    // The library keeps what a stream says behind an `Arc`, which is an error by itself.
    let shared = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    let inner = shared.downcast_ref::<io::Error>()?.get_ref()?;
    inner.downcast_ref::<TlsError>().map(ToString::to_string)
}

/// Why one key, or one group of it, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    /// No such key.
    Missing,
    /// No such group.
    MissingGroup,
    /// Another type.
    WrongType,
    /// The ACL refuses it.
    Denied,
    /// Another error reply.
    Server,
    /// A reply that does not have the expected form.
    Protocol,
}

impl KeyError {
    /// The value of the label `reason`.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Missing => Reason::MissingKey,
            Self::MissingGroup => Reason::MissingGroup,
            Self::WrongType => Reason::WrongType,
            Self::Denied => Reason::Denied,
            Self::Server => Reason::Server,
            Self::Protocol => Reason::Protocol,
        }
    }
}

/// Whom an error reply concerns: one key (`Ok`), or the whole node (`Err`).
pub(super) fn concern(address: &str, error: &redis::ServerError) -> Result<KeyError, PollError> {
    match (error.code(), error.kind()) {
        ("WRONGTYPE", _) => Ok(KeyError::WrongType),
        ("NOGROUP", _) => Ok(KeyError::MissingGroup),
        (_, Some(ServerErrorKind::NoPerm)) => Ok(KeyError::Denied),
        (_, Some(ServerErrorKind::ResponseError))
            if error.details().is_some_and(|detail| detail.starts_with("no such key")) =>
        {
            Ok(KeyError::Missing)
        }
        (_, Some(ServerErrorKind::ResponseError | ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
            Ok(KeyError::Server)
        }
        _ => Err(PollError::from_reply(address, error)),
    }
}
