//! The model of the pages: the targets at one time.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::Active;
use crate::alert::link::group_path;
use crate::api::groups::TargetSnapshot;
use crate::format::units::{lasting, span};
use crate::page::history::{GroupHistory, GroupSample};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, GroupView, ReportedStream, Status};

/// Everything that a page shows.
#[derive(Clone, Debug)]
pub struct PageModel {
    /// The targets, in the order of the configuration.
    pub targets: Vec<TargetModel>,
    /// The time, since the Unix epoch.
    pub now: Duration,
    /// The shortest poll interval: the page is refreshed as often.
    pub interval: Duration,
}

/// A target.
#[derive(Clone, Debug)]
pub struct TargetModel {
    /// Its state.
    pub snapshot: TargetSnapshot,
    /// The recent history of its groups, as of its last report.
    pub history: Arc<GroupHistory>,
    /// Its pending and firing alerts.
    pub active: Arc<Active>,
    /// redis-cli and its arguments before a command, without secrets.
    pub redis_cli: Arc<[String]>,
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

impl PageModel {
    /// Returns every group of every target whose report is not too old.
    pub(super) fn rows(&self) -> impl Iterator<Item = GroupRow<'_>> {
        self.targets.iter().flat_map(|target| {
            let streams = target.snapshot.report.iter().flat_map(|report| &report.streams);
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

impl<'a> GroupRow<'a> {
    /// Finds the group of a stream in a target's report.
    pub(super) fn find(target: &'a TargetModel, stream: &Name, group: &Name) -> Option<Self> {
        let streams = &target.snapshot.report.as_ref()?.streams;
        let at = streams.binary_search_by(|one| one.key.cmp(stream)).ok()?;
        let stream = &streams[at];
        let nth = stream.groups.binary_search_by(|one| one.name.cmp(group)).ok()?;
        let before: usize = streams[..at].iter().map(|one| one.groups.len()).sum();
        Some(Self { target, stream, group: &stream.groups[nth], index: before + nth })
    }

    /// Returns the path of its page; `None` if its names are too long for a link.
    pub(super) fn path(&self) -> Option<String> {
        let labels = &self.target.snapshot.labels;
        group_path(&labels.name, &labels.db, &self.stream.key.text(), &self.group.name.text())
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

    /// Returns how long it has had its status, or how long the status stays unknown.
    pub(super) fn since(&self, now: Duration) -> Option<String> {
        let view = self.view()?;
        let status = &view.values().status;
        match (status.status(), view.unknown_for()) {
            (Status::Unknown, Some(time)) => Some(format!("for {} more", span(time))),
            (Status::Unknown, None) => None,
            _ => status.since.map(|since| lasting(since, now)),
        }
    }

    /// Returns each status that holds: all conditions, else `ok` or `unknown`; `None` if the group is missing.
    pub(super) fn statuses(&self) -> impl Iterator<Item = Option<Status>> + use<'a> {
        let values = self.group.values.as_ref();
        let is_missing = values.is_none().then_some(None);
        values.into_iter().flat_map(|values| values.status.iter()).map(Some).chain(is_missing)
    }

    pub(super) fn samples(&self) -> Vec<GroupSample> {
        self.target.history.of(self.index)
    }
}

/// Returns the name of a status, or `missing`.
pub(super) fn status_name(status: Option<Status>) -> &'static str {
    status.map_or("missing", Status::as_str)
}
