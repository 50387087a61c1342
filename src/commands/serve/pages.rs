//! Replies with HTML pages and their assets, and the headers that restrict what browsers do with them.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY};

use crate::commands::serve::target_tasks::Targets;
use crate::commands::target_snapshots::target_snapshot;
use crate::http::body::Body;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::page::assets::Asset;
use crate::page::group::{self, GroupPath};
use crate::page::model::{PageModel, TargetModel};
use crate::page::overview;
use crate::page::overview::query::OverviewQuery;
use crate::page::stream::{self, StreamPath};
use redis_stream_core::clock::{now, unix_time};

const HTML: &str = "text/html; charset=utf-8";
/// Everything comes from this server, nothing is inline, and no site may show a page in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Longest time between two refreshes of an open page.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// The path of an asset has a hash of its content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

pub(super) fn overview(targets: &Targets, request: &Request) -> Reply {
    let (model, query) = (model(targets), OverviewQuery::read(&request.query));
    // Rendered off the reactor: it may search and sort thousands of groups.
    let body = Body::stream(move |out| out.write_all(overview::render(&model, &query).as_bytes()));
    page(StatusCode::OK, body)
}

pub(super) fn group(targets: &Targets, request: &Request) -> Reply {
    let parts: Vec<_> = request.path_parts().skip(1).collect();
    let Some(path) = GroupPath::read(&parts) else { return Reply::not_found() };
    let model = model(targets);
    let status = if group::may_exist(&model, &path) { StatusCode::OK } else { StatusCode::NOT_FOUND };
    // Rendered off the reactor: the group may have thousands of consumers.
    let body = Body::stream(move |out| out.write_all(group::render(&model, &path).as_bytes()));
    page(status, body)
}

pub(super) fn stream(targets: &Targets, request: &Request) -> Reply {
    let parts: Vec<_> = request.path_parts().skip(1).collect();
    let Some(path) = StreamPath::read(&parts) else { return Reply::not_found() };
    let model = model(targets);
    let status = if stream::may_exist(&model, &path) { StatusCode::OK } else { StatusCode::NOT_FOUND };
    // Rendered off the reactor: the stream may have a thousand groups.
    let body = Body::stream(move |out| out.write_all(stream::render(&model, &path).as_bytes()));
    page(status, body)
}

pub(super) fn asset(path: &str) -> Reply {
    match Asset::at(path) {
        Some(asset) => Reply::new(StatusCode::OK, asset.content_type, Body::Whole(asset.text.into()))
            .header(CACHE_CONTROL, HeaderValue::from_static(FOR_EVER)),
        None => Reply::not_found(),
    }
}

fn page(status: StatusCode, body: Body) -> Reply {
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    headers.into_iter().fold(Reply::new(status, HTML, body), |reply, (name, value)| {
        reply.header(name, HeaderValue::from_static(value))
    })
}

fn model(targets: &Targets) -> PageModel {
    let now = now();
    let mut interval = LONGEST_INTERVAL;
    let models = targets.iter().map(|(labels, state)| {
        // Borrowed once: report and history are of the same poll.
        let state = state.borrow();
        // The first poll ends soon.
        interval = interval.min(if state.was_tried { state.interval } else { Duration::ZERO });
        let snapshot = target_snapshot(labels, &state, now);
        let last = state.published.as_ref().filter(|_| snapshot.report.is_none());
        TargetModel {
            snapshot,
            old_report: last.map(|published| Arc::clone(&published.last)),
            server: state.server.clone(),
            history: Arc::clone(last.map_or(&state.history, |published| &published.last_history)),
            events: Arc::clone(&state.events),
            active: Arc::clone(&state.alerts.active),
        }
    });
    let models = models.collect();
    // The same for all targets.
    let links = targets.first().map(|(_, state)| Arc::clone(&state.borrow().links)).unwrap_or_default();
    PageModel { targets: models, now: unix_time(), interval, links }
}
