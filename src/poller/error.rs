//! Errors of nodes and keys, by what the caller can do about them.

use std::io;

use crate::poller::connection::ConnectionError;
use crate::poller::pace::FullTurn;
use crate::poller::resp::ErrorReply;
use crate::self_metrics::labels::Reason;
use redis_stream_core::dial::DialError;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_core::secret::hide_secrets;
use redis_stream_core::tls::TlsError;

/// Detail of a connection that the server closed.
const CLOSED: &str = "closed by the server";

/// Prefix of the error that a server returns at its `maxclients`.
const TOO_MANY_CLIENTS: &str = "max number of clients";

/// Code of the error that a server in protected mode sends to other machines before it closes the connection.
const PROTECTED: &str = "DENIED";

/// The start of a TLS alert: what a TLS server sends that is not asked by TLS.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// Detail in place of the server's long text.
const PROTECTED_MODE: &str = "connections from other machines, as it is in protected mode; set a password there, or \
                              protected-mode no";

/// Detail for a server that needs a password.
const NO_PASSWORD: &str = "it wants a password, and none is configured; set password or password_file, or write \
                           redis://:PASSWORD@host";

/// Parts of error replies that come from a wrong setting, each with what to do.
const HINTS: [(&str, &str); 4] = [
    ("cluster support disabled", "leave out topology: cluster for a single server"),
    ("unknown command 'SENTINEL'", "expected a sentinel, usually at port 26379"),
    ("unknown command `SENTINEL`", "expected a sentinel, usually at port 26379"),
    ("DB index is out of range", "the server has fewer databases, see its setting databases"),
];

/// The most errors of a cluster's nodes in one message.
const SHOWN_ERRORS: usize = 5;

/// Why a node could not be polled.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The host name does not resolve.
    #[error("cannot resolve {host}: {source}")]
    Resolve { host: String, source: io::Error },
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        source: io::Error,
    },
    /// No secure connection could be made.
    #[error("no TLS with {address}: {detail}")]
    Tls {
        /// Host and port.
        address: String,
        /// The reason: the node's certificate, ours, or the files that hold them.
        detail: String,
    },
    /// The connection broke.
    #[error("connection to {address} lost: {detail}")]
    Lost {
        /// Host and port.
        address: String,
        detail: String,
    },
    /// The deadline passed.
    #[error("{address} did not answer within the poll's timeout")]
    Timeout {
        /// Host and port.
        address: String,
    },
    /// The node answered too slowly for the time of one poll.
    #[error("the poll's timeout is over")]
    OutOfTime,
    /// The same, with the time that would suffice.
    #[error("{0}")]
    Behind(FullTurn),
    /// The password was refused, or one is needed.
    #[error("{address} refuses the login: {detail}")]
    Auth {
        /// Host and port.
        address: String,
        detail: String,
    },
    /// The password file cannot be read.
    #[error("password file: {0}")]
    PasswordFile(
        /// The cause, with the name of the file.
        io::Error,
    ),
    /// The command that prints the password failed.
    #[error("password_command: {0}")]
    PasswordCommand(
        /// The cause, with the name of the program.
        io::Error,
    ),
    /// The node has another role than the configuration demands.
    #[error("{address} is a {actual}, not a {wanted}")]
    Role {
        /// Host and port.
        address: String,
        actual: String,
        wanted: &'static str,
    },
    /// The node is a sentinel, which holds no streams.
    #[error(
        "{address} is a sentinel, not a server; set topology: sentinel, and sentinel.urls and master_name"
    )]
    Sentinel {
        /// Host and port.
        address: String,
    },
    /// A sentinel does not know the master.
    #[error(
        "the sentinel {address} knows no master {master:?}; expected the name of a master that it monitors"
    )]
    UnknownMaster {
        /// Host and port of the sentinel.
        address: String,
        /// The master's name in the configuration.
        master: String,
    },
    /// The server returned an error that affects the whole node.
    #[error("{address} answers {code} {detail}")]
    Server {
        /// Host and port.
        address: String,
        /// First word of the error reply.
        code: String,
        detail: String,
    },
    /// A redirect to another host, which would be sent the credentials.
    #[error(
        "{address} redirects to {node}, which is not sent the password: it is another host; \
         set topology: cluster, or use the URL of that node"
    )]
    OtherHost {
        /// Host and port of the node that was asked.
        address: String,
        /// Host and port of the other node.
        node: String,
    },
    /// A node that the servers of a target name, and the configuration does not allow.
    #[error(
        "{address} is not in allowed_nodes, so it is not connected to; add its host or network there if it is one of \
         your servers"
    )]
    NodeNotAllowed {
        /// Host and port.
        address: String,
    },
    /// No node of a cluster could be asked for the others.
    #[error("no node of the cluster answers: {}", listed(.0))]
    NoNode(
        /// The error of each; at least one.
        Vec<Self>,
    ),
    /// A reply that does not have the expected form.
    #[error("{address} sent a reply that cannot be understood: {detail}")]
    Protocol {
        /// Host and port.
        address: String,
        detail: String,
    },
}

impl PollError {
    /// Returns the value of the label `reason`.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Resolve { .. } => Reason::Resolve,
            Self::Connect { .. } => Reason::Connect,
            Self::Tls { .. } => Reason::Tls,
            Self::Lost { .. } => Reason::Io,
            Self::Timeout { .. } | Self::OutOfTime | Self::Behind(_) => Reason::Timeout,
            Self::Auth { .. } => Reason::Auth,
            Self::PasswordFile(_) => Reason::PasswordFile,
            Self::PasswordCommand(_) => Reason::PasswordCommand,
            Self::Role { .. } | Self::Sentinel { .. } => Reason::Role,
            Self::UnknownMaster { .. } => Reason::Sentinel,
            Self::Server { code, .. } if code == "LOADING" => Reason::Loading,
            Self::Server { code, .. } if code == "NOPERM" => Reason::Denied,
            Self::Server { .. } => Reason::Server,
            Self::OtherHost { .. } => Reason::Moved,
            Self::NodeNotAllowed { .. } => Reason::NodeNotAllowed,
            Self::NoNode(errors) => errors.last().map_or(Reason::Connect, Self::reason),
            Self::Protocol { .. } => Reason::Protocol,
        }
    }

    /// Returns the first error, or the second if the first is only that of a slow node.
    pub(super) fn first(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(Self::OutOfTime), Some(second)) => Some(second),
            (first, second) => first.or(second),
        }
    }

    /// Returns true if the node may answer the next poll in time.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::OutOfTime)
    }

    /// Returns true if the server refuses one command (unknown, renamed, not permitted) and may answer others.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            // The server sends this in reply to the first command, and closes the connection.
            Self::Server { detail, .. } if detail.starts_with(TOO_MANY_CLIENTS) => false,
            Self::Server { code, .. } => code == "ERR" || code == "NOPERM",
            _ => false,
        }
    }

    /// Converts an error on a connection on which no command was replied to, given the bytes that were received. A
    /// server that closes the connection may say why first.
    pub(super) fn before_any_reply(self, endpoint: &Endpoint, received: &[u8]) -> Self {
        let address = endpoint.to_string();
        if received.starts_with(b"HTTP/") {
            return Self::Protocol {
                address,
                detail: "it speaks HTTP; is this the port of Redis?".to_owned(),
            };
        }
        if received.starts_with(&TLS_ALERT) {
            return Self::Protocol { address, detail: "it speaks TLS; use rediss://".to_owned() };
        }
        match (self, endpoint) {
            (Self::Lost { detail, .. }, Endpoint::Tcp(_)) if received.is_empty() && detail == CLOSED => {
                Self::Lost {
                    address,
                    detail: format!("{CLOSED} before it replied; does it want TLS (rediss://)?"),
                }
            }
            (error, _) => error,
        }
    }

    /// Returns true if the user may not run this command. Without permission for a key the reply reads differently.
    pub(super) fn is_command_denied(&self) -> bool {
        matches!(self, Self::Server { code, detail, .. } if code == "NOPERM" && detail.contains("to run the"))
    }

    pub(super) fn protocol(address: &str, error: &impl std::error::Error) -> Self {
        Self::Protocol { address: address.to_owned(), detail: error.to_string() }
    }

    /// Converts the error of dialling `address`.
    pub(super) fn from_dial(address: &str, error: DialError) -> Self {
        let address = address.to_owned();
        match error {
            DialError::Resolve { host, source } => Self::Resolve { host, source },
            DialError::Connect(source) => Self::Connect { address, source },
            DialError::Timeout => Self::Timeout { address },
            DialError::Tls(error) => Self::Tls { address, detail: error.to_string() },
        }
    }

    /// Converts the error that ended an established connection to `address`.
    pub(super) fn from_connection(address: &str, error: ConnectionError) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
        let address = address.to_owned();
        let error = match error {
            ConnectionError::Malformed(error) => {
                return Self::Protocol { address, detail: error.to_string() };
            }
            ConnectionError::Closed => return Self::Lost { address, detail: CLOSED.to_owned() },
            ConnectionError::Io(error) => error,
        };
        // The TLS alert that the peer sent before it closed the connection.
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            return Self::Tls { address, detail: error.to_string() };
        }
        match error.kind() {
            TimedOut => Self::Timeout { address },
            // One text for all of them, so that the log does not report a change of error.
            BrokenPipe | ConnectionReset | UnexpectedEof => Self::Lost { address, detail: CLOSED.to_owned() },
            _ => Self::Lost { address, detail: hide_secrets(&error.to_string()).into_owned() },
        }
    }

    /// Converts an error reply that affects the whole node.
    pub(super) fn from_reply(address: &str, error: ErrorReply<'_>) -> Self {
        let address = address.to_owned();
        let mut detail = hide_secrets(error.detail()).into_owned();
        if let Some((_, hint)) = HINTS.into_iter().find(|(part, _)| detail.contains(part)) {
            detail = format!("{detail}; {hint}");
        }
        match error.code() {
            "NOAUTH" => Self::Auth { address, detail: NO_PASSWORD.to_owned() },
            PROTECTED if detail.contains("protected mode") => {
                Self::Server { address, code: PROTECTED.to_owned(), detail: PROTECTED_MODE.to_owned() }
            }
            code @ "WRONGPASS" => Self::Auth { address, detail: format!("{code} {detail}") },
            code => Self::Server { address, code: hide_secrets(code).into_owned(), detail },
        }
    }

    /// Converts an error reply to AUTH. The reply is not quoted, since it may repeat the password.
    pub(super) fn from_auth_reply(address: &str, error: ErrorReply<'_>) -> Self {
        let (address, code) = (address.to_owned(), error.code());
        let known = match error.detail() {
            detail if code == PROTECTED && detail.contains("protected mode") => PROTECTED_MODE.to_owned(),
            detail if code == "ERR" && detail.starts_with(TOO_MANY_CLIENTS) => {
                format!("{TOO_MANY_CLIENTS} reached")
            }
            detail => return Self::Auth { address, detail: describe_auth_reply(code, detail) },
        };
        Self::Server { address, code: code.to_owned(), detail: known }
    }
}

/// Returns the first errors, and the number of the others.
fn listed(errors: &[PollError]) -> String {
    let mut parts: Vec<_> = errors.iter().take(SHOWN_ERRORS).map(ToString::to_string).collect();
    if errors.len() > SHOWN_ERRORS {
        parts.push(format!("and {} more", errors.len() - SHOWN_ERRORS));
    }
    parts.join("; ")
}

/// Describes an error reply to AUTH, without a word of it that is not known.
fn describe_auth_reply(code: &str, detail: &str) -> String {
    let is_without_password =
        || ["without any password configured", "no password is set"].iter().any(|text| detail.contains(text));
    match code {
        "WRONGPASS" => {
            "WRONGPASS invalid username-password pair or user is disabled; check user and password".to_owned()
        }
        "ERR" if detail.starts_with("unknown command") => {
            "ERR unknown command AUTH; is it renamed?".to_owned()
        }
        "ERR" if is_without_password() => {
            "ERR the server has no password for the default user; leave the password out".to_owned()
        }
        "ERR" if detail.starts_with("wrong number of arguments") => {
            "ERR wrong number of arguments; does the server know users?".to_owned()
        }
        "BUSY" | "CLUSTERDOWN" | "DENIED" | "ERR" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "NOPERM"
        | "OOM" => {
            format!("{code}; the rest of its reply is not shown, since it may repeat the password")
        }
        _ => "its reply is not shown, since it may repeat the password".to_owned(),
    }
}

/// The reason why a key, or a group of it, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    Missing,
    MissingGroup,
    /// The key holds another type.
    WrongType,
    /// The ACL refuses it.
    Denied,
    Server,
    /// A reply that does not have the expected form.
    Protocol,
}

impl KeyError {
    /// Returns the value of the label `reason`.
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

/// Classifies an error reply: it affects one key (`Ok`) or the whole node (`Err`).
pub(super) fn classify_reply(address: &str, error: ErrorReply<'_>) -> Result<KeyError, PollError> {
    match error.code() {
        "WRONGTYPE" => Ok(KeyError::WrongType),
        "NOGROUP" => Ok(KeyError::MissingGroup),
        "NOPERM" => Ok(KeyError::Denied),
        "ERR" if error.detail().starts_with("no such key") => Ok(KeyError::Missing),
        "ERR" | "MOVED" | "ASK" => Ok(KeyError::Server),
        _ => Err(PollError::from_reply(address, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::resp::{Value, Values, keep_all};

    #[test]
    fn a_reply_to_auth_keeps_its_code_and_nothing_that_may_be_the_password() {
        let rest = "; the rest of its reply is not shown, since it may repeat the password";
        let hidden = "its reply is not shown, since it may repeat the password";
        for (reply, expected) in [
            ("NOAUTH hunter2", format!("h:1 refuses the login: NOAUTH{rest}")),
            ("NOAUTH", format!("h:1 refuses the login: NOAUTH{rest}")),
            (
                "WRONGPASS hunter2",
                "h:1 refuses the login: WRONGPASS invalid username-password pair or user is disabled; check user and password"
                    .to_owned(),
            ),
            (
                "ERR unknown command 'AUTH', with args beginning with: 'hunter2'",
                "h:1 refuses the login: ERR unknown command AUTH; is it renamed?".to_owned(),
            ),
            ("ERR hunter2", format!("h:1 refuses the login: ERR{rest}")),
            ("ERR", format!("h:1 refuses the login: ERR{rest}")),
            ("MASTERDOWN Link with MASTER is down", format!("h:1 refuses the login: MASTERDOWN{rest}")),
            ("DENIED hunter2", format!("h:1 refuses the login: DENIED{rest}")),
            (
                "DENIED Redis is running in protected mode hunter2",
                format!("h:1 answers DENIED {PROTECTED_MODE}"),
            ),
            (
                "ERR max number of clients reached hunter2",
                "h:1 answers ERR max number of clients reached".to_owned(),
            ),
            ("hunter2 max number of clients", format!("h:1 refuses the login: {hidden}")),
            ("hunter2", format!("h:1 refuses the login: {hidden}")),
            ("it wants a password", format!("h:1 refuses the login: {hidden}")),
            ("", format!("h:1 refuses the login: {hidden}")),
        ] {
            let kept = keep_all(format!("-{reply}\r\n").as_bytes()).unwrap();
            let Some(Value::Error(error)) = Values::all(&kept).next() else { panic!("{reply}") };
            assert_eq!(PollError::from_auth_reply("h:1", error).to_string(), expected, "{reply}");
        }
    }
}
