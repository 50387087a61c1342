//! Messages about groups of alerts, on their way to a webhook.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::notifiers::UrlSource;
use crate::notify::client::{self, Client, Post};
use crate::notify::error::NotifyError;
use crate::notify::group::{Groups, Message};
use crate::notify::queue::Store as _;
use crate::notify::send::{Outlet, Told};
use redis_stream_core::secret::Secret;

/// What the text of a message depends on, besides its alerts.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// What the notifier is called.
    pub(super) name: Arc<str>,
    /// Alerts that a message shows.
    pub(super) max_alerts: usize,
    /// What links point to; `None` is no links.
    pub(super) external_url: Option<Arc<str>>,
}

/// Sends messages as somebody wants to read them.
#[derive(Debug)]
pub(super) struct Messenger {
    /// How the receiver is reached.
    pub(super) client: Client,
    /// Where it is.
    pub(super) url: UrlSource,
    /// Added to each request.
    pub(super) headers: BTreeMap<String, Secret>,
    /// What the text depends on.
    pub(super) terms: Terms,
    /// Writes the text.
    pub(super) body: fn(&Message, &Terms) -> Bytes,
}

impl Outlet for Messenger {
    type Parcel = Message;

    async fn deliver(&mut self, message: &Message) -> Result<Told, NotifyError> {
        let url = client::url(&self.url).await?;
        let body = (self.body)(&message.in_order(), &self.terms);
        self.client.post(Post { url: &url, at: None, headers: &self.headers, body }).await?;
        Ok(Told { delivered: Groups::alerts_in(message), rejected: 0 })
    }
}
