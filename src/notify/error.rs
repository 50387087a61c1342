//! Why a receiver could not be told, by what can be done about it. Nothing here holds a secret: not the path of
//! a URL, and of what a receiver answers only what does not repeat one.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::config::receiver_url::ReceiverUrlError;

/// Why a receiver could not be told. `address` is host and port.
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
        source: ReceiverUrlError,
    },
}

impl NotifyError {
    /// Whether the receiver takes offence at what it was sent, and would at the same again. All else passes, or
    /// can be mended by others while this program runs.
    pub(super) fn is_about_the_content(&self) -> bool {
        matches!(
            self,
            Self::Status {
                status: StatusCode::BAD_REQUEST
                    | StatusCode::LENGTH_REQUIRED
                    | StatusCode::PAYLOAD_TOO_LARGE
                    | StatusCode::UNSUPPORTED_MEDIA_TYPE
                    | StatusCode::UNPROCESSABLE_ENTITY,
                ..
            }
        )
    }

    /// Whether it may be what was sent that the receiver, or something on the way to it, breaks down over, so that
    /// anything else would get through.
    pub(super) fn may_be_about_the_content(&self) -> bool {
        self.status().is_some_and(|status| status.is_server_error()) || self.is_without_answer()
    }

    /// Whether the receiver may still take up what it was sent: nobody said what became of it.
    pub(super) fn may_come_late(&self) -> bool {
        self.status() == Some(StatusCode::GATEWAY_TIMEOUT) || self.is_without_answer()
    }

    fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it was sent, and nothing was said to it.
    fn is_without_answer(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Timeout { .. } => true,
            Self::Status { .. }
            | Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::File { .. }
            | Self::Url { .. } => false,
        }
    }

    /// After which time the receiver wants to be asked again; `None` where it does not say.
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
    fn only_answers_about_the_content_are_final() {
        for (status, is_final, may_be, may_come_late) in [
            (301, false, false, false),
            (400, true, false, false),
            (401, false, false, false),
            (403, false, false, false),
            (404, false, false, false),
            (408, false, false, false),
            (413, true, false, false),
            (422, true, false, false),
            (429, false, false, false),
            (500, false, true, false),
            (503, false, true, false),
            (504, false, true, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = NotifyError::Status {
                address: "am:9093".into(),
                status,
                detail: String::new(),
                retry_after: None,
            };
            assert_eq!(error.is_about_the_content(), is_final, "{status}");
            assert_eq!(error.may_be_about_the_content(), may_be, "{status}");
            assert_eq!(error.may_come_late(), may_come_late, "{status}");
        }
        let timeout =
            NotifyError::Timeout { address: "am:9093".into(), timeout: Duration::from_millis(1500) };
        assert!(!timeout.is_about_the_content() && timeout.may_be_about_the_content());
        assert!(timeout.may_come_late());
        assert_eq!(timeout.to_string(), "am:9093 did not answer within 1.5 s");
    }
}
