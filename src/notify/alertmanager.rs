//! Alertmanager's API, version 2. It wants to be told again and again what fires, and puts equal alerts together by
//! itself, so sending too much does no harm.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tracing::error;

use crate::alert::link;
use crate::alert::notification::Alert;
use crate::config::receiver_url::ReceiverUrl;
use crate::notify::client::{Client, Post};
use crate::notify::error::NotifyError;
use crate::notify::json::{rfc3339, write};
use crate::notify::send::{Outlet, Told};

/// Where alerts are posted to, below the URL of the configuration.
const PATH: &str = "/api/v2/alerts";
/// Requests that one batch may take, to find out which of its alerts are refused.
const MAX_REQUESTS: usize = 64;

/// One Alertmanager. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Alertmanager {
    name: Arc<str>,
    client: Client,
    url: ReceiverUrl,
    at: Option<SocketAddr>,
    external_url: Option<Arc<str>>,
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

impl Alertmanager {
    /// The one at a URL of the configuration.
    pub(super) fn new(
        name: Arc<str>,
        client: Client,
        url: &ReceiverUrl,
        external_url: Option<Arc<str>>,
    ) -> Self {
        Self { name, client, url: url.below(PATH), at: None, external_url }
    }

    /// The one at this address of its host.
    pub(super) fn at(&self, address: SocketAddr) -> Self {
        Self { at: Some(address), ..self.clone() }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &ReceiverUrl {
        &self.url
    }

    /// How it is reached.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    async fn post(&self, alerts: &[Arc<Alert>]) -> Result<(), NotifyError> {
        let body = body(alerts, self.external_url.as_deref());
        self.client.post(Post { url: &self.url, at: self.at, headers: &BTreeMap::new(), body }).await
    }

    fn note_refused(&self, alerts: &[Arc<Alert>], error: &NotifyError) {
        let labels = alerts.first().map(|alert| format!("{:?}", alert.labels));
        error!(notifier = %self.name, alerts = alerts.len(), labels, %error, "Alertmanager refuses alerts; they are not sent again");
    }
}

impl Outlet for Alertmanager {
    type Parcel = Vec<Arc<Alert>>;

    /// A batch that is refused is sent in halves, so that one bad alert holds up no other.
    async fn deliver(&mut self, batch: &Self::Parcel) -> Result<Told, NotifyError> {
        let mut told = Told::default();
        let mut requests = 0;
        let mut parts = vec![batch.as_slice()];
        while let Some(part) = parts.pop() {
            requests += 1;
            match self.post(part).await {
                Ok(()) => told.delivered += part.len(),
                Err(error) if !error.is_about_the_content() => return Err(error),
                Err(error) if part.len() == 1 || requests + parts.len() >= MAX_REQUESTS => {
                    told.rejected += part.len();
                    self.note_refused(part, &error);
                }
                Err(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(told)
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
