//! Sends one aggregation group in one POST, for webhooks and Slack.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::config::receiver::UrlSource;
use crate::notify::client::{self, Client, Post};
use crate::notify::error::NotifyError;
use crate::notify::model::{Batch, Sent};
use crate::notify::notifier::Notifier;
use redis_stream_core::secret::Secret;

/// Settings that the payload depends on.
#[derive(Clone, Debug)]
pub(super) struct RenderContext {
    pub(super) notifier: Arc<str>,
    pub(super) max_alerts: usize,
    /// The base of links; `None` for no links.
    pub(super) external_url: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct HttpNotifier {
    pub(super) client: Client,
    pub(super) url: UrlSource,
    pub(super) headers: BTreeMap<String, Secret>,
    pub(super) context: RenderContext,
    pub(super) body: fn(&Batch, &RenderContext) -> Bytes,
}

impl Notifier for HttpNotifier {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Sent, NotifyError>> {
        async move {
            let url = client::url(&self.url).await?;
            let body = (self.body)(&batch.sorted(), &self.context);
            self.client.post(Post { url: &url, at: None, headers: &self.headers, body }).await?;
            Ok(Sent { delivered: batch.counted(), ..Sent::default() })
        }
        .boxed()
    }
}
