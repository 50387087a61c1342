//! Errors of attempts to notify, by what can be done about them. They hold no secret: not the path of a URL, and no
//! answer that repeats one.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::http_url::HttpUrlError;
use crate::notify::model::FailureCause;

/// An attempt to notify failed. `address` is host and port.
#[derive(Debug, Error)]
pub(super) enum NotifyError {
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
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No secure connection could be made.
    #[error("no TLS with {address}: {detail}")]
    Tls {
        address: String,
        /// What is wrong, the same as long as the cause is the same.
        detail: String,
    },
    /// The connection broke, or what came over it is no HTTP.
    #[error("no answer from {address}: {detail}")]
    Lost {
        address: String,
        /// What happened.
        detail: String,
    },
    /// The deadline passed.
    #[error("{address} did not answer within {} s", timeout.as_secs_f64())]
    Timeout {
        address: String,
        /// The deadline.
        timeout: Duration,
    },
    /// An answer other than success.
    #[error("{address} answers {status}{detail}")]
    Status {
        address: String,
        /// Its status.
        status: StatusCode,
        /// What it said: empty, or `: ` and text.
        detail: String,
        /// After which time it wants to be asked again; `None` where it does not say.
        retry_after: Option<Duration>,
    },
    /// A file that is needed to reach it, with a secret, a certificate or a key, is of no use.
    #[error("{detail}")]
    File {
        /// What is wrong with which file.
        detail: String,
    },
    /// The file that holds its URL holds none.
    #[error("the URL in the file: {source}")]
    Url {
        /// What is wrong with it.
        source: HttpUrlError,
    },
}

impl NotifyError {
    /// Returns the likely cause. A rejected payload would be rejected again; everything else passes or can be repaired
    /// while this process runs.
    pub(super) fn cause(&self) -> FailureCause {
        match self {
            Self::Lost { .. } | Self::Timeout { .. } => FailureCause::Ambiguous,
            Self::Status { status, .. } => match *status {
                StatusCode::BAD_REQUEST
                | StatusCode::LENGTH_REQUIRED
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::UNPROCESSABLE_ENTITY => FailureCause::Rejected,
                StatusCode::GATEWAY_TIMEOUT => FailureCause::Ambiguous,
                status if status.is_server_error() => FailureCause::Payload,
                _ => FailureCause::Unreachable,
            },
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::File { .. }
            | Self::Url { .. } => FailureCause::Unreachable,
        }
    }

    /// Returns the wait that the receiver asked for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_reject_the_payload_are_final() {
        for (status, cause) in [
            (301, FailureCause::Unreachable),
            (400, FailureCause::Rejected),
            (401, FailureCause::Unreachable),
            (403, FailureCause::Unreachable),
            (404, FailureCause::Unreachable),
            (408, FailureCause::Unreachable),
            (413, FailureCause::Rejected),
            (422, FailureCause::Rejected),
            (429, FailureCause::Unreachable),
            (500, FailureCause::Payload),
            (503, FailureCause::Payload),
            (504, FailureCause::Ambiguous),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = NotifyError::Status {
                address: "am:9093".into(),
                status,
                detail: String::new(),
                retry_after: None,
            };
            assert_eq!(error.cause(), cause, "{status}");
        }
        let timeout =
            NotifyError::Timeout { address: "am:9093".into(), timeout: Duration::from_millis(1500) };
        assert_eq!(timeout.cause(), FailureCause::Ambiguous);
        assert_eq!(timeout.to_string(), "am:9093 did not answer within 1.5 s");
    }
}
