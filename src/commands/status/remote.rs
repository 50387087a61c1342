//! Reads the groups of a running streamgauge.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use url::form_urlencoded::Serializer;

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
}

impl Remote {
    /// Returns the streamgauge at this URL, or at HOST:PORT by HTTP, limited to streams that match one of the globs, if there are any.
    pub(super) fn new(url: &str, streams: &[String]) -> Result<Self, HttpUrlError> {
        let base = match url.contains("://") {
            true => HttpUrl::parse_base(url)?,
            false => HttpUrl::parse_base(&format!("http://{url}"))?,
        };
        let mut path = "/api/v1/groups".to_owned();
        if streams.iter().any(|stream| !stream.is_empty()) {
            let pairs = streams.iter().map(|stream| ("stream", stream));
            path = format!("{path}?{}", Serializer::new(String::new()).extend_pairs(pairs).finish());
        }
        let groups = base.below(&path);
        Ok(Self { client: HttpClient::new(HttpClientConfig::with_timeout(TIMEOUT)), base, groups })
    }

    /// Returns its groups as of now.
    pub(super) async fn listing(&self) -> anyhow::Result<Listing> {
        let answer = self.client.get(HttpRequest::to(&self.groups)).await?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("{self} does not answer as /api/v1/groups of streamgauge does"))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)
    }
}
