//! Alertmanager's API, version 2. Alertmanager needs firing alerts repeatedly and groups and deduplicates them itself, so
//! that sending an alert twice does no harm.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all, select_ok};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::alert::link;
use crate::alert::notification::Alert;
use crate::config::notifiers;
use crate::format::units::rfc3339;
use crate::http_client::{HttpClient, HttpError, HttpRequest};
use crate::http_url::HttpUrl;
use crate::notify::model::{Batch, FailureCause, ProbeResult, Sent};
use crate::notify::notifier::{Notifier, classify};
use crate::notify::render::write;
use redis_stream_core::clock::now;
use redis_stream_core::dial::{DialError, resolve};
use redis_stream_core::redis_url::Address;

/// Path of the API below the configured URL.
const PATH: &str = "/api/v2/alerts";
/// An endpoint that did not answer in time is left out for this time while others answer, so that a dead one delays
/// them by one request timeout only. The evaluator's reminders make up for what it missed.
const SUSPENDED_FOR: Duration = Duration::from_secs(30);
/// Longest time to find the address family by which a host can be reached.
const FAMILY_TIMEOUT: Duration = Duration::from_secs(2);

/// The Alertmanagers of one notifier: all addresses behind each of its URLs.
pub(super) struct AlertmanagerSet {
    name: Arc<str>,
    client: HttpClient,
    urls: Vec<HttpUrl>,
    resolve_all: bool,
    external_url: Option<Arc<str>>,
    states: Mutex<BTreeMap<Instance, InstanceState>>,
}

/// The index of a URL, and an address of its host if each is a separate Alertmanager.
type Instance = (usize, Option<SocketAddr>);

/// A request to one endpoint.
struct Attempt {
    endpoint: Instance,
    result: Result<(), HttpError>,
    duration: Duration,
}

#[derive(Default)]
struct InstanceState {
    suspended_until: Option<Instant>,
    /// Logged when it changes.
    problem: Option<String>,
}

/// An alert as the API takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert<'a> {
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    /// In the past: it is resolved.
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

impl AlertmanagerSet {
    pub(super) fn new(
        name: Arc<str>,
        client: HttpClient,
        settings: &notifiers::Alertmanager,
        external_url: Option<Arc<str>>,
    ) -> Self {
        let urls = settings.urls.iter().map(|url| url.below(PATH)).collect();
        let resolve_all = settings.resolve_all;
        Self { name, client, urls, resolve_all, external_url, states: Mutex::default() }
    }

    async fn endpoints(&self) -> Vec<Result<Instance, HttpError>> {
        let resolving = self.urls.iter().enumerate().map(|(index, url)| self.resolve(index, url));
        join_all(resolving).await.into_iter().flatten().collect()
    }

    /// Resolves the endpoints of one URL. An error stands for the whole URL.
    async fn resolve(&self, index: usize, url: &HttpUrl) -> Vec<Result<Instance, HttpError>> {
        if !self.resolve_all {
            return vec![Ok((index, None))];
        }
        match resolve_all(&url.address, self.client.timeout()).await {
            Ok(addresses) => addresses.into_iter().map(|address| Ok((index, Some(address)))).collect(),
            Err(cause) => vec![Err(HttpError::Dial { address: url.address.to_string(), cause })],
        }
    }

    /// Leaves out endpoints that are suspended, unless all are.
    fn not_suspended(&self, resolved: Vec<Result<Instance, HttpError>>) -> Vec<Result<Instance, HttpError>> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let is_suspended = |endpoint: &Result<Instance, HttpError>| {
            let state = endpoint.as_ref().ok().and_then(|endpoint| states.get(endpoint));
            state.is_some_and(|state| state.suspended_until.is_some_and(|until| now() < until))
        };
        let (suspended, others): (Vec<_>, Vec<_>) = resolved.into_iter().partition(is_suspended);
        if others.iter().any(Result::is_ok) { others } else { others.into_iter().chain(suspended).collect() }
    }

    fn request(&self, (index, at): Instance) -> HttpRequest<'_> {
        HttpRequest { at, ..HttpRequest::to(&self.urls[index]) }
    }

    async fn post(&self, endpoint: Instance, body: Bytes) -> Attempt {
        let began = now();
        let result = self.client.post(HttpRequest { body, ..self.request(endpoint) }).await;
        Attempt { endpoint, result, duration: now() - began }
    }

    /// Logs the failure of one endpoint when it changes; failures of all of them are the send loop's.
    fn note_outcome(&self, attempt: &Attempt) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(attempt.endpoint).or_default();
        let problem = attempt.result.as_ref().err().map(ToString::to_string);
        let has_timed_out = problem.is_some() && attempt.duration >= self.client.timeout();
        state.suspended_until = has_timed_out.then(|| now() + SUSPENDED_FOR);
        if let Some(error) = problem.as_ref().filter(|_| state.problem != problem) {
            warn!(notifier = %self.name, error, "cannot notify one of several Alertmanagers; others accept notifications");
        }
        state.problem = problem;
    }
}

impl Notifier for AlertmanagerSet {
    /// Sends the batch to all endpoints in parallel. It is sent once one of them accepts it; what another one missed, the
    /// next reminder brings.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Sent, HttpError>> {
        async move {
            let endpoints = self.endpoints().await;
            let body = body(&batch.changed, self.external_url.as_deref());
            let sending = self
                .not_suspended(endpoints)
                .into_iter()
                .map(async |endpoint| Ok(self.post(endpoint?, body.clone()).await));
            self.combine(batch, join_all(sending).await)
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Vec<ProbeResult>> {
        async move {
            let probing = self.endpoints().await.into_iter().map(async |endpoint| {
                let request = self.request(endpoint?);
                let (url, at) = (request.url, request.at);
                self.client.probe(request).await?;
                Ok::<_, HttpError>(at.map_or(url.to_string(), |at| format!("{url} ({at})")))
            });
            let outcomes = join_all(probing).await.into_iter();
            outcomes.map(|outcome| outcome.map_err(|error| error.to_string())).collect()
        }
        .boxed()
    }
}

impl AlertmanagerSet {
    /// Combines the attempts; an error among them is that of a URL whose host did not resolve.
    fn combine(&self, batch: &Batch, attempts: Vec<Result<Attempt, HttpError>>) -> Result<Sent, HttpError> {
        let alerts = batch.counted();
        let mut sent = Sent::default();
        let is_success =
            |attempt: &Result<Attempt, _>| attempt.as_ref().is_ok_and(|made| made.result.is_ok());
        let is_accepted = attempts.iter().any(is_success);
        let mut errors = Vec::new();
        for attempt in attempts {
            let result = attempt.and_then(|attempt| {
                if is_accepted {
                    self.note_outcome(&attempt);
                }
                attempt.result
            });
            match result {
                Ok(()) => sent.delivered += alerts,
                Err(error) => {
                    match classify(&error) {
                        FailureCause::Rejected => sent.rejected += alerts,
                        _ => sent.failed += alerts,
                    }
                    errors.push(error);
                }
            }
        }
        if is_accepted {
            return Ok(sent);
        }
        errors.into_iter().min_by_key(classify).map_or(Ok(sent), Err)
    }
}

/// Resolves the addresses of a host that are all sent to.
async fn resolve_all(host: &Address, within: Duration) -> Result<Vec<SocketAddr>, DialError> {
    let found = timeout(within, resolve(host)).await;
    let no_answer = io::Error::other(format!("no answer within {} s", within.as_secs_f64()));
    let timed_out = |_| Err(DialError::Resolve { host: host.host.clone(), source: no_answer });
    Ok(of_one_family(found.unwrap_or_else(timed_out)?).await)
}

/// Selects one address family: `localhost` mostly stands for two addresses of one server, which may listen on one of
/// them only.
async fn of_one_family(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    if others.is_empty() || is_reachable(&preferred).await || !is_reachable(&others).await {
        return preferred;
    }
    others
}

async fn is_reachable(addresses: &[SocketAddr]) -> bool {
    let attempts = addresses.iter().map(|address| Box::pin(TcpStream::connect(*address)));
    matches!(timeout(FAMILY_TIMEOUT, select_ok(attempts)).await, Ok(Ok(_)))
}

fn body(alerts: &[Arc<Alert>], external_url: Option<&str>) -> Bytes {
    let alerts = alerts.iter().map(|alert| PostableAlert {
        labels: &alert.labels,
        annotations: &alert.annotations,
        starts_at: rfc3339(alert.starts_at),
        ends_at: rfc3339(alert.ends_at),
        generator_url: external_url.map(|url| link::of_alert(url, &alert.labels)),
    });
    write(&alerts.collect::<Vec<_>>())
}
