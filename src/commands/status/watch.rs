//! `status --watch`: reads the groups repeatedly and shows them on a screen.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::api::events::{EventQuery, ListedEvent};
use crate::api::groups::Listing;
use crate::api::groups::filter::GroupFilter;
use crate::commands::pending;
use crate::commands::status::Origin;
use crate::commands::status::remote::Remote;
use crate::commands::target_events::target_events;
use crate::commands::target_snapshots::{TargetHandle, target_snapshots};
use crate::config::{Config, Poll, Target};
use crate::monitor::Monitor;
use crate::monitor::published::TargetState;
use crate::monitor::settings::TargetSettings;
use crate::poller::list_pending::PendingQuery;
use crate::self_metrics::target::TargetMetrics;
use crate::terminal::group_name::GroupName;
use crate::terminal::screen::{self, Screen};
use crate::terminal::status_view::{EntryList, StatusView};
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::name::Name;
use tokio_util::sync::CancellationToken;

/// Time from one reading to the next.
const REFRESH: Duration = Duration::from_secs(2);
/// Time after which the clock and the ages are drawn again.
const CLOCK: Duration = Duration::from_secs(1);
/// The most pending entries that are listed for the selected group.
const MAX_ENTRIES: usize = 100;

/// An update for the screen.
enum Update {
    Groups(Listing, Result<Vec<ListedEvent>, String>),
    Problem(String),
    Entries(GroupName, EntryList),
}

/// Shows the groups until a key or a signal ends the command.
///
/// # Errors
///
/// Standard output is not a terminal.
pub(super) async fn run(origin: Origin, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut screen = Screen::open().context("--watch needs a terminal")?;
    let mut events = screen::listen().context("cannot listen to the terminal")?;
    // Sent when the terminal's window or connection is closed.
    let mut hung_up = signal(SignalKind::hangup()).context("cannot listen to signals")?;
    let (sender, mut update) = mpsc::channel(4);
    let (selection, selected) = watch::channel(None);
    let mut tasks = JoinSet::new();
    let mut view = start(origin, &mut tasks, &sender, selected);
    let mut clock = interval(CLOCK);
    loop {
        view.set_time(unix_time());
        screen.show(&mut view).context("the terminal is gone")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(event) if view.handle(&event).is_continue() => {}
                // A key that quits, or a closed terminal.
                _ => return Ok(()),
            },
            Some(update) = update.recv() => match update {
                Update::Groups(listing, events) => {
                    view.update(listing);
                    view.set_events(events);
                }
                Update::Problem(problem) => view.problem = Some(problem),
                Update::Entries(subject, entries) => view.take_entries(&subject, entries),
            },
            _ = clock.tick() => {}
            () = shutdown.cancelled() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
        selection.send_if_modified(|now| {
            let is_other = now.as_ref() != view.subject();
            if is_other {
                *now = view.subject().cloned();
            }
            is_other
        });
    }
}

/// Starts the tasks that read, and returns the view that shows the results.
fn start(
    origin: Origin,
    tasks: &mut JoinSet<()>,
    sender: &mpsc::Sender<Update>,
    selected: watch::Receiver<Option<GroupName>>,
) -> StatusView {
    match origin {
        Origin::Remote(remote) => {
            let title = remote.to_string();
            tasks.spawn(poll_remote(*remote, sender.clone()));
            StatusView::without_entries(title)
        }
        Origin::Polled(config) => {
            let Config { poll, targets, .. } = *config;
            let interval = REFRESH;
            let poll = Poll { interval, stale_after: 15 * interval, ..poll };
            let title = match targets.as_slice() {
                [only] => only.name.clone(),
                several => format!("{} targets", several.len()),
            };
            let mut handles = Vec::new();
            for target in &targets {
                let settings = TargetSettings::without_alerts(Arc::new(target.clone()), poll.clone());
                let settings = Arc::new(settings);
                let (sender, state) = watch::channel(TargetState::default());
                handles.push((Arc::clone(&settings.labels), state));
                let metrics = TargetMetrics::unexported(&target.name);
                let monitor = Monitor::new(Arc::clone(&settings), metrics, Arc::new(sender));
                let (keep, changes) = watch::channel(Some(settings));
                tasks.spawn(async move {
                    monitor.run(changes).await;
                    drop(keep);
                });
            }
            tasks.spawn(send_groups(handles, sender.clone()));
            tasks.spawn(list_entries(targets, poll, selected, sender.clone()));
            StatusView::new(title)
        }
    }
}

/// Reads the groups of a running streamgauge, for as long as the screen is open.
async fn poll_remote(remote: Remote, sender: mpsc::Sender<Update>) {
    loop {
        let update = match remote.listing().await {
            Ok(listing) => {
                let events = remote.events().await.map_err(|error| format!("{error:#}"));
                Update::Groups(listing, events)
            }
            Err(error) => Update::Problem(format!("{error:#}")),
        };
        if sender.send(update).await.is_err() {
            return;
        }
        sleep(REFRESH).await;
    }
}

/// Sends the groups to the screen whenever a poll has ended.
async fn send_groups(mut handles: Vec<TargetHandle>, sender: mpsc::Sender<Update>) {
    loop {
        let is_tried = |(_, state): &TargetHandle| state.borrow().was_tried;
        let update = match handles.iter().any(is_tried) {
            true => {
                let listing = Listing::of(&target_snapshots(&handles, now()), &GroupFilter::default());
                Update::Groups(listing, Ok(target_events(&handles, &EventQuery::default()).events))
            }
            false => Update::Problem("reading".to_owned()),
        };
        if sender.send(update).await.is_err() {
            return;
        }
        let changes = handles.iter_mut().map(|(_, state)| Box::pin(state.changed()));
        tokio::select! {
            _ = futures_util::future::select_all(changes) => sleep(REFRESH / 10).await,
            // Reports become too old without a change.
            () = sleep(REFRESH) => {}
        }
    }
}

/// Lists the pending entries of the selected group.
async fn list_entries(
    targets: Vec<Target>,
    poll: Poll,
    mut selected: watch::Receiver<Option<GroupName>>,
    sender: mpsc::Sender<Update>,
) {
    loop {
        let subject = selected.borrow_and_update().clone();
        if let Some(subject) = subject
            && let Some(target) = targets.iter().find(|target| target.name == subject.target)
        {
            let query = PendingQuery {
                stream: Name::from_text(&subject.stream),
                group: Name::from_text(&subject.group),
                consumer: None,
                min_idle: None,
                count: MAX_ENTRIES,
                fields: false,
            };
            let entries = match pending::list(target.clone(), &poll, &query).await {
                Ok(listed) => EntryList::Listed(pending::entries(listed)),
                Err(error) => EntryList::Failed(error.to_string()),
            };
            if sender.send(Update::Entries(subject, entries)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = selected.changed() => if changed.is_err() { return },
            () = sleep(REFRESH) => {}
        }
    }
}
