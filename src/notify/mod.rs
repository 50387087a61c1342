//! Tells receivers of alerts: Alertmanager, webhooks, Slack. The only room that does; it knows nothing of Redis and
//! decides nothing about alerts.
//!
//! Each receiver has a `queue` of its own and a task of its own (`send`), so that one which is slow or dead
//! delays no other, and [`Handle::send`] never waits. To Alertmanager goes each alert, again and again as long as
//! it fires; `fan` finds every address behind a name, and `spread` fills their queues. Webhook and Slack get messages
//! about a `group` of alerts, when something changes. What waits is bounded, and of each alert it is the newest state.
//!
//! A receiver is sent one request after the other. Where one was not answered, and might be taken up after the next,
//! `doubt` sees to it that the newest word is the last.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::error;

use crate::alert::notification::Notification;
use crate::alert::notification_log::{LogEntry, NotificationLog};
use crate::config::notifiers::{self, Receiver};
use crate::notify::group::Groups;
use crate::notify::mailbox::Mailbox;
use crate::notify::queue::Queue;
use crate::notify::spread::Spread;
use crate::notify::start::Start;
use crate::self_metrics::SelfMetrics;
use redis_stream_core::clock::unix_time;
use tokio_util::sync::CancellationToken;

mod alertmanager;
mod backlog;
mod client;
mod doubt;
mod error;
#[cfg(test)]
mod examples;
mod fan;
mod group;
mod json;
mod mailbox;
mod messages;
mod queue;
pub mod reach;
mod send;
mod slack;
mod spread;
mod start;
mod webhook;

/// Time that is left at the end of the program to send what waits.
const GRACE: Duration = Duration::from_secs(10);

/// All receivers, and the tasks that tell them.
#[derive(Debug)]
pub struct Notifiers {
    handle: Handle,
    external_url: Option<Arc<str>>,
    metrics: SelfMetrics,
    shutdown: CancellationToken,
    /// What receivers knew when this program ended; only while it starts.
    memory: Option<NotificationLog>,
    running: Vec<Running>,
    /// Those that are not in the configuration any more and send what waits.
    leaving: JoinSet<()>,
}

/// A notifier and its tasks.
#[derive(Debug)]
struct Running {
    settings: notifiers::Notifier,
    notifier: Arc<Notifier>,
    tasks: JoinSet<()>,
}

/// Where notifications are handed in. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    notifiers: Arc<RwLock<Vec<Arc<Notifier>>>>,
    /// Told of each change of what receivers know.
    known: watch::Sender<()>,
}

#[derive(Debug)]
struct Notifier {
    name: Arc<str>,
    inboxes: Vec<Inbox>,
}

/// What one task is given.
#[derive(Debug)]
enum Inbox {
    Alerts(Arc<Mailbox<Queue>>),
    AlertsForAll(Arc<Mailbox<Spread>>),
    Messages(Arc<Mailbox<Groups>>),
}

impl Notifiers {
    /// Starts a task for each receiver. `external_url` is what links point to. Once `shutdown` fires, failures are
    /// not waited out any more.
    #[must_use]
    pub fn start(
        config: &[notifiers::Notifier],
        external_url: Option<&str>,
        metrics: &SelfMetrics,
        shutdown: &CancellationToken,
    ) -> Self {
        Self::resume(config, external_url, metrics, shutdown, None)
    }

    /// The same with what receivers knew when this program ended; `None` where nobody knows that.
    #[must_use]
    pub fn resume(
        config: &[notifiers::Notifier],
        external_url: Option<&str>,
        metrics: &SelfMetrics,
        shutdown: &CancellationToken,
        memory: Option<NotificationLog>,
    ) -> Self {
        let mut notifiers = Self {
            handle: Handle::default(),
            external_url: None,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            memory,
            running: Vec::new(),
            leaving: JoinSet::new(),
        };
        notifiers.follow(config, external_url);
        notifiers.memory = None;
        notifiers
    }

    /// Goes by a new configuration. A notifier of which nothing has changed goes on, and a webhook or Slack at the same
    /// URL goes on with what waits and what it knows. Any other that has changed begins anew, and its predecessor sends
    /// what waits, as far as that is possible within ten seconds.
    pub fn follow(&mut self, config: &[notifiers::Notifier], external_url: Option<&str>) {
        let mut before = std::mem::take(&mut self.running);
        let is_same_url = self.external_url.as_deref() == external_url;
        self.external_url = external_url.map(Into::into);
        for settings in config {
            let same = before.iter().position(|running| is_same_url && running.settings == *settings);
            let running = match same {
                Some(at) => before.swap_remove(at),
                None => match before.iter().position(|running| running.is_of_same_place(settings)) {
                    Some(at) => self.go_on(before.swap_remove(at), settings),
                    None => self.begin(settings),
                },
            };
            self.running.push(running);
        }
        self.handle.set(self.running.iter().map(|running| Arc::clone(&running.notifier)).collect());
        for mut left in before {
            left.close();
            let (handle, metrics) = (self.handle.clone(), self.metrics.clone());
            self.leaving.spawn(async move {
                left.end().await;
                if !handle.has(&left.notifier.name) {
                    metrics.forget_notifier(&left.notifier.name);
                }
            });
        }
        while self.leaving.try_join_next().is_some() {}
    }

    fn begin(&self, settings: &notifiers::Notifier) -> Running {
        let mut tasks = JoinSet::new();
        let notifier = Arc::new(self.starting(settings, &mut tasks).notifier(&settings.receiver));
        Running { settings: settings.clone(), notifier, tasks }
    }

    /// Tells the same receiver in another way. The request that is under way is given up: two at once could arrive in
    /// any order.
    fn go_on(&self, before: Running, settings: &notifiers::Notifier) -> Running {
        let Running { notifier, tasks: mut old, .. } = before;
        let mut tasks = JoinSet::new();
        for inbox in &notifier.inboxes {
            let Inbox::Messages(mailbox) = inbox else { continue };
            let start = self.starting(settings, &mut tasks);
            let Some((messenger, messages)) = start.messenger(&settings.receiver) else { continue };
            mailbox.await_heir();
            mailbox.amend(|groups| groups.repeat_after(messages.repeat_interval));
            let lane = start.lane_of(mailbox, messenger);
            let mailbox = Arc::clone(mailbox);
            let mut old = std::mem::take(&mut old);
            tasks.spawn(async move {
                old.shutdown().await;
                mailbox.note_heir();
                mailbox.amend(|groups| groups.interrupt(unix_time()));
                lane.run().await;
            });
        }
        Running { settings: settings.clone(), notifier, tasks }
    }

    fn starting<'a>(&'a self, settings: &notifiers::Notifier, tasks: &'a mut JoinSet<()>) -> Start<'a> {
        Start {
            name: settings.name.as_str().into(),
            external_url: self.external_url.clone(),
            metrics: self.metrics.for_notifier(&settings.name),
            shutdown: &self.shutdown,
            memory: self.memory.as_ref(),
            known: &self.handle.known,
            tasks,
        }
    }

    /// Where notifications are handed in.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends what waits, as far as that is possible within ten seconds, and ends. Nothing may be handed in any
    /// more.
    pub async fn drain(mut self) {
        self.running.iter().for_each(Running::close);
        let left = async { while self.leaving.join_next().await.is_some() {} };
        // Each of them has a limit of its own.
        tokio::join!(join_all(self.running.iter_mut().map(Running::end)), left);
    }
}

impl Running {
    /// Whether this sends messages to where those settings send them, under the same name.
    fn is_of_same_place(&self, settings: &notifiers::Notifier) -> bool {
        self.settings.name == settings.name
            && match (&self.settings.receiver, &settings.receiver) {
                (Receiver::Webhook(one), Receiver::Webhook(other)) => one.url == other.url,
                (Receiver::Slack(one), Receiver::Slack(other)) => one.url == other.url,
                _ => false,
            }
    }

    fn close(&self) {
        self.notifier.inboxes.iter().for_each(Inbox::close);
    }

    /// Waits until all is sent, for ten seconds at most.
    async fn end(&mut self) {
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    error!(%error, "task of a notifier ended by a panic");
                }
            }
        };
        if timeout(GRACE, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

impl Handle {
    /// Hands in what receivers are to be told. Never waits.
    pub fn send(&self, notifications: &[Notification]) {
        let notifiers = self.notifiers.read().unwrap_or_else(PoisonError::into_inner);
        for notifier in notifiers.iter() {
            let is_told = |notification: &&Notification| {
                let named = &notification.alert.notifiers;
                named.is_empty() || named.iter().any(|name| **name == *notifier.name)
            };
            for inbox in &notifier.inboxes {
                inbox.put(notifications.iter().filter(is_told));
            }
        }
    }

    /// What each receiver of messages knows, by the name of its notifier.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, Vec<LogEntry>> {
        let notifiers = self.notifiers.read().unwrap_or_else(PoisonError::into_inner);
        let known = notifiers.iter().map(|notifier| {
            let known = notifier.inboxes.iter().flat_map(Inbox::known).collect();
            (notifier.name.to_string(), known)
        });
        known.collect()
    }

    /// Changes whenever that does, but for what a repetition changes.
    #[must_use]
    pub fn known_changes(&self) -> watch::Receiver<()> {
        self.known.subscribe()
    }

    fn set(&self, notifiers: Vec<Arc<Notifier>>) {
        *self.notifiers.write().unwrap_or_else(PoisonError::into_inner) = notifiers;
        self.known.send_replace(());
    }

    fn has(&self, name: &str) -> bool {
        let notifiers = self.notifiers.read().unwrap_or_else(PoisonError::into_inner);
        notifiers.iter().any(|notifier| *notifier.name == *name)
    }
}

impl Inbox {
    fn put<'n>(&self, notifications: impl Iterator<Item = &'n Notification>) {
        match self {
            Self::Alerts(mailbox) => mailbox.put(notifications),
            Self::AlertsForAll(mailbox) => mailbox.put(notifications),
            Self::Messages(mailbox) => mailbox.put(notifications),
        }
    }

    fn known(&self) -> Vec<LogEntry> {
        match self {
            Self::Alerts(mailbox) => mailbox.known(),
            Self::AlertsForAll(mailbox) => mailbox.known(),
            Self::Messages(mailbox) => mailbox.known(),
        }
    }

    fn close(&self) {
        match self {
            Self::Alerts(mailbox) => mailbox.close(),
            Self::AlertsForAll(mailbox) => mailbox.close(),
            Self::Messages(mailbox) => mailbox.close(),
        }
    }
}
