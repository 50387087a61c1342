//! The interface between the send loop and the kinds of receivers, and the meaning of their errors.

use futures_util::future::BoxFuture;
use hyper::StatusCode;

use crate::http_client::HttpError;
use crate::notify::model::{Batch, FailureCause, ProbeResult, Sent};

/// Sends notifications to one receiver.
pub(super) trait Notifier: Send + Sync {
    /// Makes one attempt to send a batch.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Sent, HttpError>>;

    /// Connects to each address, over TLS where the URL says so, and sends nothing.
    fn probe(&self) -> BoxFuture<'_, Vec<ProbeResult>>;
}

/// Returns the likely cause. A rejected payload would be rejected again; everything else passes or can be repaired while
/// this process runs.
pub(super) fn classify(error: &HttpError) -> FailureCause {
    match error {
        HttpError::Lost { .. } | HttpError::Timeout { .. } => FailureCause::Ambiguous,
        HttpError::Status { status, .. } => match *status {
            StatusCode::BAD_REQUEST
            | StatusCode::LENGTH_REQUIRED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => FailureCause::Rejected,
            StatusCode::GATEWAY_TIMEOUT => FailureCause::Ambiguous,
            status if status.is_server_error() => FailureCause::Payload,
            _ => FailureCause::Unreachable,
        },
        HttpError::Dial { .. } | HttpError::File { .. } | HttpError::Url { .. } => FailureCause::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn responses_that_reject_the_payload_are_final() {
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
            let error = HttpError::Status {
                address: "am:9093".into(),
                status,
                detail: String::new(),
                retry_after: None,
            };
            assert_eq!(classify(&error), cause, "{status}");
        }
        let timeout = HttpError::Timeout { address: "am:9093".into(), timeout: Duration::from_millis(1500) };
        assert_eq!(classify(&timeout), FailureCause::Ambiguous);
        assert_eq!(timeout.to_string(), "am:9093 did not answer within 1.5 s");
    }
}
