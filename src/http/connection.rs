//! Serves one connection: hyper over the transport, [`Routes`] behind it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request as HyperRequest, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use crate::http::access::{self, AccessControl, Admission};
use crate::http::activity::Activity;
use crate::http::body::Frames;
use crate::http::limits::ServerLimits;
use crate::http::request::Request;
use crate::http::routes::Routes;
use crate::http::transport::Transport;

/// State shared by the connections of a server.
pub(crate) struct ServerState<R> {
    pub(crate) routes: Arc<R>,
    pub(crate) limits: ServerLimits,
    pub(crate) access: watch::Receiver<AccessControl>,
    /// Called with the route and status of each reply.
    pub(crate) observe: Box<dyn Fn(&'static str, u16) + Send + Sync>,
    pub(crate) connection_permits: Arc<Semaphore>,
    /// Permits to make and send a reply.
    pub(crate) reply_permits: Arc<Semaphore>,
}

impl<R: Routes> ServerState<R> {
    fn is_full(&self) -> bool {
        self.connection_permits.available_permits() == 0 || self.reply_permits.available_permits() == 0
    }

    /// Waits until the client has been idle for too long while others may be waiting.
    pub(crate) async fn is_held_up_by(&self, activity: &Activity) {
        activity.until_idle(self.limits.crowded, || self.is_full()).await;
    }
}

/// Serves one stream until it ends, or until the reply in progress is sent once the sender of `stop` is dropped. Returns
/// only errors caused by the client: a request too large or too slow, a closed connection.
pub(crate) async fn serve<S, R>(
    stream: S,
    activity: Arc<Activity>,
    state: Arc<ServerState<R>>,
    mut stop: watch::Receiver<()>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Routes,
{
    let limits = state.limits;
    let transport = Transport::new(stream, limits.write_stall, limits.linger, Arc::clone(&activity));
    let requests = service_fn(|request| answer(&state, &activity, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Runs from the moment the connection is ready for a request, so it also ends idle connections.
        .header_read_timeout(limits.head)
        .max_header_size(limits.head_bytes)
        // For both directions, without the chunks of bodies. The default is 400 KiB.
        .max_buf_size(limits.head_bytes.max(8 * 1024) * 2)
        // Without it `printf 'GET ..' | nc` gets no answer.
        .half_close(true)
        .serve_connection(TokioIo::new(transport), requests);
    let mut connection = pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn answer<R: Routes>(
    state: &ServerState<R>,
    activity: &Activity,
    request: HyperRequest<Incoming>,
) -> Result<Response<Frames>, Infallible> {
    let (head, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let is_last = activity.note_request() >= state.limits.requests;
    let request = Request::new(&head);
    let route = state.routes.route(&request.path);
    let is_open = state.routes.is_open(route);
    let access = state.access.borrow().clone();
    let admission = if is_open { Admission::Granted } else { access.admit(&head.headers).await };
    let (reply, permit) = match admission {
        Admission::Granted if is_open => (state.routes.reply(route, &request).await, None),
        Admission::Granted => {
            // The semaphore is never closed.
            let permit = Arc::clone(&state.reply_permits).acquire_owned().await.ok();
            (state.routes.reply(route, &request).await, permit)
        }
        Admission::Denied => (access::unauthorized(), None),
        Admission::Busy => (access::busy(), None),
    };
    (state.observe)(route, reply.status().as_u16());
    let mut response = reply.into_response(&request);
    response.body_mut().permit = permit;
    if has_body {
        activity.note_unread();
    }
    // After an unread body the start of the next request is unknown. And while all permits are taken an idle connection
    // would keep waiting clients out.
    if has_body || is_last || state.connection_permits.available_permits() == 0 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    activity.note_answer();
    Ok(response)
}
