//! Tests whether receivers can be reached: connects to each of their addresses, over TLS where the URL says so, and sends
//! nothing. For `streamgauge check`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::config::notifiers::{Alertmanager, Notifier, Receiver};
use crate::config::receiver::{Http, UrlSource};
use crate::config::receiver_url::ReceiverUrl;
use crate::notify::client::{self, Client, Post, resolve_all};
use crate::notify::error::NotifyError;
use redis_stream_core::secret::Secret;

/// The outcome for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Reached: scheme, host and port, and the address where there may be several.
    Reached(String),
    /// Not reached, or not with this configuration: names it and the cause.
    Failed(String),
}

/// Tries each address of a notifier, all at once, within its `timeout`.
pub async fn probe(notifier: &Notifier) -> Vec<Probe> {
    match &notifier.receiver {
        Receiver::Alertmanager(settings) => {
            let each = settings.urls.iter().map(|url| alertmanager(settings, url));
            join_all(each).await.into_iter().flatten().collect()
        }
        Receiver::Webhook(settings) => vec![hook(&settings.http, &settings.url, &settings.headers).await],
        Receiver::Slack(settings) => vec![hook(&settings.http, &settings.url, &BTreeMap::new()).await],
    }
}

async fn alertmanager(settings: &Alertmanager, url: &ReceiverUrl) -> Vec<Probe> {
    let client = Client::new(settings.http.clone());
    let addresses = if settings.resolve_all {
        match resolve_all(&url.address, settings.http.timeout).await {
            Ok(addresses) => addresses.into_iter().map(Some).collect(),
            Err(error) => return vec![failed(&error)],
        }
    } else {
        vec![None]
    };
    let headers = BTreeMap::new();
    join_all(addresses.into_iter().map(|at| one(&client, url, at, &headers))).await
}

async fn hook(http: &Http, source: &UrlSource, headers: &BTreeMap<String, Secret>) -> Probe {
    match client::url(source).await {
        Ok(url) => one(&Client::new(http.clone()), &url, None, headers).await,
        Err(error) => failed(&error),
    }
}

async fn one(
    client: &Client,
    url: &ReceiverUrl,
    at: Option<SocketAddr>,
    headers: &BTreeMap<String, Secret>,
) -> Probe {
    match client.reach(Post { url, at, headers, body: Bytes::new() }).await {
        Ok(()) => Probe::Reached(match at {
            None => url.to_string(),
            Some(at) => format!("{url} ({at})"),
        }),
        Err(error) => failed(&error),
    }
}

fn failed(error: &NotifyError) -> Probe {
    Probe::Failed(error.to_string())
}
