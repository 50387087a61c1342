//! What a client must pass: TLS before its first request, authentication before each. Both may be changed while
//! connections go on: a new connection meets the new TLS, and a new request the new users.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::http::access::Users;
use crate::http::reply::Reply;
use crate::http::tls::Tls;

/// What a client must pass. The default lets everybody pass.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// `None`: everybody may read.
    pub users: Option<Arc<Users>>,
}

/// What is answered to who is not one of the users.
pub(crate) fn unauthorized() -> Reply {
    Reply::text(StatusCode::UNAUTHORIZED, "unauthorized\n")
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"streamgauge\", charset=\"UTF-8\""))
}
