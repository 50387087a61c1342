//! `/api/v1/events`: the events of the last day, the newest first.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::alert::rule::TargetLabels;
use crate::format::severity::Severity;
use crate::format::units::rfc3339;
use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;

/// Events of an answer without the parameter `limit`, and the most that it takes.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventListing {
    /// The events, the newest first.
    pub events: Vec<ListedEvent>,
    /// Number of events that the query selects; `events` has at most its limit.
    pub matched: usize,
}

/// Something that happened. Names are texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEvent {
    /// Time of the reading that showed it, as Unix time.
    pub timestamp_seconds: u64,
    /// The same as in RFC 3339.
    pub at: String,
    /// `critical`, `warning`, `info` or `ok`.
    pub severity: Severity,
    /// Name of the target.
    pub target: String,
    /// `db0`, `db1` and so on.
    pub db: String,
    /// Key of the stream that it is about; `None` for the target.
    pub stream: Option<String>,
    /// Name of the group that it is about; `None` for the stream, the target, or several groups.
    pub group: Option<String>,
    /// A description without these names.
    pub text: String,
}

/// Selects events: globs, of which any must match, and a limit. An event of a whole stream or target is selected with
/// each of its groups.
#[derive(Clone, Debug)]
pub struct EventQuery {
    target: Vec<Glob>,
    stream: Vec<Glob>,
    group: Vec<Glob>,
    limit: usize,
}

/// An invalid parameter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EventQueryError {
    /// Unknown parameter.
    #[error("{0:?}: no such parameter; expected target, stream, group or limit")]
    Unknown(String),
    /// Not a number, 0, or too large.
    #[error("limit: found {0:?}; expected a number of events, 1 to {MAX_LIMIT}")]
    Limit(String),
}

impl Default for EventQuery {
    fn default() -> Self {
        Self { target: Vec::new(), stream: Vec::new(), group: Vec::new(), limit: DEFAULT_LIMIT }
    }
}

impl EventQuery {
    /// Reads the parameters of a URL. A parameter without a value is ignored, since it is an empty field of a form.
    ///
    /// # Errors
    ///
    /// The first invalid parameter.
    pub fn read(query: &[(String, String)]) -> Result<Self, EventQueryError> {
        let mut read = Self::default();
        for (name, value) in query {
            // `\xHH` is a byte, as in all names.
            let glob = || (!value.is_empty()).then(|| Glob::new(Name::from_text(value).as_bytes()));
            match name.as_str() {
                "target" => read.target.extend(glob()),
                "stream" => read.stream.extend(glob()),
                "group" => read.group.extend(glob()),
                "limit" if value.is_empty() => {}
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    read.limit = limit.ok_or_else(|| EventQueryError::Limit(value.clone()))?;
                }
                _ => return Err(EventQueryError::Unknown(name.clone())),
            }
        }
        Ok(read)
    }

    fn takes(&self, target: &TargetLabels, event: &EventOf<'_>) -> bool {
        let takes = |globs: &[Glob], name: Option<&Name>| {
            globs.is_empty() || name.is_none_or(|name| globs.iter().any(|glob| glob.matches(name.as_bytes())))
        };
        let of_target =
            self.target.is_empty() || self.target.iter().any(|glob| glob.matches(target.name.as_bytes()));
        of_target && takes(&self.stream, event.stream) && takes(&self.group, event.group)
    }
}

/// An event of a target.
#[derive(Clone, Copy, Debug)]
pub struct EventOf<'a> {
    /// Time of the reading that showed it, since the Unix epoch.
    pub at: Duration,
    /// Its severity.
    pub severity: Severity,
    /// Key of the stream that it is about.
    pub stream: Option<&'a Name>,
    /// Name of the group that it is about.
    pub group: Option<&'a Name>,
    /// A description without the names.
    pub text: &'a str,
}

impl EventListing {
    /// Adds the events of a target, the newest first, as far as the query selects them. [`finish`](Self::finish) is
    /// called after the last target.
    pub fn add<'a>(
        &mut self,
        target: &TargetLabels,
        events: impl Iterator<Item = EventOf<'a>>,
        query: &EventQuery,
    ) {
        let mut found = 0;
        for event in events.filter(|event| query.takes(target, event)) {
            if found < query.limit {
                self.events.push(ListedEvent::of(target, &event));
            }
            found += 1;
        }
        self.matched += found;
    }

    /// Sorts the events of all targets and applies the limit.
    #[must_use]
    pub fn finish(mut self, query: &EventQuery) -> Self {
        self.events.sort_by(|one, other| other.at.cmp(&one.at));
        self.events.truncate(query.limit);
        self
    }
}

impl ListedEvent {
    fn of(target: &TargetLabels, event: &EventOf<'_>) -> Self {
        Self {
            timestamp_seconds: event.at.as_secs(),
            at: rfc3339(event.at),
            severity: event.severity,
            target: target.name.clone(),
            db: target.db.clone(),
            stream: event.stream.map(ToString::to_string),
            group: event.group.map(ToString::to_string),
            text: event.text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn listed(query: &[(&str, &str)]) -> Result<(String, usize), EventQueryError> {
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let query = EventQuery::read(&query)?;
        let (orders, clicks, mail) =
            (Name::from("orders"), Name::from("clicks"), Name::from(&b"mail\xff"[..]));
        let event = |at, stream, group, text| EventOf {
            at: Duration::from_millis(at),
            severity: Severity::Bad,
            stream,
            group,
            text,
        };
        let mut listing = EventListing::default();
        for (name, events) in [
            ("a", vec![event(9, Some(&clicks), None, "trimmed"), event(2, None, None, "down")]),
            (
                "b",
                vec![event(5, Some(&orders), Some(&mail), "stalled"), event(1, Some(&orders), None, "gone")],
            ),
        ] {
            let target = TargetLabels { name: name.into(), db: "db0".into(), configured: BTreeMap::new() };
            listing.add(&target, events.into_iter(), &query);
        }
        let listing = listing.finish(&query);
        let texts: Vec<_> = listing.events.iter().map(|event| event.text.as_str()).collect();
        Ok((texts.join(" "), listing.matched))
    }

    #[test]
    fn the_newest_event_comes_first_and_globs_and_the_limit_select() {
        for (query, expected) in [
            (&[][..], ("trimmed stalled down gone", 4)),
            (&[("limit", "2")], ("trimmed stalled", 4)),
            (&[("target", "a"), ("limit", "")], ("trimmed down", 2)),
            // An event of the whole target concerns each of its streams, one of the stream each of its groups.
            (&[("stream", "ord*")], ("stalled down gone", 3)),
            (&[("stream", "orders"), ("group", "other")], ("down gone", 2)),
            (&[("group", r"mail\xff"), ("stream", "orders"), ("target", "b")], ("stalled gone", 2)),
            (&[("target", "nothing")], ("", 0)),
        ] {
            let (texts, matched) = listed(query).unwrap();
            assert_eq!((texts.as_str(), matched), expected, "{query:?}");
        }
    }

    #[test]
    fn an_invalid_parameter_is_refused_with_what_was_expected() {
        for (name, value, message) in [
            ("status", "ok", r#""status": no such parameter; expected target, stream, group or limit"#),
            ("limit", "0", r#"limit: found "0"; expected a number of events, 1 to 1000"#),
            ("limit", "1001", r#"limit: found "1001"; expected a number of events, 1 to 1000"#),
        ] {
            assert_eq!(listed(&[(name, value)]).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_json_has_a_time_for_people_and_one_for_programs() {
        let target = TargetLabels { name: "shop".into(), db: "db0".into(), configured: BTreeMap::new() };
        let stream = Name::from("orders");
        let event = EventOf {
            at: Duration::from_millis(1_700_000_000_250),
            severity: Severity::Poor,
            stream: Some(&stream),
            group: None,
            text: "17,213 entries were removed",
        };
        let mut listing = EventListing::default();
        listing.add(&target, [event].into_iter(), &EventQuery::default());
        insta::assert_snapshot!(serde_json::to_string(&listing).unwrap(), @r#"{"events":[{"timestamp_seconds":1700000000,"at":"2023-11-14T22:13:20.250Z","severity":"warning","target":"shop","db":"db0","stream":"orders","group":null,"text":"17,213 entries were removed"}],"matched":1}"#);
    }
}
