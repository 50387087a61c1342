//! The state file, which keeps over a restart: pending and firing alerts, so that `for` keeps counting; the
//! notification log, so that no alert is sent again as new, and receivers are notified when an alert that they know
//! resolves; the learned pauses of groups, so that a batch job does not look abandoned; the times since which
//! conditions hold; and the history and events that pages show. Written atomically.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::alert::active::ActiveAlert;
use crate::alert::evaluator::Evaluator;
use crate::alert::notification::{Alert, AlertStatus};
use crate::alert::notification_log::LogEntry;
use crate::alert::rule::TargetLabels;
use crate::page::event_log::EventLog;
use crate::page::history::GroupHistory;
use crate::page::saved::SavedPast;
use redis_stream_core::file::{self, FileKind};
use redis_stream_core::name::Name;
use redis_stream_core::wall_clock::ClockShift;
use redis_stream_lag::consumer_growth::ConsumerCounts;
use redis_stream_lag::report::Status;
use redis_stream_lag::state::{DatedStatus, LearnedPause, RememberedGroup};

/// Older files are not used: too much may have happened since.
pub const MAX_AGE: Duration = Duration::from_secs(60 * 60);

const VERSION: u32 = 1;

/// The content of the file. Times are since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedState<A = Vec<ActiveAlert>, G = Vec<SavedGroup>, P = Vec<SavedPast>> {
    /// Time of writing.
    pub saved_at: Duration,
    /// Pending and firing alerts, without annotations.
    pub alerts: A,
    /// The notification log by the name of the notifier.
    pub receivers: BTreeMap<String, Vec<LogEntry>>,
    /// Groups as their histories know them.
    #[serde(default)]
    pub groups: G,
    /// History and events of each target.
    #[serde(default)]
    pub pasts: P,
}

/// A list whose items are made one by one while it is written, by an iterator that the closure returns.
#[derive(Clone, Copy, Debug)]
pub struct LazyList<F>(pub F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for LazyList<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// A group as its history knows it. Names are texts, as in labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGroup {
    /// Name of the target.
    pub target: String,
    /// Its database.
    pub db: String,
    /// Key of the stream.
    pub stream: String,
    /// Name of the group.
    pub group: String,
    /// Length of the pause that it usually makes, and the time at which that is forgotten.
    #[serde(default)]
    pub pause: Option<(Duration, Duration)>,
    /// Its status, if that is a condition, and the time at which it began.
    #[serde(default)]
    pub status: Option<(String, Duration)>,
    /// The time until which its consumers were counted, and their numbers with the times since when, as whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<(u64, Vec<(u64, u64)>)>,
}

impl SavedGroup {
    /// Returns a group to be saved at `now`.
    pub fn of(target: &TargetLabels, known: &RememberedGroup, now: Duration) -> Self {
        Self {
            target: target.name.clone(),
            db: target.db.clone(),
            stream: known.stream.text().into_owned(),
            group: known.group.text().into_owned(),
            pause: known.pause.map(|pause| (pause.length, now + pause.remembered_for)),
            status: known.status.map(|dated| (dated.status.as_str().to_owned(), dated.since)),
            consumers: saved_counts(&known.consumers),
        }
    }

    fn remembered(&self, now: Duration) -> RememberedGroup {
        let pause = self.pause.filter(|(_, forget_at)| *forget_at > now).map(|(length, forget_at)| {
            LearnedPause { length, remembered_for: forget_at.saturating_sub(now) }
        });
        let status = self.status.as_ref().and_then(|(name, since)| {
            let status = Status::from_name(name).filter(|status| status.is_condition())?;
            Some(DatedStatus { status, since: *since })
        });
        let (stream, group) = (Name::from_text(&self.stream), Name::from_text(&self.group));
        let consumers = self.consumers.as_ref().map(remembered_counts).unwrap_or_default();
        RememberedGroup { stream, group, pause, status, consumers }
    }
}

fn saved_counts(counts: &ConsumerCounts) -> Option<(u64, Vec<(u64, u64)>)> {
    let changes: Vec<_> = counts.changes().map(|(since, number)| (since.as_secs(), number)).collect();
    (!changes.is_empty()).then_some((counts.noted_at().as_secs(), changes))
}

fn remembered_counts((noted_at, changes): &(u64, Vec<(u64, u64)>)) -> ConsumerCounts {
    let changes = changes.iter().map(|(since, number)| (Duration::from_secs(*since), *number));
    ConsumerCounts::known(Duration::from_secs(*noted_at), changes)
}

/// Why a state file is not used.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file has other content.
    #[error("{path} is damaged: {source}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// Another version of streamgauge wrote it.
    #[error("{path} is of version {version}; this streamgauge reads version {VERSION}", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        version: u32,
    },
    /// It is older than [`MAX_AGE`].
    #[error(
        "{path} was written {age} ago; at most {max} is allowed",
        path = .path.display(),
        age = humantime::format_duration(Duration::from_secs(.age.as_secs())),
        max = humantime::format_duration(MAX_AGE)
    )]
    Old {
        /// The file.
        path: PathBuf,
        /// Its age.
        age: Duration,
    },
    /// The clock was set back since it was written, so its age is not known.
    #[error(
        "{path} was written {ahead} in the future, by this machine's clock; at most {max} is allowed",
        path = .path.display(),
        ahead = humantime::format_duration(Duration::from_secs(.ahead.as_secs())),
        max = humantime::format_duration(MAX_AGE)
    )]
    Early {
        /// The file.
        path: PathBuf,
        /// Time by which it is ahead of the clock.
        ahead: Duration,
    },
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Serialize)]
struct Content<'a, S> {
    version: u32,
    #[serde(flatten)]
    state: &'a S,
}

/// Reads the file; `None` if there is none.
///
/// # Errors
///
/// The file must not be used.
pub fn load(path: &Path, now: Duration) -> Result<Option<SavedState>, StateFileError> {
    let text = match file::read(path, FileKind::State) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateFileError::Read { path: path.to_owned(), source }),
    };
    let damaged = |source| StateFileError::Damaged { path: path.to_owned(), source };
    let Header { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version != VERSION {
        return Err(StateFileError::Version { path: path.to_owned(), version });
    }
    let mut state: SavedState = serde_json::from_slice(&text).map_err(damaged)?;
    let age = now.saturating_sub(state.saved_at);
    if age > MAX_AGE {
        return Err(StateFileError::Old { path: path.to_owned(), age });
    }
    let ahead = state.saved_at.saturating_sub(now);
    if ahead > MAX_AGE {
        return Err(StateFileError::Early { path: path.to_owned(), ahead });
    }
    state.resume(now);
    Ok(Some(state))
}

/// Checks that the file can be written, by a temporary file beside it. Blocks.
///
/// # Errors
///
/// Its folder does not exist or cannot be written, or the path is of something else than a regular file.
pub fn check_writable(path: &Path) -> io::Result<()> {
    file::check_replaceable(path)?;
    temporary_beside(path).map(drop)
}

/// Writes the file, and returns its size in bytes. Blocks.
///
/// # Errors
///
/// The file cannot be written or would be too large to be read again; its former content stays.
pub fn save(path: &Path, state: &impl Serialize) -> io::Result<u64> {
    let mut file = temporary_beside(path)?;
    let mut writer =
        LimitedWriter { inner: io::BufWriter::new(&mut file), left: FileKind::State.max_bytes() };
    serde_json::to_writer(&mut writer, &Content { version: VERSION, state })?;
    writer.write_all(b"\n")?;
    writer.flush()?;
    let bytes = FileKind::State.max_bytes() - writer.left;
    drop(writer);
    file.as_file().sync_all()?;
    file::check_replaceable(path)?;
    file.persist(path)?;
    // Otherwise a power failure may bring back the former file.
    File::open(folder(path))?.sync_all()?;
    Ok(bytes)
}

/// Creates a temporary file in the folder of a file. Its error does not have the temporary name, which is another each time.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    NamedTempFile::new_in(folder(path)).map_err(|error| {
        let text = error.to_string();
        let cause = text.split_once(" at path ").map_or(text.as_str(), |(cause, _)| cause);
        io::Error::new(error.kind(), cause)
    })
}

/// Refuses to write more than a number of bytes.
struct LimitedWriter<W> {
    inner: W,
    left: u64,
}

impl<W: Write> Write for LimitedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the state is larger than 64 MiB"));
        }
        let written = self.inner.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The saved state of one target.
#[derive(Clone, Debug, Default)]
pub struct SavedTarget<'a> {
    saved_at: Duration,
    alerts: Vec<&'a ActiveAlert>,
    groups: Vec<&'a SavedGroup>,
    past: Option<&'a SavedPast>,
}

/// The history and the events of a target, and what they were read from.
#[derive(Debug)]
pub struct RestoredPast {
    pub history: Arc<GroupHistory>,
    pub events: Arc<EventLog>,
    pub saved: Arc<SavedPast>,
}

impl SavedTarget<'_> {
    /// Restores the alerts of an evaluator of this target.
    pub fn resume(&self, evaluator: &mut Evaluator) {
        evaluator.resume(self.alerts.iter().copied().cloned(), self.saved_at);
    }

    /// Returns what is known of the groups of a database at `now`.
    pub fn groups(&self, db: &str, now: Duration) -> impl Iterator<Item = RememberedGroup> {
        self.groups.iter().filter(move |saved| saved.db == db).map(move |saved| saved.remembered(now))
    }

    /// Returns the history and the events of a database.
    pub fn past(&self, db: &str) -> Option<RestoredPast> {
        let saved = self.past.filter(|past| past.db == db)?;
        let (history, events) = (saved.history(self.saved_at), saved.events());
        Some(RestoredPast {
            history: Arc::new(history),
            events: Arc::new(events),
            saved: Arc::new(saved.clone()),
        })
    }
}

impl SavedState {
    /// Returns what is saved of each target, by its name.
    pub fn by_target(&self) -> HashMap<&str, SavedTarget<'_>> {
        let mut targets: HashMap<&str, SavedTarget<'_>> = HashMap::new();
        let saved_at = self.saved_at;
        let new = || SavedTarget { saved_at, ..SavedTarget::default() };
        for alert in &self.alerts {
            if let Some(target) = alert.labels.get("target") {
                targets.entry(target).or_insert_with(new).alerts.push(alert);
            }
        }
        for group in &self.groups {
            targets.entry(&group.target).or_insert_with(new).groups.push(group);
        }
        for past in &self.pasts {
            targets.entry(&past.target).or_insert_with(new).past = Some(past);
        }
        targets
    }

    /// Adapts times to the present: none is later than the time of writing, and firing alerts last longer by the time in
    /// which no notification could be sent. If the clock was set back since then, what had lasted lasts on.
    fn resume(&mut self, now: Duration) {
        let saved_at = self.saved_at.min(now);
        let shift = ClockShift::between(self.saved_at, saved_at);
        self.saved_at = saved_at;
        for alert in &mut self.alerts {
            alert.state.shift_times(shift);
            let last_sent_at = alert.state.last_sent_at.map(|at| at.min(saved_at));
            alert.state = alert.state.as_of(saved_at);
            alert.state.last_sent_at = last_sent_at;
        }
        for past in &mut self.pasts {
            past.limit_times(saved_at);
        }
        for entry in self.receivers.values_mut().flatten() {
            let alert = &*entry.alert;
            let ends_at = match alert.status {
                AlertStatus::Firing => now + alert.ends_at.saturating_sub(saved_at).min(MAX_AGE),
                AlertStatus::Resolved => alert.ends_at.min(saved_at),
            };
            let starts_at = alert.starts_at.min(saved_at);
            entry.alert = Arc::new(Alert { starts_at, ends_at, ..alert.clone() });
            entry.last_sent_at = entry.last_sent_at.map(|at| at.min(saved_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::alert::notification_log::SendState;
    use crate::alert::state::{AlertState, Phase};

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
        ActiveAlert { labels, annotations: BTreeMap::new(), state, inhibited_by: None }
    }

    fn known(status: AlertStatus, send_state: SendState) -> LogEntry {
        let labels = BTreeMap::from(
            [("alertname", "A"), ("group", "g\nh")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let ends_at = match status {
            AlertStatus::Firing => NOW + Duration::from_secs(200),
            AlertStatus::Resolved => NOW - Duration::from_secs(5),
        };
        let alert = Alert {
            labels: Arc::new(labels),
            annotations: BTreeMap::from([("summary".to_owned(), "\"late\"".to_owned())]),
            value: 0.5,
            starts_at: NOW - Duration::from_secs(90),
            ends_at,
            status,
            inhibited_by: None,
            notifiers: Arc::default(),
        };
        LogEntry { alert: Arc::new(alert), send_state, last_sent_at: Some(NOW - Duration::from_secs(80)) }
    }

    fn state(alerts: Vec<ActiveAlert>) -> SavedState {
        SavedState {
            saved_at: NOW,
            alerts,
            receivers: BTreeMap::new(),
            groups: Vec::new(),
            pasts: Vec::new(),
        }
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
        save(&path, &SavedState { receivers: receivers.clone(), ..state(Vec::new()) }).unwrap();
        assert_eq!(load(&path, NOW).unwrap().unwrap().receivers, receivers);
        let later = load(&path, NOW + Duration::from_secs(600)).unwrap().unwrap().receivers;
        assert_eq!(later["hook"][0].alert.ends_at, NOW + Duration::from_secs(800));
        assert_eq!(later["hook"][1], receivers["hook"][1]);
    }

    #[test]
    fn what_is_known_of_groups_is_saved_by_target_and_pauses_are_forgotten_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let target =
            |db: &str| TargetLabels { name: "t".to_owned(), db: db.to_owned(), configured: BTreeMap::new() };
        let pause =
            LearnedPause { length: Duration::from_secs(1_800), remembered_for: Duration::from_secs(3_600) };
        let known = RememberedGroup {
            stream: Name::from(&b"jobs\xff"[..]),
            group: Name::from("batch"),
            pause: Some(pause),
            status: Some(DatedStatus { status: Status::Stuck, since: NOW - Duration::from_secs(99) }),
            consumers: ConsumerCounts::known(
                NOW,
                [(NOW - Duration::from_secs(90_000), 3), (NOW - Duration::from_secs(7_200), 17)],
            ),
        };
        let groups = vec![SavedGroup::of(&target("db0"), &known, NOW)];
        save(&path, &SavedState { groups, ..state(Vec::new()) }).unwrap();
        let later = NOW + Duration::from_secs(600);
        let loaded = load(&path, later).unwrap().unwrap();
        let saved = &loaded.by_target()["t"];
        let of = |db: &str, now| saved.groups(db, now).collect::<Vec<_>>();
        let pause = LearnedPause { remembered_for: Duration::from_secs(3_000), ..pause };
        assert_eq!(of("db0", later), [RememberedGroup { pause: Some(pause), ..known.clone() }]);
        assert_eq!(of("db1", later), []);
        let without_pause = RememberedGroup { pause: None, ..known };
        assert_eq!(of("db0", NOW + Duration::from_secs(3_600)), [without_pause]);
        // A file of an earlier version has none, and one of a later version may have more.
        let text = fs::read_to_string(&path).unwrap();
        let start = text.find(",\"groups\"").unwrap();
        fs::write(&path, format!("{},\"more\":[1]}}", &text[..start])).unwrap();
        assert_eq!(load(&path, NOW).unwrap(), Some(state(Vec::new())));
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        assert_eq!(load(&path, NOW).unwrap(), None);
        let alerts = vec![alert(None), alert(Some(NOW - Duration::from_millis(1_500)))];
        for alerts in [alerts, Vec::new()] {
            let saved = state(alerts);
            save(&path, &saved).unwrap();
            assert_eq!(load(&path, NOW + MAX_AGE).unwrap(), Some(saved));
        }
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["alerts.json"]);
    }

    #[test]
    fn what_is_too_large_is_neither_written_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        save(&path, &state(vec![alert(None)])).unwrap();
        let before = fs::read(&path).unwrap();
        let mut large = alert(None);
        large.labels.insert("stream".to_owned(), "s".repeat(1 << 20));
        let error = save(&path, &state(vec![large; 64])).unwrap_err();
        assert_eq!(error.to_string(), "the state is larger than 64 MiB");
        assert_eq!(fs::read(&path).unwrap(), before, "the former file stays");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        File::options().write(true).open(&path).unwrap().set_len((64 << 20) + 1).unwrap();
        assert_eq!(
            load(&path, NOW).unwrap_err().to_string(),
            format!("cannot read {}: larger than 64 MiB, the limit of such a file", path.display())
        );
    }

    #[test]
    fn nothing_is_loaded_that_is_still_to_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        save(&path, &state(vec![alert(Some(NOW))])).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        let now = NOW - Duration::from_secs(1_800);
        for key in ["fired_at", "active_at", "last_sent_at", "unknown_since"] {
            let before = format!("\"{key}\":{{\"secs\":1");
            assert!(whole.contains(&before), "{whole}");
            // Far beyond any time that can be written.
            fs::write(&path, whole.replace(&before, &format!("\"{key}\":{{\"secs\":1844674"))).unwrap();
            let saved = load(&path, now).unwrap().unwrap();
            let state = saved.alerts[0].state;
            assert_eq!(saved.saved_at, now);
            for time in [Some(state.active_at), state.fired_at, state.unknown_since, state.last_sent_at] {
                assert!(time.unwrap() <= now, "{key}: {state:?}");
            }
        }
    }

    #[test]
    fn a_pending_alert_fires_no_sooner_after_a_restart_with_a_clock_that_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let (s, firing) = (Duration::from_secs, alert(Some(NOW - Duration::from_secs(30))));
        let kept = AlertState { kept_since: Some(NOW - s(20)), ..firing.state };
        save(&path, &state(vec![alert(None), ActiveAlert { state: kept, ..firing }])).unwrap();
        // Without a clock that was set back, the time between counts, whatever it was spent with.
        for (now, pending, held) in [
            (NOW, s(60), s(20)),
            (NOW + s(1_800), s(1_860), s(1_820)),
            (NOW + MAX_AGE, MAX_AGE + s(60), MAX_AGE + s(20)),
            (NOW - s(10), s(60), s(20)),
            (NOW - s(1_800), s(60), s(20)),
            (NOW - MAX_AGE, s(60), s(20)),
        ] {
            let loaded = load(&path, now).unwrap().unwrap();
            let [waiting, kept] = &loaded.alerts[..] else { panic!("{loaded:?}") };
            assert_eq!(now - waiting.state.active_at, pending, "{now:?}");
            assert_eq!(kept.state.kept_since, Some(now - held), "{now:?}");
            assert_eq!(kept.state.fired_at, Some(now.min(NOW - s(30))), "{now:?}");
        }
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/null", path("link to a device")).unwrap();
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        for (name, problem) in [
            ("socket", "a socket, not a regular file"),
            ("folder", "a directory, not a regular file"),
            ("link to a device", "a device, not a regular file"),
            ("loop", "Too many levels of symbolic links (os error 40)"),
        ] {
            assert_eq!(save(&path(name), &state(Vec::new())).unwrap_err().to_string(), problem);
            assert_eq!(check_writable(&path(name)).unwrap_err().to_string(), problem);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "each is there, and nothing else");
        drop(socket);
    }

    #[test]
    fn what_is_not_to_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let shown = path.display().to_string();
        save(&path, &state(vec![alert(None)])).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        let old = load(&path, NOW + MAX_AGE + Duration::from_millis(1_001)).unwrap_err();
        assert_eq!(old.to_string(), format!("{shown} was written 1h 1s ago; at most 1h is allowed"));
        let early = load(&path, NOW - MAX_AGE - Duration::from_millis(1_001)).unwrap_err();
        assert_eq!(
            early.to_string(),
            format!(
                "{shown} was written 1h 1s in the future, by this machine's clock; at most 1h is allowed"
            )
        );
        for (text, said) in [
            ("", " is damaged: EOF while parsing a value at line 1 column 0"),
            (&whole[..whole.len() / 2], " is damaged: "),
            ("[]", " is damaged: invalid length 0"),
            (&whole.replace("\"value\":1234.5", "\"value\":\"x\""), " is damaged: invalid type"),
            (
                &whole.replace("\"version\":1", "\"version\":2"),
                " is of version 2; this streamgauge reads version 1",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = load(&path, NOW).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{shown}{said}")), "{error}");
        }
        assert!(matches!(load(folder.path(), NOW), Err(StateFileError::Read { .. })));
        let nowhere = folder.path().join("no/such");
        assert!(save(&nowhere, &state(Vec::new())).is_err());
    }
}
