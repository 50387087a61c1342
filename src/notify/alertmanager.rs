//! Alertmanager's API, version 2. Alertmanager needs firing alerts repeatedly and groups and deduplicates them itself, so
//! that sending an alert twice does no harm.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use serde::Serialize;
use tokio::time::Instant;
use tracing::warn;

use crate::alert::link;
use crate::alert::notification::Alert;
use crate::config::notifiers;
use crate::http_url::HttpUrl;
use crate::notify::client::{Client, Post, resolve_all};
use crate::notify::error::NotifyError;
use crate::notify::model::{Batch, FailureCause, ProbeResult, Sent};
use crate::notify::notifier::Notifier;
use crate::notify::render::{rfc3339, write};
use redis_stream_core::clock::now;

/// Where alerts are posted to, below the URL of the configuration.
const PATH: &str = "/api/v2/alerts";
/// An endpoint that did not answer in time is left out for this time while others answer, so that a dead one delays
/// them by one request timeout only. The evaluator's reminders make up for what it missed.
const SUSPENDED_FOR: Duration = Duration::from_secs(30);

/// The Alertmanagers of one notifier: all addresses behind each of its URLs.
pub(super) struct Alertmanagers {
    name: Arc<str>,
    client: Client,
    urls: Vec<HttpUrl>,
    resolve_all: bool,
    external_url: Option<Arc<str>>,
    states: Mutex<BTreeMap<Endpoint, EndpointState>>,
}

/// A URL by its position, and an address of its host, where each is sent to.
type Endpoint = (usize, Option<SocketAddr>);

/// An endpoint and the outcome of its request; an error if its host name did not resolve.
type Outcome = Result<(Endpoint, Result<(), NotifyError>), NotifyError>;

#[derive(Default)]
struct EndpointState {
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

impl Alertmanagers {
    pub(super) fn new(
        name: Arc<str>,
        client: Client,
        settings: &notifiers::Alertmanager,
        external_url: Option<Arc<str>>,
    ) -> Self {
        let urls = settings.urls.iter().map(|url| url.below(PATH)).collect();
        let resolve_all = settings.resolve_all;
        Self { name, client, urls, resolve_all, external_url, states: Mutex::default() }
    }

    async fn endpoints(&self) -> Vec<Result<Endpoint, NotifyError>> {
        let resolving = self.urls.iter().enumerate().map(|(position, url)| self.resolve(position, url));
        join_all(resolving).await.into_iter().flatten().collect()
    }

    /// Resolves the endpoints of one URL. An error stands for the whole URL.
    async fn resolve(&self, position: usize, url: &HttpUrl) -> Vec<Result<Endpoint, NotifyError>> {
        if !self.resolve_all {
            return vec![Ok((position, None))];
        }
        match resolve_all(&url.address, self.client.timeout()).await {
            Ok(addresses) => addresses.into_iter().map(|address| Ok((position, Some(address)))).collect(),
            Err(error) => vec![Err(error)],
        }
    }

    /// Leaves out endpoints that are suspended, unless all are.
    fn not_suspended(
        &self,
        resolved: Vec<Result<Endpoint, NotifyError>>,
    ) -> Vec<Result<Endpoint, NotifyError>> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let is_suspended = |endpoint: &Result<Endpoint, NotifyError>| {
            let state = endpoint.as_ref().ok().and_then(|endpoint| states.get(endpoint));
            state.is_some_and(|state| state.suspended_until.is_some_and(|until| now() < until))
        };
        let (suspended, others): (Vec<_>, Vec<_>) = resolved.into_iter().partition(is_suspended);
        if others.iter().any(Result::is_ok) { others } else { others.into_iter().chain(suspended).collect() }
    }

    async fn post(&self, (position, at): Endpoint, body: Bytes) -> Result<(), NotifyError> {
        let url = &self.urls[position];
        self.client.post(Post { url, at, headers: &BTreeMap::new(), body, secrets: &[] }).await
    }

    /// Logs the failure of one endpoint when it changes; failures of all of them are the send loop's.
    fn note_outcome(&self, endpoint: Endpoint, outcome: &Result<(), NotifyError>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(endpoint).or_default();
        let problem = outcome.as_ref().err().map(ToString::to_string);
        let has_timed_out = matches!(outcome, Err(NotifyError::Timeout { .. }));
        state.suspended_until = has_timed_out.then(|| now() + SUSPENDED_FOR);
        if let Some(error) = problem.as_ref().filter(|_| state.problem != problem) {
            warn!(notifier = %self.name, error, "cannot notify one of several Alertmanagers; others accept notifications");
        }
        state.problem = problem;
    }
}

impl Notifier for Alertmanagers {
    /// Sends the batch to all endpoints in parallel. It is sent once one of them accepts it; what another one missed, the
    /// next reminder brings.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Sent, NotifyError>> {
        async move {
            let endpoints = self.endpoints().await;
            let body = body(&batch.changed, self.external_url.as_deref());
            let sending = self.not_suspended(endpoints).into_iter().map(async |endpoint| {
                let endpoint = endpoint?;
                Ok((endpoint, self.post(endpoint, body.clone()).await))
            });
            self.combine(batch, join_all(sending).await)
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Vec<ProbeResult>> {
        async move {
            let probing = self.endpoints().await.into_iter().map(async |endpoint| {
                let (position, at) = endpoint?;
                let url = &self.urls[position];
                let (headers, body) = (&BTreeMap::new(), Bytes::new());
                self.client.reach(Post { url, at, headers, body, secrets: &[] }).await?;
                Ok::<_, NotifyError>(at.map_or(url.to_string(), |at| format!("{url} ({at})")))
            });
            let result = |outcome| match outcome {
                Ok(address) => ProbeResult::Reached(address),
                Err(error) => ProbeResult::Failed(NotifyError::to_string(&error)),
            };
            join_all(probing).await.into_iter().map(result).collect()
        }
        .boxed()
    }
}

impl Alertmanagers {
    fn combine(&self, batch: &Batch, outcomes: Vec<Outcome>) -> Result<Sent, NotifyError> {
        let alerts = batch.counted();
        let mut sent = Sent::default();
        let is_accepted = outcomes.iter().any(|outcome| matches!(outcome, Ok((_, Ok(())))));
        let mut errors = Vec::new();
        for outcome in outcomes {
            let outcome = outcome.and_then(|(endpoint, outcome)| {
                if is_accepted {
                    self.note_outcome(endpoint, &outcome);
                }
                outcome
            });
            match outcome {
                Ok(()) => sent.delivered += alerts,
                Err(error) => {
                    match error.cause() {
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
        // A rejection is final, and the payload a likelier cause than the network.
        errors.sort_by_key(|error| match error.cause() {
            FailureCause::Rejected => 0,
            FailureCause::Payload => 1,
            FailureCause::Ambiguous => 2,
            FailureCause::Unreachable => 3,
        });
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(sent),
        }
    }
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
