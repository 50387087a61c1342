//! Whether receivers can be reached: connects to each of their addresses, over TLS where the URL says so, and sends
//! nothing. For `streamgauge check`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::config::notifiers::{Alertmanager, Http, Notifier, Receiver, UrlSource};
use crate::config::receiver_url::ReceiverUrl;
use crate::notify::client::{self, Client, Post};
use crate::notify::error::NotifyError;
use crate::notify::fan::look_up;
use redis_stream_core::secret::Secret;

/// What came of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It was reached. Scheme, host and port, and the address where there may be several.
    Reached(String),
    /// It was not, or would not be with what is configured. Names it, and says why.
    Failed(String),
}

/// Tries each address of a notifier, all at once, within its `timeout`.
pub async fn reach(notifier: &Notifier) -> Vec<Reach> {
    match &notifier.receiver {
        Receiver::Alertmanager(settings) => {
            let each = settings.urls.iter().map(|url| alertmanager(settings, url));
            join_all(each).await.into_iter().flatten().collect()
        }
        Receiver::Webhook(settings) => vec![hook(&settings.http, &settings.url, &settings.headers).await],
        Receiver::Slack(settings) => vec![hook(&settings.http, &settings.url, &BTreeMap::new()).await],
    }
}

async fn alertmanager(settings: &Alertmanager, url: &ReceiverUrl) -> Vec<Reach> {
    let client = Client::new(settings.http.clone());
    let addresses = if settings.resolve_all {
        match look_up(url.address.clone(), settings.http.timeout).await {
            Ok(addresses) => addresses.into_iter().map(Some).collect(),
            Err(error) => return vec![failed(&error)],
        }
    } else {
        vec![None]
    };
    let headers = BTreeMap::new();
    join_all(addresses.into_iter().map(|at| one(&client, url, at, &headers))).await
}

async fn hook(http: &Http, source: &UrlSource, headers: &BTreeMap<String, Secret>) -> Reach {
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
) -> Reach {
    match client.reach(Post { url, at, headers, body: Bytes::new() }).await {
        Ok(()) => Reach::Reached(match at {
            None => url.to_string(),
            Some(at) => format!("{url} ({at})"),
        }),
        Err(error) => failed(&error),
    }
}

fn failed(error: &NotifyError) -> Reach {
    Reach::Failed(error.to_string())
}
