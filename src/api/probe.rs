//! `/api/v1/probe`: fails while a group is in one of the named statuses, for liveness probes and gates.

use std::fmt::Write as _;

use crate::api::groups::filter::{self, GroupFilter, GroupFilterError};
use crate::api::groups::{TargetSnapshot, worst_first};
use crate::format::unicode::printable;
use redis_stream_lag::report::{GroupStatus, Status};

/// The statuses that fail a probe which names none.
const DEFAULT: [Status; 4] = [Status::Abandoned, Status::Losing, Status::Stalled, Status::Stuck];
/// Most groups that a failed probe names.
const MOST_NAMED: usize = 3;

/// The groups that a probe looks at, and the statuses that fail it.
#[derive(Clone, Debug)]
pub struct ProbeQuery {
    groups: GroupFilter,
    fail_on: Vec<Status>,
}

/// The outcome of a probe: one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// No group is known to be in a status that fails it.
    Passed(String),
    /// A group is.
    Failed(String),
}

impl ProbeQuery {
    /// Reads the parameters of a URL: `target`, `stream` and `group` as `/api/v1/groups` takes them, and `fail`, a list
    /// of statuses separated by commas.
    ///
    /// # Errors
    ///
    /// The first invalid parameter.
    pub fn read(query: &[(String, String)]) -> Result<Self, GroupFilterError> {
        let mut fail_on = Vec::new();
        let mut others = Vec::new();
        for (name, value) in query {
            match name.as_str() {
                "fail" => fail_on.extend(filter::statuses(value)?),
                "target" | "stream" | "group" => others.push((name.clone(), value.clone())),
                _ => {
                    let expected = "target, stream, group or fail";
                    return Err(GroupFilterError::Unknown { name: name.clone(), expected });
                }
            }
        }
        if fail_on.is_empty() {
            fail_on = DEFAULT.to_vec();
        }
        Ok(Self { groups: GroupFilter::read(&others)?, fail_on })
    }
}

/// Looks at the groups that the probe selects. What is not known passes, so that an outage of Redis restarts no worker.
#[must_use]
pub fn run(snapshots: &[TargetSnapshot], query: &ProbeQuery) -> ProbeOutcome {
    let (groups, _) = worst_first(snapshots, &query.groups);
    let fails =
        |status: &GroupStatus| query.fail_on.iter().copied().find(|one| status.holds(*one) == Some(true));
    let failed: Vec<_> = groups
        .iter()
        .filter_map(|found| {
            let status = fails(&found.group.values.as_ref()?.status)?;
            Some(format!("{} {} is {}", found.stream.key.text(), found.group.name.text(), status.as_str()))
        })
        .collect();
    if failed.is_empty() {
        return ProbeOutcome::Passed(format!("ok: {} groups\n", groups.len()));
    }
    let mut line = failed[..failed.len().min(MOST_NAMED)].join("; ");
    if failed.len() > MOST_NAMED {
        // Writing to a string cannot fail.
        let _ = write!(line, "; and {} more", failed.len() - MOST_NAMED);
    }
    ProbeOutcome::Failed(format!("{}\n", printable(&line)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::alert::rule::TargetLabels;
    use redis_stream_core::name::Name;
    use redis_stream_lag::report::{
        ConditionSet, GroupReport, GroupValues, Report, StreamReport, StreamValues,
    };

    fn snapshot() -> TargetSnapshot {
        let group = |name: &str, status: Option<GroupStatus>| {
            let values = status.map(|status| GroupValues { status, ..GroupValues::default() });
            GroupReport::new(Name::from(name), values)
        };
        let both: GroupStatus = ConditionSet::from_iter([Status::Losing, Status::Lagging]).into();
        let groups = vec![
            group("both", Some(both)),
            group("missing", None),
            group("ok", Some(Status::Ok.into())),
            group("stuck\n", Some(Status::Stuck.into())),
            group("unknown", Some(Status::Unknown.into())),
        ];
        let stream = |key| StreamReport::new(Name::from(key), Some(StreamValues::default()), groups.clone());
        let streams = ["a", "b"].map(|key| stream(key).into()).into();
        TargetSnapshot {
            labels: Arc::new(TargetLabels {
                name: "t".to_owned(),
                db: "db0".to_owned(),
                configured: BTreeMap::new(),
            }),
            is_up: true,
            last_read: None,
            error: None,
            report: Some(Arc::new(Report { streams, ..Report::default() })),
            redis_cli: Arc::default(),
        }
    }

    #[test]
    fn a_probe_fails_on_what_is_known_only() {
        for (parameters, expected) in [
            ("group=ok", Ok("ok: 2 groups\n")),
            ("group=unknown", Ok("ok: 2 groups\n")),
            ("group=none", Ok("ok: 0 groups\n")),
            ("group=missing", Ok("ok: 2 groups\n")),
            ("target=another", Ok("ok: 0 groups\n")),
            ("stream=a&group=both", Err("a both is losing\n")),
            ("stream=a&group=both&fail=lagging", Err("a both is lagging\n")),
            ("stream=a&fail=stalled,abandoned", Ok("ok: 5 groups\n")),
            ("stream=a&group=stuck*", Err("a stuck\\x0a is stuck\n")),
            ("", Err("a both is losing; b both is losing; a stuck\\x0a is stuck; and 1 more\n")),
        ] {
            let pairs: Vec<_> = url::form_urlencoded::parse(parameters.as_bytes()).into_owned().collect();
            let query = ProbeQuery::read(&pairs).unwrap();
            let expected = match expected {
                Ok(line) => ProbeOutcome::Passed(line.to_owned()),
                Err(line) => ProbeOutcome::Failed(line.to_owned()),
            };
            assert_eq!(run(&[snapshot()], &query), expected, "{parameters}");
        }
        let down = TargetSnapshot { is_up: false, report: None, ..snapshot() };
        let query = ProbeQuery::read(&[]).unwrap();
        assert_eq!(run(&[down], &query), ProbeOutcome::Passed("ok: 0 groups\n".to_owned()));
    }

    #[test]
    fn a_wrong_parameter_is_an_error() {
        for (name, value, expected) in [
            ("status", "ok", "\"status\": no such parameter; expected target, stream, group or fail"),
            ("fail", "slow", "status: found \"slow\"; expected"),
        ] {
            let error = ProbeQuery::read(&[(name.to_owned(), value.to_owned())]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
