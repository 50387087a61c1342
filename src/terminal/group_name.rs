//! The names that tell a group from all others of a view.

use crate::api::groups::ListedGroup;
use crate::format::unicode::printable;

/// The names of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct GroupName {
    pub(crate) target: String,
    /// Key of the stream, as text.
    pub(crate) stream: String,
    /// Name of the group, as text.
    pub(crate) group: String,
}

impl GroupName {
    pub(crate) fn of(group: &ListedGroup) -> Self {
        Self { target: group.target.clone(), stream: group.stream.clone(), group: group.group.clone() }
    }

    pub(crate) fn is_of(&self, group: &ListedGroup) -> bool {
        self.target == group.target && self.stream == group.stream && self.group == group.group
    }

    /// Returns the names in words: `group mail of stream orders`.
    pub(crate) fn words(&self) -> String {
        format!("group {} of stream {}", printable(&self.group), printable(&self.stream))
    }
}
