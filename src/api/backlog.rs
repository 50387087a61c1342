//! `/api/v1/backlog`: what one group still has to do, as a number to scale by, or why it is not known.

use serde::Serialize;
use thiserror::Error;

use crate::api::groups::TargetSnapshot;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, GroupValues, StreamReport};

/// The group that is asked for, by exact names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklogQuery {
    /// Name of the target; `None` if there is only one with such a stream.
    target: Option<String>,
    /// `db0`, `db1` and so on; `None` is any.
    db: Option<String>,
    stream: Name,
    group: Name,
    missing: MissingGroup,
}

/// The answer for a group that does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MissingGroup {
    /// An error.
    #[default]
    Error,
    /// All entries of the stream, as for a group that is created at 0.
    Length,
}

/// The work that a group has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// The sum of the other two.
    pub backlog: u64,
    /// Entries that wait for delivery.
    pub lag: u64,
    /// Entries delivered and not acknowledged.
    pub messages_pending: u64,
}

/// Why there is no backlog.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BacklogError {
    /// A parameter is wrong.
    #[error("{0}")]
    Query(String),
    /// There is no such group.
    #[error("{0}")]
    NotFound(String),
    /// There is, or may be, such a group, and its backlog is not known.
    #[error("{0}")]
    Unknown(String),
}

impl BacklogQuery {
    /// Reads the parameters of a URL. Names are as in labels: `\xHH` is a byte.
    ///
    /// # Errors
    ///
    /// [`BacklogError::Query`] for a parameter that is unknown, twice there, or missing.
    pub fn read(query: &[(String, String)]) -> Result<Self, BacklogError> {
        let [mut target, mut db, mut stream, mut group, mut missing] = [const { None }; 5];
        for (name, value) in query {
            let field = match name.as_str() {
                "target" => &mut target,
                "db" => &mut db,
                "stream" => &mut stream,
                "group" => &mut group,
                "missing" => &mut missing,
                _ => {
                    let expected = "no such parameter; expected target, db, stream, group or missing";
                    return Err(BacklogError::Query(format!("{name:?}: {expected}")));
                }
            };
            if field.replace(value.clone()).is_some() {
                return Err(BacklogError::Query(format!("{name} is there twice")));
            }
        }
        let required = |name: &str, value: Option<String>| {
            let value = value.filter(|value| !value.is_empty());
            value.ok_or_else(|| BacklogError::Query(format!("{name} is missing: its exact name is required")))
        };
        let missing = match missing.as_deref() {
            None | Some("") => MissingGroup::Error,
            Some("length") => MissingGroup::Length,
            Some(other) => {
                return Err(BacklogError::Query(format!("missing: found {other:?}; expected length")));
            }
        };
        Ok(Self {
            target: target.filter(|name| !name.is_empty()),
            db: db.filter(|name| !name.is_empty()),
            stream: Name::from_text(&required("stream", stream)?),
            group: Name::from_text(&required("group", group)?),
            missing,
        })
    }

    fn takes(&self, snapshot: &TargetSnapshot) -> bool {
        let is_named =
            |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        is_named(&self.target, &snapshot.labels.name) && is_named(&self.db, &snapshot.labels.db)
    }
}

/// Returns the backlog of a group. It is known only if the target answered its last poll and the lag is exact.
///
/// # Errors
///
/// There is no such group, or its backlog is not known: an autoscaler must change nothing then.
pub fn of(snapshots: &[TargetSnapshot], query: &BacklogQuery) -> Result<Backlog, BacklogError> {
    let targets: Vec<_> = snapshots.iter().filter(|snapshot| query.takes(snapshot)).collect();
    if targets.is_empty() {
        return Err(BacklogError::NotFound("there is no such target".to_owned()));
    }
    if let Some(down) = targets.iter().find(|target| !target.is_up || target.report.is_none()) {
        let name = &down.labels.name;
        let reason = down.error.as_deref().unwrap_or("it was not polled yet");
        return Err(BacklogError::Unknown(format!("target {name}: {reason}")));
    }
    let streams = targets.iter().map(|target| streams(target, &query.stream));
    let streams: Vec<_> = streams.filter(|streams| !streams.is_empty()).collect();
    match &streams[..] {
        [] => Err(BacklogError::NotFound(format!(
            "there is no stream {}, or the configuration does not select it",
            query.stream.text()
        ))),
        [streams] => match &streams[..] {
            [stream] if stream.family.is_none() => of_stream(stream, query),
            members => of_family(members, query),
        },
        _ => Err(BacklogError::Query(format!(
            "several targets have a stream {}: name the target and the db",
            query.stream.text()
        ))),
    }
}

/// Returns the streams of a family, or else the stream of this name.
fn streams<'a>(target: &'a TargetSnapshot, name: &Name) -> Vec<&'a StreamReport> {
    let Some(report) = &target.report else { return Vec::new() };
    let of_family = report.streams.iter().filter(|stream| stream.family.as_ref() == Some(name));
    let members: Vec<&StreamReport> = of_family.map(|stream| &**stream).collect();
    if !members.is_empty() {
        return members;
    }
    report.stream(name).map(|stream| &**stream).into_iter().collect()
}

/// Returns the sum of the streams of a family that have the group.
fn of_family(members: &[&StreamReport], query: &BacklogQuery) -> Result<Backlog, BacklogError> {
    let mut sum = None;
    for stream in members {
        match of_stream(stream, query) {
            Ok(backlog) => sum = Some(backlog.plus(sum.unwrap_or_default())),
            Err(BacklogError::NotFound(_)) => {}
            Err(BacklogError::Unknown(reason)) => {
                let key = stream.key.text();
                return Err(BacklogError::Unknown(format!(
                    "{reason} (stream {key} of family {})",
                    query.stream.text()
                )));
            }
            Err(error) => return Err(error),
        }
    }
    sum.ok_or_else(|| {
        let (family, group) = (query.stream.text(), query.group.text());
        BacklogError::NotFound(format!("no stream of family {family} has a group {group}"))
    })
}

impl Backlog {
    fn plus(self, other: Self) -> Self {
        Self {
            backlog: self.backlog.saturating_add(other.backlog),
            lag: self.lag.saturating_add(other.lag),
            messages_pending: self.messages_pending.saturating_add(other.messages_pending),
        }
    }
}

fn of_stream(stream: &StreamReport, query: &BacklogQuery) -> Result<Backlog, BacklogError> {
    let key = stream.key.text();
    let Some(values) = &stream.values else {
        return Err(if stream.refused {
            BacklogError::Unknown(format!("stream {key} could not be read"))
        } else {
            BacklogError::NotFound(format!("stream {key} is missing or not a stream"))
        });
    };
    let found = stream.groups.iter().find(|group| group.name == query.group);
    if let Some(values) = found.and_then(|group| group.values.as_ref()) {
        return of_group(&query.group, values);
    }
    let reported = stream.groups.iter().filter(|group| exists(group)).count() as u64;
    if reported < values.groups && found.is_none() {
        return Err(BacklogError::Unknown(format!(
            "group {} is not among the {reported} of {} groups of stream {key} that are reported: see \
             limits.groups_per_stream and targets[].streams[].groups",
            query.group.text(),
            values.groups
        )));
    }
    match query.missing {
        MissingGroup::Length => {
            Ok(Backlog { backlog: values.length, lag: values.length, messages_pending: 0 })
        }
        MissingGroup::Error => {
            let group = query.group.text();
            Err(BacklogError::NotFound(format!("stream {key} has no group {group}")))
        }
    }
}

fn exists(group: &GroupReport) -> bool {
    group.values.is_some()
}

fn of_group(name: &Name, values: &GroupValues) -> Result<Backlog, BacklogError> {
    let messages_pending = values.messages_pending;
    match values.lag.exact() {
        Some(lag) => Ok(Backlog { backlog: lag.saturating_add(messages_pending), lag, messages_pending }),
        None => {
            Err(BacklogError::Unknown(format!("the lag of group {} is not known at present", name.text())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::alert::rule::TargetLabels;
    use redis_stream_lag::report::{Lag, Report, ReportedStream, StreamValues};

    fn group(name: &str, values: Option<(Lag, u64)>) -> GroupReport {
        let values = values.map(|(lag, messages_pending)| GroupValues {
            lag,
            messages_pending,
            ..GroupValues::default()
        });
        GroupReport::new(Name::from(name), values)
    }

    fn stream(key: &str, groups: u64, reported: Vec<GroupReport>) -> ReportedStream {
        let values = StreamValues { length: 100, groups, ..StreamValues::default() };
        StreamReport::new(Name::from(key), Some(values), reported).into()
    }

    fn target(name: &str, streams: Vec<ReportedStream>) -> TargetSnapshot {
        TargetSnapshot {
            labels: Arc::new(TargetLabels {
                name: name.to_owned(),
                db: "db0".to_owned(),
                configured: BTreeMap::new(),
            }),
            is_up: true,
            last_read: Some(Duration::from_secs(1_700_000_000)),
            error: None,
            report: Some(Arc::new(Report { streams, ..Report::default() })),
            redis_cli: Arc::default(),
        }
    }

    fn query(parameters: &str) -> Result<BacklogQuery, BacklogError> {
        let pairs: Vec<_> = url::form_urlencoded::parse(parameters.as_bytes()).into_owned().collect();
        BacklogQuery::read(&pairs)
    }

    fn answer(snapshots: &[TargetSnapshot], parameters: &str) -> String {
        match query(parameters).and_then(|query| of(snapshots, &query)) {
            Ok(backlog) => serde_json::to_string(&backlog).unwrap(),
            Err(BacklogError::Query(text)) => format!("400 {text}"),
            Err(BacklogError::NotFound(text)) => format!("404 {text}"),
            Err(BacklogError::Unknown(text)) => format!("503 {text}"),
        }
    }

    #[test]
    fn a_backlog_is_exact_or_an_error() {
        let between = Lag::Between { min: 0.into(), max: 9 };
        let bounded = vec![
            group("bounded", Some((between, 1))),
            group("gone", None),
            group("mail", Some((Lag::Exact(7), 5))),
        ];
        let refused =
            StreamReport { refused: true, ..StreamReport::new(Name::from("secret"), None, Vec::new()) };
        let missing = StreamReport { refused: false, key: Name::from("void"), ..refused.clone() };
        let a = target(
            "a",
            vec![
                stream("cut", 3, vec![group("one", Some((Lag::Exact(0), 0)))]),
                stream("orders", 2, bounded),
                refused.into(),
                missing.into(),
            ],
        );
        let b = target("b", vec![stream("cut", 0, vec![])]);
        let snapshots = [a, b];
        for (parameters, expected) in [
            ("stream=orders&group=mail", r#"{"backlog":12,"lag":7,"messages_pending":5}"#),
            (
                "target=a&db=db0&stream=orders&group=mail&missing=",
                r#"{"backlog":12,"lag":7,"messages_pending":5}"#,
            ),
            ("stream=orders&group=bounded", "503 the lag of group bounded is not known at present"),
            ("stream=orders&group=gone", "404 stream orders has no group gone"),
            ("stream=orders&group=none", "404 stream orders has no group none"),
            ("stream=orders&group=none&missing=length", r#"{"backlog":100,"lag":100,"messages_pending":0}"#),
            ("stream=orders&group=gone&missing=length", r#"{"backlog":100,"lag":100,"messages_pending":0}"#),
            (
                "stream=orders&group=bounded&missing=length",
                "503 the lag of group bounded is not known at present",
            ),
            ("stream=secret&group=g&missing=length", "503 stream secret could not be read"),
            ("stream=void&group=g&missing=length", "404 stream void is missing or not a stream"),
            ("stream=none&group=g", "404 there is no stream none, or the configuration does not select it"),
            ("target=c&stream=orders&group=mail", "404 there is no such target"),
            ("target=a&db=db1&stream=orders&group=mail", "404 there is no such target"),
            ("stream=cut&group=one", "400 several targets have a stream cut: name the target and the db"),
            (
                "stream=ord*&group=mail",
                "404 there is no stream ord*, or the configuration does not select it",
            ),
            ("group=mail", "400 stream is missing: its exact name is required"),
            ("stream=orders&group=", "400 group is missing: its exact name is required"),
            ("stream=orders&group=g&group=h", "400 group is there twice"),
            ("stream=orders&group=g&missing=0", "400 missing: found \"0\"; expected length"),
            (
                "stream=orders&name=g",
                "400 \"name\": no such parameter; expected target, db, stream, group or missing",
            ),
        ] {
            assert_eq!(answer(&snapshots, parameters), expected, "{parameters}");
        }
        let cut = answer(&snapshots, "target=a&stream=cut&group=two&missing=length");
        assert!(cut.starts_with("503 group two is not among the 1 of 3 groups"), "{cut}");
    }

    #[test]
    fn a_target_that_is_down_has_no_backlog() {
        let orders = || target("a", vec![stream("orders", 1, vec![group("mail", Some((Lag::Exact(7), 5)))])]);
        let error = Some("connection refused".to_owned());
        for (snapshot, expected) in [
            (TargetSnapshot { is_up: false, error, ..orders() }, "503 target a: connection refused"),
            (
                TargetSnapshot { is_up: false, report: None, ..orders() },
                "503 target a: it was not polled yet",
            ),
            (TargetSnapshot { report: None, ..orders() }, "503 target a: it was not polled yet"),
        ] {
            assert_eq!(answer(&[snapshot], "stream=orders&group=mail&missing=length"), expected);
        }
    }
}
