//! Which groups are asked for: the parameters of `/api/v1/groups`.

use thiserror::Error;

use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;
use redis_stream_lag::report::GroupReport;
use redis_stream_lag::report::Status;

/// Which groups are asked for; the default is all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    target: Vec<Glob>,
    stream: Vec<Glob>,
    group: Vec<Glob>,
    status: Vec<Status>,
    limit: Option<usize>,
}

/// A parameter that is wrong, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// There is no such parameter.
    #[error("{0:?}: no such parameter; expected target, stream, group, status or limit")]
    Unknown(String),
    /// There is no such status.
    #[error("status: found {0:?}; expected {names}, or several with commas between", names = names())]
    Status(String),
    /// It is no number, or 0.
    #[error("limit: found {0:?}; expected a number of groups, 1 or more")]
    Limit(String),
}

fn names() -> String {
    Status::ALL.map(Status::as_str).join(", ")
}

impl Filter {
    /// Reads the parameters of a query. `target`, `stream` and `group` are globs over names, of which any has to match;
    /// one without a value does not count, as it is a field of a form that was left empty.
    ///
    /// # Errors
    ///
    /// The first parameter that is wrong.
    pub fn read(query: &[(String, String)]) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (name, value) in query {
            // Names are written there as everywhere else: `\xHH` is a byte.
            let glob = || (!value.is_empty()).then(|| Glob::new(Name::from_text(value).as_bytes()));
            match name.as_str() {
                "target" => filter.target.extend(glob()),
                "stream" => filter.stream.extend(glob()),
                "group" => filter.group.extend(glob()),
                "status" => filter.status.extend(statuses(value)?),
                "limit" if value.is_empty() => {}
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    filter.limit = Some(limit.ok_or_else(|| FilterError::Limit(value.clone()))?);
                }
                _ => return Err(FilterError::Unknown(name.clone())),
            }
        }
        Ok(filter)
    }

    /// Most groups that are shown.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    pub(super) fn takes_target(&self, name: &str) -> bool {
        takes(&self.target, name.as_bytes())
    }

    pub(super) fn takes_stream(&self, key: &[u8]) -> bool {
        takes(&self.stream, key)
    }

    pub(super) fn takes_group(&self, group: &GroupReport) -> bool {
        let status = group.values.as_ref().map(|values| values.status);
        let is_of_status =
            self.status.is_empty() || status.is_some_and(|status| self.status.contains(&status));
        is_of_status && takes(&self.group, group.name.as_bytes())
    }
}

/// The statuses of a list with commas.
///
/// # Errors
///
/// The first that is none.
pub fn statuses(list: &str) -> Result<Vec<Status>, FilterError> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| Status::from_name(name).ok_or_else(|| FilterError::Status(name.to_owned()))).collect()
}

fn takes(globs: &[Glob], name: &[u8]) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(name))
}
