//! The subject of an alert: a target, one of its streams, or a group of a stream.

use std::collections::BTreeMap;

use crate::alert::rule::TargetLabels;
use redis_stream_core::name::Name;

/// The subject of an alert. Subjects sort in the order of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertSubject {
    /// Key of the stream; `None` if the subject is the target.
    pub stream: Option<Name>,
    /// Name of the group; `None` if the subject is a stream or the target.
    pub group: Option<Name>,
}

impl AlertSubject {
    pub(super) fn labels(&self, target: &TargetLabels) -> BTreeMap<String, String> {
        let text = |name: &Option<Name>| name.as_ref().map(|name| name.text().into_owned());
        target.subject(text(&self.stream).as_deref(), text(&self.group).as_deref())
    }
}
