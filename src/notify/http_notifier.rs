//! Sends one aggregation group in one POST, for every receiver except Alertmanager.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::config::Password;
use crate::config::http_receiver::UrlSource;
use crate::http_client::{HttpClient, HttpError, HttpRequest, read_secret, read_url};
use crate::notify::model::{Batch, ProbeResult, Sent};
use crate::notify::notifier::Notifier;
use crate::notify::render::{PayloadFormat, RenderContext};
use redis_stream_core::secret::Secret;

const EMPTY_KEY: &str = "the file with the routing key is empty; expected an integration key";

#[derive(Debug)]
pub(super) struct HttpNotifier {
    pub(super) client: HttpClient,
    pub(super) url: UrlSource,
    pub(super) headers: BTreeMap<String, Secret>,
    pub(super) routing_key: Option<Password>,
    pub(super) format: PayloadFormat,
    pub(super) context: RenderContext,
}

impl HttpNotifier {
    async fn context(&self) -> Result<RenderContext, HttpError> {
        let mut context = self.context.clone();
        if let Some(file) = &self.routing_key {
            let key = read_secret(file).await?;
            // The receiver would reject the payload, and the alert would be lost.
            if key.expose().trim().is_empty() {
                return Err(HttpError::File { detail: EMPTY_KEY.to_owned() });
            }
            context.routing_key = Some(key);
        }
        Ok(context)
    }
}

impl Notifier for HttpNotifier {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Sent, HttpError>> {
        async move {
            let url = read_url(&self.url).await?;
            let context = self.context().await?;
            let body = (self.format.body)(&batch.sorted(), &context);
            let secrets = context.routing_key.as_slice();
            let request = HttpRequest { headers: &self.headers, body, secrets, ..HttpRequest::to(&url) };
            self.client.post(request).await?;
            Ok(Sent { delivered: batch.counted(), ..Sent::default() })
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Vec<ProbeResult>> {
        async move {
            let reached = async {
                let url = read_url(&self.url).await?;
                self.context().await?;
                let request = HttpRequest { headers: &self.headers, ..HttpRequest::to(&url) };
                self.client.probe(request).await?;
                Ok::<_, HttpError>(url.to_string())
            };
            vec![reached.await.map_err(|error| error.to_string())]
        }
        .boxed()
    }
}
