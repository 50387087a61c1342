//! The state that a monitor publishes: everything that pages, JSON and `/metrics` read of a target.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::alert::web_link::WebLink;
use crate::config::Poll;
use crate::config::topology::Topology;
use crate::exposition::render::{SeriesLabels, TargetSeries};
use crate::format::severity::Severity;
use crate::monitor::alerting::ShownAlerts;
use crate::monitor::redis_cli;
use crate::monitor::settings::TargetSettings;
use crate::page::event_log::EventLog;
use crate::page::history::GroupHistory;
use crate::page::saved::SavedPast;
use crate::poller::node::{Identity, NodeState};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::unix_time;
use redis_stream_core::name::Name;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_lag::family::FamilyFold;
use redis_stream_lag::report::Report;
use redis_stream_lag::state::RememberedGroup;

/// The published state of a target.
#[derive(Clone, Debug, Default)]
pub struct TargetState {
    /// True once a poll succeeded or failed.
    pub was_tried: bool,
    /// True if every node answered until the last poll ended.
    pub is_up: bool,
    /// The last poll's error; `None` if the poll read everything.
    pub problem: Option<String>,
    /// When the last poll that read anything ended, since the Unix epoch; `None` before the first.
    pub last_read: Option<Duration>,
    /// The last report; `None` before the first.
    pub published: Option<Published>,
    /// The recent history of the groups, up to that report.
    pub history: Arc<GroupHistory>,
    /// The events of the last day.
    pub events: Arc<EventLog>,
    /// The saved state that history and events were restored from, until the first report.
    pub restored: Option<Arc<SavedPast>>,
    /// `redis-cli` and the arguments that reach the target; empty before the first poll.
    pub redis_cli: Arc<[String]>,
    /// The server's name and version, and its role: `redis 8.2.3, master`; `None` where it does not tell.
    pub server: Option<Arc<str>>,
    /// Links to other tools.
    pub links: Arc<[WebLink]>,
    /// Time from one poll to the next.
    pub interval: Duration,
    /// Alerts that are pending or firing, whatever the age of the report.
    pub alerts: ShownAlerts,
    /// Groups of whose histories more is known than the report shows.
    pub beyond_report: Arc<[RememberedGroup]>,
}

/// A report and its series.
#[derive(Clone, Debug)]
pub struct Published {
    /// The report; while polls fail, without the streams that were read too long ago.
    pub report: Arc<Report>,
    /// The report as it was published, for pages of a target that cannot be read.
    pub last: Arc<Report>,
    /// The history up to that one.
    pub last_history: Arc<GroupHistory>,
    /// The series of `report`, with one stream for each family.
    pub series: Arc<TargetSeries>,
    /// When the report becomes too old to be served while polls fail.
    pub stale: Instant,
    /// When the next report is certainly overdue, though no poll has failed.
    pub overdue: Instant,
}

impl TargetState {
    /// Returns what is known of groups by their histories, to be kept over a restart.
    pub fn remembered(&self) -> impl Iterator<Item = RememberedGroup> {
        let report = self.published.as_ref().map(|published| &*published.last);
        RememberedGroup::all(&self.beyond_report, report)
    }

    /// Returns the report, unless it is too old at `now`. A poll that is late, as on a busy machine, has not failed: until
    /// it has, the report is served for longer.
    pub fn fresh(&self, now: Instant) -> Option<&Published> {
        let expires = |published: &Published| if self.is_up { published.overdue } else { published.stale };
        self.published.as_ref().filter(|published| now < expires(published))
    }

    /// Returns the report that was published before.
    fn note_report(&mut self, prepared: Prepared) -> Option<Published> {
        let Prepared { published, beyond_report, events, last_read } = prepared;
        (self.history, self.events) = (Arc::clone(&published.last_history), events);
        self.beyond_report = beyond_report;
        (self.restored, self.last_read) = (None, Some(last_read));
        self.published.replace(published)
    }

    fn note_outcome(&mut self, is_up: bool, problem: Option<String>) {
        if self.was_tried && self.is_up != is_up {
            let (severity, text) = match is_up {
                true => (Severity::Good, "the target can be read again"),
                false => (Severity::Bad, "the target cannot be read"),
            };
            Arc::make_mut(&mut self.events).note(unix_time(), severity, text.to_owned());
        }
        (self.was_tried, self.is_up, self.problem) = (true, is_up, problem);
    }
}

/// The report that a poll leads to.
#[derive(Debug)]
pub(super) enum NewReport {
    Read(Prepared),
    /// The last one, until it is too old.
    Kept {
        /// The history with the failed poll.
        history: Arc<GroupHistory>,
        /// The streams of it that are fresh, and their series; `None` if they are the same as before.
        fresh: Option<(Arc<Report>, Arc<TargetSeries>)>,
    },
}

/// A report that is ready to be published.
#[derive(Debug)]
pub(super) struct Prepared {
    published: Published,
    /// Groups of whose histories more is known than it shows.
    beyond_report: Arc<[RememberedGroup]>,
    /// The events up to that report.
    events: Arc<EventLog>,
    /// When the poll ended, since the Unix epoch.
    last_read: Duration,
}

/// Writes a target's [`TargetState`].
#[derive(Debug)]
pub(super) struct Publisher {
    settings: Arc<TargetSettings>,
    labels: SeriesLabels,
    metrics: TargetMetrics,
    state: Arc<watch::Sender<TargetState>>,
    families: FamilyFold,
    /// The node that [`TargetState::redis_cli`] leads to.
    shown_node: Option<Endpoint>,
    /// `run_id` of each node's process, by address.
    run_ids: HashMap<String, String>,
}

impl Publisher {
    pub(super) fn new(
        settings: &Arc<TargetSettings>,
        metrics: TargetMetrics,
        state: Arc<watch::Sender<TargetState>>,
    ) -> Self {
        state.send_modify(|state| {
            (state.interval, state.links) = (settings.poll.interval, Arc::clone(&settings.links));
        });
        let (settings, labels) = (Arc::clone(settings), settings.series_labels());
        Self {
            settings,
            labels,
            metrics,
            state,
            families: FamilyFold::default(),
            shown_node: None,
            run_ids: HashMap::new(),
        }
    }

    /// Notes that the target is polled from now on.
    pub(super) fn note_start(&self) {
        self.state.send_modify(|state| {
            Arc::make_mut(&mut state.events).note(
                unix_time(),
                Severity::Unknown,
                "streamgauge started to poll the target".to_owned(),
            );
        });
    }

    pub(super) fn reconfigure(&mut self, settings: &Arc<TargetSettings>, metrics: TargetMetrics) {
        let mut families = std::mem::take(&mut self.families);
        families.retain(|name| settings.target.has_family(name));
        *self = Self { families, ..Self::new(settings, metrics, Arc::clone(&self.state)) };
    }

    pub(super) fn set_links(&self, links: &Arc<[WebLink]>) {
        self.state.send_modify(|state| state.links = Arc::clone(links));
    }

    pub(super) fn set_alerts(&self, alerts: ShownAlerts) {
        self.state.send_modify(|state| {
            let before = std::mem::replace(&mut state.alerts, alerts).active;
            if !before.is_same_set(&state.alerts.active) {
                let report = state.published.as_ref().map(|published| &published.last);
                let is_stream = |name: &Name| report.is_some_and(|report| report.stream(name).is_some());
                let events = Arc::make_mut(&mut state.events);
                events.note_alerts(unix_time(), &before, &state.alerts.active, &is_stream);
            }
        });
    }

    /// Publishes the name, version and role of the server that is polled. What was known of one that is away stays.
    pub(super) fn set_server(&mut self, identity: Option<&Identity>) {
        let Some(Identity { server, version, role, .. }) = identity else { return };
        let text = format!("{server} {version}, {role}");
        self.state.send_if_modified(|state| {
            let is_other = state.server.as_deref() != Some(&text);
            if is_other {
                state.server = Some(text.into());
            }
            is_other
        });
    }

    /// Publishes the way to the node that is polled, if that is another one than before.
    pub(super) fn set_node(&mut self, node: Option<&Endpoint>) {
        let Some(endpoint) = node.filter(|endpoint| self.shown_node.as_ref() != Some(endpoint)) else {
            return;
        };
        let words = redis_cli::words(&self.settings.target, endpoint);
        let is_failover = matches!(self.settings.target.topology, Topology::Sentinel(_));
        let before = self.shown_node.replace(endpoint.clone()).filter(|_| is_failover);
        self.state.send_modify(|state| {
            state.redis_cli = words;
            if before.is_some() {
                let text = format!("failover: the master is {endpoint}");
                Arc::make_mut(&mut state.events).note(unix_time(), Severity::Poor, text);
            }
        });
    }

    /// Notes the nodes whose process is another one than at the connection before.
    pub(super) fn note_restarts<'a>(&mut self, nodes: impl Iterator<Item = NodeState<'a>>) {
        let run_ids: HashMap<_, _> =
            nodes.filter_map(|node| Some((node.address.to_owned(), node.run_id?.to_owned()))).collect();
        let before = std::mem::replace(&mut self.run_ids, run_ids);
        let is_other = |(address, run_id): &(&String, &String)| {
            before.get(*address).is_some_and(|before| before != *run_id)
        };
        let restarted: Vec<_> = self.run_ids.iter().filter(is_other).map(|(address, _)| address).collect();
        let text = match restarted[..] {
            [] => return,
            [address] => format!("the server at {address} was restarted or replaced"),
            _ => format!("{} servers were restarted or replaced", restarted.len()),
        };
        self.state.send_modify(|state| {
            Arc::make_mut(&mut state.events).note(unix_time(), Severity::Poor, text);
        });
    }

    /// Returns the last report with one stream for each family.
    pub(super) fn folded(&self) -> Option<Arc<Report>> {
        self.state.borrow().published.as_ref().map(|published| Arc::clone(published.series.report()))
    }

    /// Drops what readers have compressed, so that it takes no memory while the next report is made.
    pub(super) fn close_caches(&self) {
        let TargetState { published, alerts, .. } = &*self.state.borrow();
        published.iter().for_each(|published| published.series.close_cache());
        alerts.series.close_cache();
    }

    /// Keeps what readers compress again, also after a failed poll.
    pub(super) fn open_caches(&self) {
        let TargetState { published, alerts, .. } = &*self.state.borrow();
        published.iter().for_each(|published| published.series.open_cache());
        alerts.series.open_cache();
    }

    /// Publishes the outcome of a poll in one step. Returns the report before, which takes time to drop.
    pub(super) fn publish(
        &self,
        report: NewReport,
        is_up: bool,
        problem: Option<String>,
    ) -> Option<Published> {
        self.metrics.set_up(is_up);
        if let NewReport::Read(prepared) = &report {
            self.metrics.set_last_successful_poll(prepared.last_read);
        }
        let mut before = None;
        self.state.send_modify(|state| {
            match report {
                NewReport::Read(prepared) => before = state.note_report(prepared),
                NewReport::Kept { history, fresh } => {
                    state.history = history;
                    if let (Some(published), Some((report, series))) = (&mut state.published, fresh) {
                        (published.report, published.series) = (report, series);
                    }
                }
            }
            state.note_outcome(is_up, problem);
        });
        before
    }

    /// Publishes that the target cannot be reached, though no poll has found out.
    pub(super) fn publish_loss(&self, problem: String) {
        self.metrics.set_up(false);
        self.state.send_modify(|state| state.note_outcome(false, Some(problem)));
    }

    /// Prepares what is left after a failed poll: of the last report what is `fresh`.
    pub(super) fn prepare_kept(&mut self, fresh: Option<Arc<Report>>) -> NewReport {
        let state = self.state.borrow().clone();
        let mut history = state.history.after_failure(unix_time());
        let before = state.published.as_ref().map(|published| &published.report);
        let changed = before.zip(fresh).filter(|(before, report)| *before != report);
        let fresh = changed.map(|(before, report)| {
            history.follow(&report, before);
            let series = TargetSeries::new(self.labels.clone(), self.families.fold(&report));
            (report, Arc::new(series))
        });
        NewReport::Kept { history: Arc::new(history), fresh }
    }

    /// Prepares a report of streams that were read at `read_at` or earlier. Returns `None` while the program ends.
    pub(super) async fn prepare(
        &mut self,
        report: Arc<Report>,
        beyond_report: Arc<[RememberedGroup]>,
        read_at: Instant,
    ) -> Option<Prepared> {
        let before = self.state.borrow().clone();
        let (last_read, shown) = (unix_time(), Arc::clone(&report));
        let mut families = std::mem::take(&mut self.families);
        let made = tokio::task::spawn_blocking(move || {
            let before_failures = before.published.as_ref().map(|one| (&*one.last, &one.last_history));
            let (previous, history) = before_failures.unzip();
            let history = history.unwrap_or(&before.history).after(last_read, &shown, previous);
            let history = Arc::new(history);
            let folded = families.fold(&shown);
            let mut events = before.events;
            if let Some(previous) = previous {
                Arc::make_mut(&mut events).note_report(last_read, previous, &shown);
            }
            (history, events, folded, families)
        });
        // The task fails only while the runtime shuts down.
        let (history, events, folded, families) = made.await.ok()?;
        self.families = families;
        let series = Arc::new(TargetSeries::new(self.labels.clone(), folded));
        let Poll { interval, timeout, stale_after, .. } = self.settings.poll;
        let stale = read_at + stale_after;
        // The next poll begins within two intervals; connecting and reading have a deadline each.
        let overdue = stale + 2 * (interval + timeout);
        let (last, last_history) = (Arc::clone(&report), history);
        let published = Published { report, last, last_history, series, stale, overdue };
        Some(Prepared { published, beyond_report, events, last_read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::clock::now;
    use std::collections::BTreeMap;

    #[test]
    fn a_report_becomes_stale_while_polls_fail_and_not_while_one_is_late() {
        let (began, second) = (now(), Duration::from_secs(1));
        let report = Arc::new(Report::default());
        let series = TargetSeries::new(SeriesLabels::new("t", 0, &BTreeMap::new()), Arc::clone(&report));
        let (stale, overdue) = (began + 30 * second, began + 66 * second);
        let (last, last_history, series) = (Arc::clone(&report), Arc::default(), Arc::new(series));
        let published = Published { report, last, last_history, series, stale, overdue };
        for (is_up, seconds, expected) in
            [(true, 29, true), (true, 31, true), (true, 67, false), (false, 29, true), (false, 31, false)]
        {
            let state = TargetState { is_up, published: Some(published.clone()), ..TargetState::default() };
            assert_eq!(state.fresh(began + seconds * second).is_some(), expected, "{is_up}, {seconds} s");
        }
    }
}
