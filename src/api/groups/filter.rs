//! The filter of groups: the parameters of `/api/v1/groups`.

use thiserror::Error;

use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, Status, StreamReport};

/// Selects groups; the default is all.
#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    target: Vec<Glob>,
    stream: Vec<Glob>,
    group: Vec<Glob>,
    status: Vec<Status>,
    limit: Option<usize>,
}

/// An invalid parameter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupFilterError {
    /// Unknown parameter.
    #[error("{name:?}: no such parameter; expected {expected}")]
    Unknown {
        /// The parameter.
        name: String,
        /// The parameters that there are.
        expected: &'static str,
    },
    /// Unknown status.
    #[error("status: found {0:?}; expected {names}, or several separated by commas", names = names())]
    Status(String),
    /// Not a number, or 0.
    #[error("limit: found {0:?}; expected a number of groups, 1 or more")]
    Limit(String),
}

fn names() -> String {
    Status::ALL.map(Status::as_str).join(", ")
}

impl GroupFilter {
    /// Reads the parameters of a URL. `target`, `stream` and `group` are globs, of which any must match the name; one
    /// without a value is ignored, since it is an empty field of a form.
    ///
    /// # Errors
    ///
    /// The first invalid parameter.
    pub fn read(query: &[(String, String)]) -> Result<Self, GroupFilterError> {
        let mut filter = Self::default();
        for (name, value) in query {
            // `\xHH` is a byte, as in all names.
            let glob = || (!value.is_empty()).then(|| Glob::new(Name::from_text(value).as_bytes()));
            match name.as_str() {
                "target" => filter.target.extend(glob()),
                "stream" => filter.stream.extend(glob()),
                "group" => filter.group.extend(glob()),
                "status" => filter.status.extend(statuses(value)?),
                "limit" if value.is_empty() => {}
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    filter.limit = Some(limit.ok_or_else(|| GroupFilterError::Limit(value.clone()))?);
                }
                _ => {
                    let expected = "target, stream, group, status or limit";
                    return Err(GroupFilterError::Unknown { name: name.clone(), expected });
                }
            }
        }
        Ok(filter)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    pub(super) fn takes_target(&self, name: &str) -> bool {
        takes(&self.target, name.as_bytes())
    }

    /// Returns true if the key of the stream matches, or the name of its family.
    pub(super) fn takes_stream(&self, stream: &StreamReport) -> bool {
        let takes = |name: &Name| takes(&self.stream, name.as_bytes());
        takes(&stream.key) || stream.family.as_ref().is_some_and(takes)
    }

    pub(super) fn takes_group(&self, group: &GroupReport) -> bool {
        let is_of_status = self.status.is_empty()
            || group
                .values
                .iter()
                .flat_map(|values| values.status.iter())
                .any(|one| self.status.contains(&one));
        is_of_status && takes(&self.group, group.name.as_bytes())
    }
}

/// Reads a list of statuses with commas.
///
/// # Errors
///
/// The first name that is not a status.
pub fn statuses(list: &str) -> Result<Vec<Status>, GroupFilterError> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| Status::from_name(name).ok_or_else(|| GroupFilterError::Status(name.to_owned())))
        .collect()
}

fn takes(globs: &[Glob], name: &[u8]) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(name))
}
