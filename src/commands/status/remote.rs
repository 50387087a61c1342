//! Reads the groups and the events of a running streamgauge.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use url::form_urlencoded::Serializer;

use crate::api::events::{EventListing, ListedEvent};
use crate::api::groups::Listing;
use crate::config::http_receiver::HttpClientConfig;
use crate::http_client::{HttpClient, HttpRequest};
use crate::http_url::{HttpUrl, HttpUrlError};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The URL of a streamgauge and its groups. `Display` shows no credential.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    client: HttpClient,
    base: HttpUrl,
    groups: HttpUrl,
    events: HttpUrl,
}

impl Remote {
    /// Returns the streamgauge at this URL, or at HOST:PORT by HTTP, limited to streams that match one of the globs, if there are any.
    pub(super) fn new(url: &str, streams: &[String]) -> Result<Self, HttpUrlError> {
        let base = match url.contains("://") {
            true => HttpUrl::parse_base(url)?,
            false => HttpUrl::parse_base(&format!("http://{url}"))?,
        };
        let streams = streams.iter().filter(|stream| !stream.is_empty()).map(|stream| ("stream", stream));
        let query = Serializer::new(String::new()).extend_pairs(streams).finish();
        let [groups, events] =
            ["groups", "events"].map(|what| base.below(&format!("/api/v1/{what}?{query}")));
        Ok(Self { client: HttpClient::new(HttpClientConfig::with_timeout(TIMEOUT)), base, groups, events })
    }

    /// Returns its groups as of now.
    pub(super) async fn listing(&self) -> anyhow::Result<Listing> {
        let answer = self.client.get(HttpRequest::to(&self.groups)).await?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("{self} does not answer as /api/v1/groups of streamgauge does"))
    }

    /// Returns its newest events.
    pub(super) async fn events(&self) -> anyhow::Result<Vec<ListedEvent>> {
        let answer = self.client.get(HttpRequest::to(&self.events)).await?;
        let listing: EventListing = serde_json::from_slice(&answer)
            .with_context(|| format!("{self} does not answer as /api/v1/events of streamgauge does"))?;
        Ok(listing.events)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)
    }
}
