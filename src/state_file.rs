//! The state file: pending and firing alerts over a restart, and what receivers know of them, so that `for` goes on
//! counting, nobody is told of an alert as if it were new, and nobody is left with one that is over. Written in one
//! piece or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::alert::active::ActiveAlert;
use crate::alert::notification::{self, AlertStatus};
use crate::alert::notification_log::{LogEntry, SendState};
use crate::alert::state::{AlertState, Phase};

/// What is older is not taken up: too much may have happened since.
pub const MAX_AGE: Duration = Duration::from_secs(60 * 60);

const VERSION: u32 = 2;
/// The oldest that is still read. It does not say what receivers know.
const OLDEST_VERSION: u32 = 1;

/// What the file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// When it was written, since the Unix epoch.
    pub saved_at: Duration,
    /// Pending and firing alerts, without annotations.
    pub alerts: Vec<ActiveAlert>,
    /// What receivers of messages know, by the name of the notifier; `None` where the file does not say.
    pub receivers: Option<BTreeMap<String, Vec<LogEntry>>>,
}

/// Why a state file is not taken up. All begins anew then.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} is damaged: {source}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        source: serde_json::Error,
    },
    /// Another version of streamgauge wrote it.
    #[error("{path} is of version {version}; this streamgauge knows versions {OLDEST_VERSION} to {VERSION}", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// It is too old.
    #[error(
        "{path} was written {age} ago; at most {max} count",
        path = .path.display(),
        age = humantime::format_duration(Duration::from_secs(.age.as_secs())),
        max = humantime::format_duration(MAX_AGE)
    )]
    Old {
        /// The file.
        path: PathBuf,
        /// How old it is.
        age: Duration,
    },
    /// The clock was set back since it was written, so that nobody knows how old it is.
    #[error(
        "{path} was written {ahead} from now, by this machine's clock; at most {max} count",
        path = .path.display(),
        ahead = humantime::format_duration(Duration::from_secs(.ahead.as_secs())),
        max = humantime::format_duration(MAX_AGE)
    )]
    Early {
        /// The file.
        path: PathBuf,
        /// How far ahead of the clock it is.
        ahead: Duration,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    saved_at_ms: u64,
    alerts: Vec<Alert>,
    /// Not in version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    receivers: Option<BTreeMap<String, Vec<Heard>>>,
}

#[derive(Serialize, Deserialize)]
struct Alert {
    labels: BTreeMap<String, String>,
    value: f64,
    active_at_ms: u64,
    /// Present where it fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    fired_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_since_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_since_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    told_at_ms: Option<u64>,
}

/// What a receiver knows of an alert.
#[derive(Serialize, Deserialize)]
struct Heard {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    value: f64,
    starts_at_ms: u64,
    ends_at_ms: u64,
    status: HeardStatus,
    /// Whether it is still to be told.
    waits: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    told_at_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HeardStatus {
    Firing,
    Resolved,
}

/// Reads the file. `None` where there is none.
///
/// # Errors
///
/// It is not to be used.
pub fn load(path: &Path, now: Duration) -> Result<Option<Saved>, StateFileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateFileError::Read { path: path.to_owned(), source }),
    };
    let damaged = |source| StateFileError::Damaged { path: path.to_owned(), source };
    let Versioned { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(StateFileError::Version { path: path.to_owned(), version });
    }
    let content: Content = serde_json::from_slice(&text).map_err(damaged)?;
    let saved_at = Duration::from_millis(content.saved_at_ms);
    let age = now.saturating_sub(saved_at);
    if age > MAX_AGE {
        return Err(StateFileError::Old { path: path.to_owned(), age });
    }
    let ahead = saved_at.saturating_sub(now);
    if ahead > MAX_AGE {
        return Err(StateFileError::Early { path: path.to_owned(), ahead });
    }
    // What the file says of later times is not true.
    let saved_at = saved_at.min(now);
    let alerts = content.alerts.into_iter().map(|alert| alert.shown(saved_at)).collect();
    let known = |heard: Vec<Heard>| heard.into_iter().map(|heard| heard.known(saved_at, now)).collect();
    let receivers = content.receivers.map(|all| {
        let all = all.into_iter().map(|(name, heard)| (name, known(heard)));
        all.collect()
    });
    Ok(Some(Saved { saved_at, alerts, receivers }))
}

/// Writes the file. Takes its time: not for a reactor.
///
/// # Errors
///
/// It cannot be written; what was there before still is.
pub fn save(
    path: &Path,
    now: Duration,
    alerts: impl Iterator<Item = ActiveAlert>,
    receivers: &BTreeMap<String, Vec<LogEntry>>,
) -> io::Result<()> {
    let heard = receivers.iter().map(|(name, known)| (name.clone(), known.iter().map(Heard::from).collect()));
    let content = Content {
        version: VERSION,
        saved_at_ms: ms(now),
        alerts: alerts.map(Alert::from).collect(),
        receivers: Some(heard.collect()),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    let mut writer = io::BufWriter::new(&mut file);
    serde_json::to_writer(&mut writer, &content)?;
    writer.write_all(b"\n")?;
    writer.flush()?;
    drop(writer);
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<ActiveAlert> for Alert {
    fn from(shown: ActiveAlert) -> Self {
        let state = shown.state;
        Self {
            labels: shown.labels,
            value: state.value,
            active_at_ms: ms(state.active_at),
            fired_at_ms: state.fired_at.map(ms),
            kept_since_ms: state.kept_since.map(ms),
            unknown_since_ms: state.unknown_since.map(ms),
            told_at_ms: state.last_sent_at.map(ms),
        }
    }
}

impl Alert {
    /// As it was when the file was written.
    fn shown(self, saved_at: Duration) -> ActiveAlert {
        let time = |ms| Duration::from_millis(ms).min(saved_at);
        let state = AlertState {
            phase: if self.fired_at_ms.is_some() { Phase::Firing } else { Phase::Pending },
            value: self.value,
            active_at: time(self.active_at_ms),
            fired_at: self.fired_at_ms.map(time),
            resolved_at: None,
            kept_since: self.kept_since_ms.map(time),
            unknown_since: self.unknown_since_ms.map(time),
            last_sent_at: self.told_at_ms.map(time),
        };
        ActiveAlert { labels: self.labels, annotations: BTreeMap::new(), state }
    }
}

impl From<&LogEntry> for Heard {
    fn from(known: &LogEntry) -> Self {
        let alert = &known.alert;
        Self {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            value: alert.value,
            starts_at_ms: ms(alert.starts_at),
            ends_at_ms: ms(alert.ends_at),
            status: match alert.status {
                AlertStatus::Firing => HeardStatus::Firing,
                AlertStatus::Resolved => HeardStatus::Resolved,
            },
            waits: known.send_state == SendState::Unsent,
            told_at_ms: known.last_sent_at.map(ms),
        }
    }
}

impl Heard {
    /// As it was when the file was written, but that nobody could speak of it meanwhile: what fires holds as much
    /// longer.
    fn known(self, saved_at: Duration, now: Duration) -> LogEntry {
        let time = |ms| Duration::from_millis(ms).min(saved_at);
        let (status, ends_at) = match self.status {
            HeardStatus::Firing => {
                let held = Duration::from_millis(self.ends_at_ms).saturating_sub(saved_at);
                (AlertStatus::Firing, now + held.min(MAX_AGE))
            }
            HeardStatus::Resolved => (AlertStatus::Resolved, time(self.ends_at_ms)),
        };
        let alert = notification::Alert {
            labels: self.labels,
            annotations: self.annotations,
            value: self.value,
            starts_at: time(self.starts_at_ms),
            ends_at,
            status,
            notifiers: Arc::default(),
        };
        let send_state = if self.waits { SendState::Unsent } else { SendState::Sent };
        LogEntry { alert: Arc::new(alert), send_state, last_sent_at: self.told_at_ms.map(time) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn alert(fired_at: Option<Duration>) -> ActiveAlert {
        let state = AlertState {
            phase: if fired_at.is_some() { Phase::Firing } else { Phase::Pending },
            value: 1234.5,
            active_at: NOW - Duration::from_secs(60),
            fired_at,
            resolved_at: None,
            kept_since: None,
            unknown_since: fired_at,
            last_sent_at: fired_at,
        };
        let labels =
            [("alertname", "A"), ("group", "g\\xff\"")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        ActiveAlert { labels, annotations: BTreeMap::new(), state }
    }

    fn known(status: AlertStatus, send_state: SendState) -> LogEntry {
        let labels =
            [("alertname", "A"), ("group", "g\nh")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let ends_at = match status {
            AlertStatus::Firing => NOW + Duration::from_secs(200),
            AlertStatus::Resolved => NOW - Duration::from_secs(5),
        };
        let alert = notification::Alert {
            labels,
            annotations: BTreeMap::from([("summary".to_owned(), "\"late\"".to_owned())]),
            value: 0.5,
            starts_at: NOW - Duration::from_secs(90),
            ends_at,
            status,
            notifiers: Arc::default(),
        };
        LogEntry { alert: Arc::new(alert), send_state, last_sent_at: Some(NOW - Duration::from_secs(80)) }
    }

    #[test]
    fn what_receivers_know_is_loaded_and_holds_as_long_as_it_would_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let receivers = BTreeMap::from([
            ("chat".to_owned(), Vec::new()),
            (
                "hook".to_owned(),
                vec![
                    known(AlertStatus::Firing, SendState::Sent),
                    known(AlertStatus::Resolved, SendState::Unsent),
                ],
            ),
        ]);
        save(&path, NOW, std::iter::empty(), &receivers).unwrap();
        assert_eq!(load(&path, NOW).unwrap().unwrap().receivers, Some(receivers.clone()));
        let later = load(&path, NOW + Duration::from_secs(600)).unwrap().unwrap().receivers.unwrap();
        assert_eq!(later["hook"][0].alert.ends_at, NOW + Duration::from_secs(800));
        assert_eq!(later["hook"][1], receivers["hook"][1]);
    }

    #[test]
    fn a_file_of_the_first_version_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let text = r#"{"version":1,"saved_at_ms":1700000000000,"alerts":[
            {"labels":{"alertname":"A","group":"g\\xff\""},"value":1234.5,"active_at_ms":1699999940000},
            {"labels":{"alertname":"A","group":"g\\xff\""},"value":1234.5,"active_at_ms":1699999940000,
             "fired_at_ms":1699999998500,"unknown_since_ms":1699999998500,"told_at_ms":1699999998500}]}"#;
        fs::write(&path, text).unwrap();
        let alerts = vec![alert(None), alert(Some(NOW - Duration::from_millis(1_500)))];
        let saved = Saved { saved_at: NOW, alerts, receivers: None };
        assert_eq!(load(&path, NOW).unwrap(), Some(saved));
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        assert_eq!(load(&path, NOW).unwrap(), None);
        let alerts = vec![alert(None), alert(Some(NOW - Duration::from_millis(1_500)))];
        for alerts in [alerts, Vec::new()] {
            save(&path, NOW, alerts.clone().into_iter(), &BTreeMap::new()).unwrap();
            let saved = Saved { saved_at: NOW, alerts, receivers: Some(BTreeMap::new()) };
            assert_eq!(load(&path, NOW + MAX_AGE).unwrap(), Some(saved));
        }
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["alerts.json"]);
    }

    #[test]
    fn nothing_is_loaded_that_is_still_to_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        save(&path, NOW, [alert(Some(NOW))].into_iter(), &BTreeMap::new()).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        let now = NOW - Duration::from_secs(1_800);
        for key in ["fired_at_ms", "active_at_ms", "told_at_ms", "unknown_since_ms"] {
            let before = format!("\"{key}\":1");
            assert!(whole.contains(&before), "{whole}");
            // Far beyond any time that can be written.
            fs::write(&path, whole.replace(&before, &format!("\"{key}\":1844674"))).unwrap();
            let saved = load(&path, now).unwrap().unwrap();
            let state = saved.alerts[0].state;
            assert_eq!(saved.saved_at, now);
            for time in [Some(state.active_at), state.fired_at, state.unknown_since, state.last_sent_at] {
                assert!(time.unwrap() <= now, "{key}: {state:?}");
            }
        }
    }

    #[test]
    fn what_is_not_to_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let shown = path.display().to_string();
        save(&path, NOW, [alert(None)].into_iter(), &BTreeMap::new()).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        let old = load(&path, NOW + MAX_AGE + Duration::from_millis(1_001)).unwrap_err();
        assert_eq!(old.to_string(), format!("{shown} was written 1h 1s ago; at most 1h count"));
        let early = load(&path, NOW - MAX_AGE - Duration::from_millis(1_001)).unwrap_err();
        assert_eq!(
            early.to_string(),
            format!("{shown} was written 1h 1s from now, by this machine's clock; at most 1h count")
        );
        for (text, said) in [
            ("", " is damaged: EOF while parsing a value at line 1 column 0"),
            (&whole[..whole.len() / 2], " is damaged: "),
            ("[]", " is damaged: invalid length 0"),
            (&whole.replace("\"value\":1234.5", "\"value\":\"x\""), " is damaged: invalid type"),
            (
                &whole.replace("\"version\":2", "\"version\":3"),
                " is of version 3; this streamgauge knows versions 1 to 2",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = load(&path, NOW).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{shown}{said}")), "{error}");
        }
        assert!(matches!(load(folder.path(), NOW), Err(StateFileError::Read { .. })));
        let nowhere = folder.path().join("no/such");
        assert!(save(&nowhere, NOW, std::iter::empty(), &BTreeMap::new()).is_err());
    }
}
