//! What the pages are made of: the targets as they are at one time.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::Active;
use crate::alert::link::group_path;
use crate::api::groups::Seen;
use crate::page::trail::{Moment, Trail};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, StreamReport};

/// All that a page shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The targets, in the order of the configuration.
    pub targets: Vec<TargetView>,
    /// The time, since the Unix epoch.
    pub now: Duration,
    /// From one poll to the next: how soon there can be anything new.
    pub interval: Duration,
}

/// A target.
#[derive(Clone, Debug)]
pub struct TargetView {
    /// What is known of it.
    pub seen: Seen,
    /// The recent past of its groups, as of its last report.
    pub trail: Arc<Trail>,
    /// What is pending or firing.
    pub active: Arc<Active>,
    /// How to reach it by redis-cli: its name and the arguments before a command, no secret among them.
    pub redis_cli: Arc<[String]>,
}

/// A group, and where it belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) target: &'a TargetView,
    pub(super) stream: &'a StreamReport,
    pub(super) group: &'a GroupReport,
    /// Its place among all groups of the report.
    place: usize,
}

impl View {
    /// Every group of every target whose report is not too old.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.targets.iter().flat_map(|target| {
            let streams = target.seen.report.iter().flat_map(|report| &report.streams);
            let groups = streams.flat_map(|stream| stream.groups.iter().map(move |group| (stream, group)));
            groups.enumerate().map(move |(place, (stream, group))| Row { target, stream, group, place })
        })
    }

    /// The target of this name and database.
    pub(super) fn target(&self, name: &Name, db: &Name) -> Option<&TargetView> {
        self.targets.iter().find(|target| {
            let labels = &target.seen.labels;
            labels.name.as_bytes() == name.as_bytes() && labels.db.as_bytes() == db.as_bytes()
        })
    }
}

impl<'a> Row<'a> {
    /// The path of its page; `None` where its names are too long for a link.
    pub(super) fn path(&self) -> Option<String> {
        let labels = &self.target.seen.labels;
        group_path(&labels.name, &labels.db, &self.stream.key.text(), &self.group.name.text())
    }

    /// What it is sorted by where all else is equal.
    pub(super) fn name(&self) -> (&'a str, &'a [u8], &'a [u8]) {
        (&self.target.seen.labels.name, self.stream.key.as_bytes(), self.group.name.as_bytes())
    }

    /// Its recent past.
    pub(super) fn moments(&self) -> Vec<Moment> {
        self.target.trail.of(self.place)
    }

    /// The group of a stream of a target's report.
    pub(super) fn find(target: &'a TargetView, stream: &Name, group: &Name) -> Option<Self> {
        let streams = &target.seen.report.as_ref()?.streams;
        let at = streams.binary_search_by(|one| one.key.cmp(stream)).ok()?;
        let stream = &streams[at];
        let nth = stream.groups.binary_search_by(|one| one.name.cmp(group)).ok()?;
        let before: usize = streams[..at].iter().map(|one| one.groups.len()).sum();
        Some(Self { target, stream, group: &stream.groups[nth], place: before + nth })
    }
}
