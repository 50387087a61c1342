//! Puts the tasks of a notifier together, as its settings say.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::alert::notification_log::NotificationLog;
use crate::config::notifiers::{self, Http, Messages, Receiver};
use crate::notify::alertmanager::Alertmanager;
use crate::notify::client::Client;
use crate::notify::fan::Fan;
use crate::notify::group::Groups;
use crate::notify::mailbox::Mailbox;
use crate::notify::messages::{Messenger, Terms};
use crate::notify::queue::{CAPACITY_ALERTS, Queue, Store};
use crate::notify::send::{Lane, Outlet};
use crate::notify::spread::{Branches, Spread};
use crate::notify::{Inbox, Notifier, slack, webhook};
use crate::self_metrics::notifier::NotifierMetrics;
use redis_stream_core::tls::Verification;
use tokio_util::sync::CancellationToken;

/// What it takes to start the tasks of one notifier.
pub(super) struct Start<'a> {
    /// What it is called.
    pub(super) name: Arc<str>,
    /// What links point to; `None` is no links.
    pub(super) external_url: Option<Arc<str>>,
    /// Where it counts.
    pub(super) metrics: NotifierMetrics,
    /// Fires when the program ends.
    pub(super) shutdown: &'a CancellationToken,
    /// What receivers knew when this program ended; `None` where nobody knows that.
    pub(super) memory: Option<&'a NotificationLog>,
    /// Told of each change of what receivers know.
    pub(super) known: &'a watch::Sender<()>,
    /// Where its tasks run.
    pub(super) tasks: &'a mut JoinSet<()>,
}

impl Start<'_> {
    /// A notifier whose tasks run.
    pub(super) fn notifier(mut self, receiver: &Receiver) -> Notifier {
        let inboxes = match (receiver, self.messenger(receiver)) {
            (Receiver::Alertmanager(settings), _) => self.alertmanagers(settings),
            (_, Some((messenger, messages))) => vec![self.messages(messenger, messages)],
            (_, None) => Vec::new(),
        };
        Notifier { name: self.name, inboxes }
    }

    /// How messages are sent; `None` where a receiver is not sent any.
    pub(super) fn messenger(&self, receiver: &Receiver) -> Option<(Messenger, Messages)> {
        match receiver {
            Receiver::Alertmanager(_) => None,
            Receiver::Webhook(settings) => {
                let messenger = Messenger {
                    client: self.client(&settings.http),
                    url: settings.url.clone(),
                    headers: settings.headers.clone(),
                    terms: self.terms(settings.messages),
                    body: webhook::body,
                };
                Some((messenger, settings.messages))
            }
            Receiver::Slack(settings) => {
                let messenger = Messenger {
                    client: self.client(&settings.http),
                    url: settings.url.clone(),
                    headers: BTreeMap::new(),
                    terms: self.terms(settings.messages),
                    body: slack::body,
                };
                Some((messenger, settings.messages))
            }
        }
    }

    /// One for each URL.
    fn alertmanagers(&mut self, settings: &notifiers::Alertmanager) -> Vec<Inbox> {
        let client = self.client(&settings.http);
        let mut inboxes = Vec::new();
        for url in &settings.urls {
            let (name, external_url) = (Arc::clone(&self.name), self.external_url.clone());
            let outlet = Alertmanager::new(name, client.clone(), url, external_url);
            inboxes.push(if settings.resolve_all {
                let (name, branches) = (Arc::clone(&self.name), Branches::default());
                let spread = Spread::new(CAPACITY_ALERTS, branches.clone());
                let fan = Fan::new(name, outlet, branches, self.metrics.clone(), self.shutdown.clone());
                Inbox::AlertsForAll(self.lane(spread, fan))
            } else {
                Inbox::Alerts(self.lane(Queue::new(CAPACITY_ALERTS), outlet))
            });
        }
        inboxes
    }

    fn messages(&mut self, messenger: Messenger, messages: Messages) -> Inbox {
        let mut groups = Groups::new(messages.repeat_interval, CAPACITY_ALERTS);
        if let Some(NotificationLog { until, receivers }) = self.memory {
            let known = receivers.get(&*self.name).map_or(&[][..], Vec::as_slice);
            groups = groups.recalling(known, *until);
        }
        Inbox::Messages(self.lane(groups, messenger))
    }

    fn lane<S: Store, O: Outlet<Parcel = S::Parcel>>(&mut self, store: S, outlet: O) -> Arc<Mailbox<S>> {
        let mailbox = Mailbox::new(Arc::clone(&self.name), store, self.metrics.clone());
        let mailbox = Arc::new(mailbox.telling(self.known.clone()));
        let lane = self.lane_of(&mailbox, outlet);
        self.tasks.spawn(lane.run());
        mailbox
    }

    /// What sends what is put into a mailbox.
    pub(super) fn lane_of<S: Store, O>(&self, mailbox: &Arc<Mailbox<S>>, outlet: O) -> Lane<S, O>
    where
        O: Outlet<Parcel = S::Parcel>,
    {
        let (name, metrics) = (Arc::clone(&self.name), self.metrics.clone());
        Lane::new(name, Arc::clone(mailbox), outlet, metrics, self.shutdown.clone())
    }

    fn client(&self, http: &Http) -> Client {
        if http.tls.verification == Verification::Skipped {
            warn!(notifier = %self.name, "insecure_skip_verify: anybody may be the receiver, and read and change what is sent");
        }
        Client::new(http.clone())
    }

    fn terms(&self, messages: Messages) -> Terms {
        let (name, external_url) = (Arc::clone(&self.name), self.external_url.clone());
        Terms { name, max_alerts: messages.max_alerts, external_url }
    }
}
