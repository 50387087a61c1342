//! One connection: hyper over the transport, a router behind it, until either side has had enough.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request as HyperRequest, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use crate::http::activity::Activity;
use crate::http::body::Held;
use crate::http::gate::{self, Gate};
use crate::http::limits::Limits;
use crate::http::request::Request;
use crate::http::routes::Router;
use crate::http::transport::Transport;

/// What all connections share.
pub(crate) struct Site {
    pub(crate) router: Arc<Router>,
    pub(crate) limits: Limits,
    /// What clients must pass, as of now.
    pub(crate) gate: watch::Receiver<Gate>,
    /// Called once per request with the pattern of its route and the status it is answered with.
    pub(crate) observe: Box<dyn Fn(&'static str, u16) + Send + Sync>,
    /// One permit per connection that may be served at once.
    pub(crate) places: Arc<Semaphore>,
    /// One permit per answer that may be made or sent at once.
    pub(crate) answers: Arc<Semaphore>,
}

impl Site {
    /// Whether others may have to wait.
    fn is_crowded(&self) -> bool {
        self.places.available_permits() == 0 || self.answers.available_permits() == 0
    }

    /// Resolves when the client holds up others: all is taken, and we have waited for it for too long.
    pub(crate) async fn is_held_up_by(&self, activity: &Activity) {
        let limit = self.limits.crowded;
        while !(self.is_crowded() && activity.idle() >= limit) {
            sleep(limit / 8).await;
        }
    }
}

/// Serves one stream until it ends. When the sender of `stop` is dropped it ends after the answer under way.
/// An error is one that the client caused: too large, too slow, gone.
pub(crate) async fn serve<S>(
    stream: S,
    activity: Arc<Activity>,
    site: Arc<Site>,
    mut stop: watch::Receiver<()>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limits = site.limits;
    let transport = Transport::new(stream, limits.write_stall, limits.linger, Arc::clone(&activity));
    let requests = service_fn(|request| answer(&site, &activity, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It starts when the connection is ready for a request, so it also ends idle connections.
        .header_read_timeout(limits.head)
        .max_header_size(limits.head_bytes)
        // Of what comes in, and of what goes out, besides the pieces of a body. By default it is 400 KiB.
        .max_buf_size(limits.head_bytes.max(8 * 1024) * 2)
        // Or `printf 'GET ..' | nc` would get no answer.
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

/// Answers one request, if it may be.
async fn answer(
    site: &Site,
    activity: &Activity,
    request: HyperRequest<Incoming>,
) -> Result<Response<Held>, Infallible> {
    let (head, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let is_last = activity.note_request() >= site.limits.requests;
    let request = Request::new(&head);
    let is_open = site.router.is_open(&request.path);
    let (route, reply, turn) = if is_open || is_admitted(site, &head.headers).await {
        // It is never closed.
        let turn = if is_open { None } else { Arc::clone(&site.answers).acquire_owned().await.ok() };
        let (route, reply) = site.router.answer(&request).await;
        (route, reply, turn)
    } else {
        (site.router.pattern(&request.path), gate::unauthorized(), None)
    };
    (site.observe)(route, reply.status().as_u16());
    let mut response = reply.into_response(&request).map(|frames| Held::new(frames, turn));
    if has_body {
        activity.note_unread();
    }
    // After a body that nobody reads there is no telling where the next request begins. And while all places
    // are taken an idle connection would keep out those who wait.
    if has_body || is_last || site.places.available_permits() == 0 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    activity.note_answer();
    Ok(response)
}

async fn is_admitted(site: &Site, headers: &HeaderMap) -> bool {
    let users = site.gate.borrow().users.clone();
    match users {
        Some(users) => users.admit(headers).await,
        None => true,
    }
}
