//! `status --watch`: the view of the terminal, fed with what is read again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::alert::evaluator::EvaluatorSettings;
use crate::api::groups::Listing;
use crate::commands::pending;
use crate::commands::seen::{self, Watched};
use crate::commands::status::Origin;
use crate::commands::status::observe::{build, listing};
use crate::commands::status::remote::Remote;
use crate::config::{Config, Poll, Target};
use crate::monitor::plan::Plan;
use crate::poller::pending::Query;
use crate::terminal::keys;
use crate::terminal::screen::Screen;
use crate::terminal::view::{Entries, Request, Subject, View};
use redis_stream_core::name::Name;
use tokio_util::sync::CancellationToken;

/// From one reading to the next.
const REFRESH: Duration = Duration::from_secs(2);
/// Pending entries that are listed of a group that is looked at.
const ENTRIES: usize = 100;

/// What was read.
enum News {
    Groups(Listing),
    Problem(String),
    Entries(Subject, Entries),
}

/// Shows the groups until a key, or a signal, ends it.
///
/// # Errors
///
/// There is no terminal.
pub(super) async fn run(origin: Origin, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut screen = Screen::open().context("--watch needs a terminal")?;
    let mut events = keys::listen().context("cannot listen to the terminal")?;
    // The window is closed, or the connection that it came over is gone.
    let mut hung_up = signal(SignalKind::hangup()).context("cannot listen to signals")?;
    let (sender, mut news) = mpsc::channel(4);
    let (looked_at, looking) = watch::channel(None);
    let mut tasks = JoinSet::new();
    let mut view = start(origin, &mut tasks, &sender, looking);
    loop {
        screen.show(&mut view).context("the terminal is gone")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(event) if view.take(&event) == Request::Nothing => {}
                // Also where the terminal is gone.
                _ => return Ok(()),
            },
            Some(news) = news.recv() => match news {
                News::Groups(listing) => view.update(listing),
                News::Problem(problem) => view.problem = Some(problem),
                News::Entries(subject, entries) => view.take_entries(&subject, entries),
            },
            () = shutdown.cancelled() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
        looked_at.send_if_modified(|now| {
            let is_other = now.as_ref() != view.subject();
            if is_other {
                *now = view.subject().cloned();
            }
            is_other
        });
    }
}

/// Begins to read, for a view of it.
fn start(
    origin: Origin,
    tasks: &mut JoinSet<()>,
    sender: &mpsc::Sender<News>,
    looking: watch::Receiver<Option<Subject>>,
) -> View {
    match origin {
        Origin::Remote(remote) => {
            let title = remote.to_string();
            tasks.spawn(ask(*remote, sender.clone()));
            View::without_entries(title)
        }
        Origin::Polled(config) => {
            let Config { poll, targets, .. } = *config;
            let interval = REFRESH;
            let poll = Poll { interval, stale_after: 15 * interval, ..poll };
            let title = match targets.as_slice() {
                [only] => only.name.clone(),
                several => format!("{} targets", several.len()),
            };
            let mut watched = Vec::new();
            for target in &targets {
                let (running, state) = build(target.clone(), poll.clone());
                let plan = Arc::new(plan(target, &poll));
                watched.push((Arc::clone(&plan.labels), state));
                let (keep, plans) = watch::channel(Some(plan));
                tasks.spawn(async move {
                    running.run(plans).await;
                    drop(keep);
                });
            }
            tasks.spawn(look(watched, sender.clone()));
            tasks.spawn(list_entries(targets, poll, looking, sender.clone()));
            View::new(title)
        }
    }
}

/// Polling without alerts, which never changes.
fn plan(target: &Target, poll: &Poll) -> Plan {
    Plan {
        target: Arc::new(target.clone()),
        labels: Arc::new(seen::labels(target)),
        poll: poll.clone(),
        rules: Vec::new(),
        settings: EvaluatorSettings {
            hold: Duration::ZERO,
            external_labels: BTreeMap::new(),
            interval: poll.interval,
        },
    }
}

/// Asks a running streamgauge, for as long as somebody looks.
async fn ask(remote: Remote, sender: mpsc::Sender<News>) {
    loop {
        let news = match remote.listing().await {
            Ok(listing) => News::Groups(listing),
            Err(error) => News::Problem(format!("{error:#}")),
        };
        if sender.send(news).await.is_err() {
            return;
        }
        sleep(REFRESH).await;
    }
}

/// Takes what the polls found, whenever one of them has ended.
async fn look(mut watched: Vec<Watched>, sender: mpsc::Sender<News>) {
    loop {
        let is_tried = |(_, state): &Watched| state.borrow().was_tried;
        let news = match watched.iter().any(is_tried) {
            true => News::Groups(listing(&watched)),
            false => News::Problem("reading".to_owned()),
        };
        if sender.send(news).await.is_err() {
            return;
        }
        let changes = watched.iter_mut().map(|(_, state)| Box::pin(state.changed()));
        tokio::select! {
            _ = futures_util::future::select_all(changes) => sleep(REFRESH / 10).await,
            // What is shown gets too old by itself.
            () = sleep(REFRESH) => {}
        }
    }
}

/// Lists the pending entries of the group that is looked at.
async fn list_entries(
    targets: Vec<Target>,
    poll: Poll,
    mut looking: watch::Receiver<Option<Subject>>,
    sender: mpsc::Sender<News>,
) {
    loop {
        let subject = looking.borrow_and_update().clone();
        if let Some(subject) = subject
            && let Some(target) = targets.iter().find(|target| target.name == subject.target)
        {
            let query = Query {
                stream: Name::from_text(&subject.stream),
                group: Name::from_text(&subject.group),
                consumer: None,
                min_idle: None,
                count: ENTRIES,
            };
            let entries = match pending::list(target.clone(), &poll, &query).await {
                Ok(listed) => Entries::Listed(pending::entries(listed)),
                Err(error) => Entries::Failed(error.to_string()),
            };
            if sender.send(News::Entries(subject, entries)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = looking.changed() => if changed.is_err() { return },
            () = sleep(REFRESH) => {}
        }
    }
}
