//! The model of the pages: the targets at one time.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::Active;
use crate::alert::link::{group_path, stream_path};
use crate::alert::web_link::WebLink;
use crate::api::groups::TargetSnapshot;
use crate::format::severity::Severity;
use crate::format::units::{lasting, span};
use crate::page::event_log::EventLog;
use crate::page::history::{GroupHistory, GroupSample, thinned};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, GroupView, Report, ReportedStream, Status};

/// Everything that a page shows.
#[derive(Clone, Debug)]
pub struct PageModel {
    /// The targets, in the order of the configuration.
    pub targets: Vec<TargetModel>,
    /// The time, since the Unix epoch.
    pub now: Duration,
    /// The shortest poll interval: the page is refreshed as often.
    pub interval: Duration,
    /// Links to other tools.
    pub links: Arc<[WebLink]>,
}

/// A target.
#[derive(Clone, Debug)]
pub struct TargetModel {
    /// Its state.
    pub snapshot: TargetSnapshot,
    /// The last report, however old; `None` before the first.
    pub old_report: Option<Arc<Report>>,
    /// The server's name, version and role; `None` where it does not tell.
    pub server: Option<Arc<str>>,
    /// The recent history of its groups, as of its last report.
    pub history: Arc<GroupHistory>,
    /// The events of the last day.
    pub events: Arc<EventLog>,
    /// Its pending and firing alerts.
    pub active: Arc<Active>,
}

/// A group with its stream and target.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupRow<'a> {
    pub(super) target: &'a TargetModel,
    pub(super) stream: &'a ReportedStream,
    pub(super) group: &'a GroupReport,
    /// Its index among all groups of the report.
    index: usize,
}

/// The key by which groups are folded into one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKind<'a> {
    target: &'a str,
    db: &'a str,
    is_family: bool,
    /// Name of the family, or key of the stream.
    name: &'a Name,
    status: Option<Status>,
}

impl PageModel {
    /// Returns every group of every target. Those of a target that was not read for too long have their last values.
    pub(super) fn rows(&self) -> impl Iterator<Item = GroupRow<'_>> {
        self.targets.iter().flat_map(|target| {
            let streams = target.report().into_iter().flat_map(|report| &report.streams);
            let groups = streams.flat_map(|stream| stream.groups.iter().map(move |group| (stream, group)));
            groups.enumerate().map(move |(index, (stream, group))| GroupRow { target, stream, group, index })
        })
    }

    pub(super) fn target(&self, name: &Name, db: &Name) -> Option<&TargetModel> {
        self.targets.iter().find(|target| {
            let labels = &target.snapshot.labels;
            labels.name.as_bytes() == name.as_bytes() && labels.db.as_bytes() == db.as_bytes()
        })
    }
}

impl TargetModel {
    /// Finds a stream in its last report.
    pub(super) fn stream(&self, key: &Name) -> Option<&ReportedStream> {
        self.report()?.stream(key)
    }

    /// Returns its last report, even if it is [old](Self::is_old).
    pub(super) fn report(&self) -> Option<&Report> {
        self.snapshot.report.as_deref().or(self.old_report.as_deref())
    }

    /// Returns true if its values are too old to count, and are shown with their time.
    pub(super) fn is_old(&self) -> bool {
        self.snapshot.report.is_none() && self.old_report.is_some()
    }

    /// Returns the time of its last values, if they are old.
    pub(super) fn old_since(&self) -> Option<Duration> {
        self.snapshot.last_read.filter(|_| self.is_old())
    }
}

impl<'a> GroupRow<'a> {
    /// Finds the group of a stream in a target's report; of a family, the group that is the worst.
    pub(super) fn find(target: &'a TargetModel, stream: &Name, group: &Name) -> Option<Self> {
        let streams = &target.report()?.streams;
        let of_family = streams.iter().filter(|one| one.family.as_ref() == Some(stream));
        let with_group = of_family.filter_map(|stream| Some((&stream.key, stream.group(group)?)));
        let worst = with_group.min_by(|(_, one), (_, other)| one.badness().cmp(&other.badness()));
        let stream = worst.map_or(stream, |(key, _)| key);
        let at = streams.binary_search_by(|one| one.key.cmp(stream)).ok()?;
        let stream = &streams[at];
        let nth = stream.groups.binary_search_by(|one| one.name.cmp(group)).ok()?;
        let before: usize = streams[..at].iter().map(|one| one.groups.len()).sum();
        Some(Self { target, stream, group: &stream.groups[nth], index: before + nth })
    }

    /// Returns all groups of a stream.
    pub(super) fn all_of(target: &'a TargetModel, key: &Name) -> Vec<Self> {
        let streams = target.report().into_iter().flat_map(|report| &report.streams);
        let mut before = 0;
        for stream in streams {
            if stream.key == *key {
                let row = |(nth, group)| Self { target, stream, group, index: before + nth };
                return stream.groups.iter().enumerate().map(row).collect();
            }
            before += stream.groups.len();
        }
        Vec::new()
    }

    /// Returns the path of its page; `None` if its names are too long for a link.
    pub(super) fn path(&self) -> Option<String> {
        let labels = &self.target.snapshot.labels;
        group_path(&labels.name, &labels.db, &self.stream.key.text(), &self.group.name.text())
    }

    /// Returns the path of the page of its stream; `None` if its names are too long for a link.
    pub(super) fn stream_path(&self) -> Option<String> {
        let labels = &self.target.snapshot.labels;
        stream_path(&labels.name, &labels.db, &self.stream.key.text())
    }

    /// Returns the key of the last sort criterion.
    pub(super) fn name(&self) -> (&'a str, &'a [u8], &'a [u8]) {
        (&self.target.snapshot.labels.name, self.stream.key.as_bytes(), self.group.name.as_bytes())
    }

    /// Returns its values as of the last reading; `None` if the group is missing.
    pub(super) fn view(&self) -> Option<GroupView<'a>> {
        self.stream.view(self.group)
    }

    /// Returns its status; `None` if the group is missing.
    pub(super) fn status(&self) -> Option<Status> {
        self.group.values.as_ref().map(|values| values.status.status())
    }

    /// Returns what folded lines have in common: the family or else the stream, and the status.
    pub(super) fn kind(&self) -> GroupKind<'a> {
        let labels = &self.target.snapshot.labels;
        let family = self.stream.family.as_ref();
        GroupKind {
            target: &labels.name,
            db: &labels.db,
            is_family: family.is_some(),
            name: family.unwrap_or(&self.stream.key),
            status: self.status(),
        }
    }

    /// Returns a short name of its [kind](Self::kind), for links.
    pub(super) fn kind_name(&self) -> String {
        let GroupKind { target, db, is_family, name, status } = self.kind();
        let what: &[u8] = if is_family { b"family" } else { b"stream" };
        let mut hasher = crc32fast::Hasher::new();
        for part in [target.as_bytes(), db.as_bytes(), what, name.as_bytes(), status_name(status).as_bytes()]
        {
            hasher.update(part);
            hasher.update(b"\0");
        }
        format!("{:08x}", hasher.finalize())
    }

    /// Returns the time at which its status began.
    pub(super) fn began(&self) -> Option<Duration> {
        self.group.values.as_ref()?.status.since.map(Duration::from)
    }

    /// Returns how long it has had its status, or how long the status stays unknown.
    pub(super) fn since(&self, now: Duration) -> Option<String> {
        let view = self.view()?;
        let status = &view.values().status;
        match (status.status(), view.unknown_for()) {
            (Status::Unknown, Some(time)) => Some(format!("for {} more", span(time))),
            (Status::Unknown, None) => None,
            _ => status.since.map(|since| lasting(since.get(), now)),
        }
    }

    /// Returns each status that holds: all conditions, else `ok` or `unknown`; `None` if the group is missing.
    pub(super) fn statuses(&self) -> impl Iterator<Item = Option<Status>> + use<'a> {
        let values = self.group.values.as_ref();
        let is_missing = values.is_none().then_some(None);
        values.into_iter().flat_map(|values| values.status.iter()).map(Some).chain(is_missing)
    }

    /// Returns the statuses that hold, without what another explains: that a group without readers falls behind is no
    /// second problem.
    pub(super) fn shown_statuses(&self) -> impl Iterator<Item = Option<Status>> + use<'a> {
        let reads_nothing =
            self.statuses().any(|status| matches!(status, Some(Status::Abandoned | Status::Stalled)));
        self.statuses().filter(move |status| !(reads_nothing && *status == Some(Status::Lagging)))
    }

    /// Returns its samples of the last hour, at most so many.
    pub(super) fn samples(&self, number: usize) -> Vec<GroupSample> {
        thinned(&self.target.history.of(self.index), number)
    }

    /// Returns its samples of the last day.
    pub(super) fn day(&self) -> Vec<GroupSample> {
        self.target.history.day_of(self.index)
    }
}

/// Returns the name of a status, or `missing`.
pub(super) fn status_name(status: Option<Status>) -> &'static str {
    status.map_or("missing", Status::as_str)
}

/// Returns the health of a target in a word.
pub(super) fn health(target: &TargetModel) -> (Severity, &'static str) {
    let snapshot = &target.snapshot;
    match (snapshot.is_up, &snapshot.report) {
        (_, None) if snapshot.last_read.is_none() && snapshot.error.is_none() => {
            (Severity::Unknown, "not polled yet")
        }
        (true, Some(_)) if snapshot.error.is_none() => (Severity::Good, "up"),
        (true, Some(_)) => (Severity::Poor, "read in part"),
        (true, None) => (Severity::Poor, "too old"),
        (false, _) => (Severity::Bad, "down"),
    }
}
