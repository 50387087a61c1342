//! One connection that is made again when it is lost: with backoff, with deadlines, and with the future
//! that ends the run in view at every wait.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value, from_redis_value,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::connect_options::ConnectOptions;
use super::error::{Refusal, WorkloadError, is_transient};
use super::stop::Stop;
use redis_stream_core::backoff::Backoff;
use redis_stream_core::clock::now;
use redis_stream_core::cluster::{Redirect, RedirectKind, endpoint_of};
use redis_stream_core::dial::{DialError, Dialer};
use redis_stream_core::server_clock::ServerClock;

/// How long what is in hand may still take once the run shall end.
pub(super) const GRACE: Duration = Duration::from_secs(2);

const FIRST_DELAY: Duration = Duration::from_millis(100);

/// How long to wait for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest time to make a connection, authentication included.
    pub connect: Duration,
    /// Longest time for a reply, on top of the time that the command itself may wait.
    pub reply: Duration,
    /// Longest time from one try to connect to the next.
    pub longest_delay: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs(5);
        Self { connect: seconds, reply: seconds, longest_delay: seconds }
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Go on.
    Ready,
    /// The run shall end.
    Stopped,
}

/// A connection to one server, made again when it is lost.
pub(super) struct Connection {
    endpoint: ConnectOptions,
    dialer: Dialer,
    timeouts: Timeouts,
    stop: Stop,
    /// The node of a cluster that MOVED named, in place of the endpoint's own host and port.
    moved_to: Option<(String, u16)>,
    current: Option<MultiplexedConnection>,
    /// Tries since the last that worked.
    attempt: u32,
    /// What was logged last, so that only a change is logged.
    logged: Option<String>,
    proven: Proof,
}

/// Whether the server ever did what we ask of it. Before, a refusal is an error of whoever started us;
/// afterwards it may be a password in rotation, and is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Never,
    Once,
}

impl Connection {
    pub(super) fn new(endpoint: ConnectOptions, stop: Stop) -> Self {
        let timeouts = Timeouts::default();
        let (moved_to, proven) = (None, Proof::Never);
        let dialer = endpoint.dialer();
        Self { endpoint, dialer, timeouts, stop, moved_to, current: None, attempt: 0, logged: None, proven }
    }

    /// With other timeouts than the usual ones.
    pub(super) fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// One more connection of a run whose first one was made: a refusal is waited for.
    pub(super) fn further(self) -> Self {
        Self { proven: Proof::Once, ..self }
    }

    /// Whether the run shall end now.
    pub(super) fn is_stopped(&mut self) -> bool {
        self.stop.is_set()
    }

    /// Connects where there is no connection, for as long as it takes.
    pub(super) async fn connect(&mut self) -> Result<Progress, WorkloadError> {
        loop {
            if self.is_stopped() {
                return Ok(Progress::Stopped);
            }
            if self.current.is_some() {
                return Ok(Progress::Ready);
            }
            if self.attempt > 0 {
                let backoff = Backoff::new(FIRST_DELAY, self.timeouts.longest_delay);
                let delay = backoff.delay(self.attempt, fastrand::f64());
                if self.pause(delay).await == Progress::Stopped {
                    return Ok(Progress::Stopped);
                }
            }
            let dialled = tokio::select! {
                () = self.stop.wait() => return Ok(Progress::Stopped),
                dialled = dial(&self.endpoint, &self.dialer, self.moved_to.as_ref(), self.timeouts.connect) => dialled,
            };
            match dialled {
                Ok(connection) => self.current = Some(connection),
                Err(Fault::Redis(error)) => {
                    // A node that is gone: the address that was given leads to the others.
                    self.moved_to = None;
                    self.lost(error)?;
                }
                Err(Fault::Workload(error)) if self.proven == Proof::Once => self.failed(&error.to_string()),
                Err(Fault::Workload(error)) => return Err(error),
            }
        }
    }

    /// The server did what was asked: the next loss starts with a short delay again.
    pub(super) fn works(&mut self) {
        if self.attempt > 0 || self.proven == Proof::Never {
            info!(server = %self.endpoint, "connected");
        }
        self.attempt = 0;
        self.logged = None;
        self.proven = Proof::Once;
    }

    /// Gives up this connection over `error`, or the run where a new one would meet the same.
    pub(super) fn lost(&mut self, error: RedisError) -> Result<(), WorkloadError> {
        self.current = None;
        if let Some(node) = moved_to(&error) {
            info!(server = %self.endpoint, node = %format_args!("{}:{}", node.0, node.1), "stream is on another node, following");
            self.moved_to = Some(node);
            self.attempt = self.attempt.saturating_add(1);
            return Ok(());
        }
        let rotating = error.kind() == ErrorKind::AuthenticationFailed && self.proven == Proof::Once;
        // A reply that was cut off in the middle; from the first on it is no Redis server that we talk to.
        let is_cut = error.kind() == ErrorKind::Parse && self.proven == Proof::Once;
        if is_transient(&error) || rotating || is_cut {
            self.failed(&Refusal::new(error).to_string());
            return Ok(());
        }
        Err(WorkloadError::Refused { server: self.endpoint.to_string(), source: Refusal::new(error) })
    }

    fn failed(&mut self, error: &str) {
        self.attempt = self.attempt.saturating_add(1);
        if self.logged.as_deref() != Some(error) && !self.stop.is_set() {
            warn!(server = %self.endpoint, error, "server cannot be used, trying again");
            self.logged = Some(error.to_owned());
        }
    }

    /// Sends one command that may wait for up to `block` on the server.
    pub(super) async fn query(&mut self, cmd: &Cmd, block: Duration) -> RedisResult<Value> {
        let connection = self.current.as_mut().ok_or_else(no_connection)?;
        let deadline = block + self.timeouts.reply;
        within_grace(&mut self.stop, timeout(deadline, connection.send_packed_command(cmd)))
            .await
            .ok_or_else(timed_out)?
            .map_err(|_| timed_out())?
            // The raw reply holds the server's error as a value.
            .and_then(Value::extract_error)
    }

    /// Sends commands together; each has its own result.
    pub(super) async fn query_all(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let connection = self.current.as_mut().ok_or_else(no_connection)?;
        let sent = connection.send_packed_commands(pipeline, 0, pipeline.len());
        let replies = within_grace(&mut self.stop, timeout(self.timeouts.reply, sent))
            .await
            .ok_or_else(timed_out)?
            .map_err(|_| timed_out())??;
        Ok(replies.into_iter().map(Value::extract_error).collect())
    }

    /// Sleeps, unless the run shall end.
    pub(super) async fn pause(&mut self, time: Duration) -> Progress {
        tokio::select! {
            () = self.stop.wait() => Progress::Stopped,
            () = sleep(time) => Progress::Ready,
        }
    }
}

/// What went wrong with a dial.
enum Fault {
    Redis(RedisError),
    Workload(WorkloadError),
}

async fn dial(
    endpoint: &ConnectOptions,
    dialer: &Dialer,
    moved_to: Option<&(String, u16)>,
    longest: Duration,
) -> Result<MultiplexedConnection, Fault> {
    let settings = endpoint.settings().await.map_err(Fault::Workload)?;
    let place = moved_to.map_or_else(|| endpoint.place().clone(), |node| endpoint_of(node, endpoint.place()));
    let deadline = now() + longest;
    let connecting = async {
        let stream = dialer.dial(&place, deadline).await.map_err(into_io)?;
        // The default of half a second for a reply would cut every blocking read short; deadlines are set per
        // command, by `query`.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        MultiplexedConnection::new_with_config(&settings, stream, config).await
    };
    let connected = timeout_at(deadline, connecting).await.unwrap_or_else(|_| Err(timed_out()));
    let (connection, driver) = connected.map_err(Fault::Redis)?;
    // It ends with the last clone of the connection.
    tokio::spawn(driver);
    Ok(connection)
}

/// What kept a connection from being made is worth waiting for: it may be mended on the other side.
fn into_io(error: DialError) -> RedisError {
    match error {
        DialError::Connect(source) => source.into(),
        DialError::Timeout => timed_out(),
        error => io::Error::other(error).into(),
    }
}

/// Returns the node that holds the key, if the error is a redirection to it.
pub(super) fn moved_to(error: &RedisError) -> Option<(String, u16)> {
    let redirect = Redirect::parse(error.code()?, error.detail()?)?;
    (redirect.kind == RedirectKind::Moved).then_some(redirect.node)
}

/// Reads the reply to TIME, which arrived at `at`.
pub(super) fn server_clock(reply: Value, at: Instant) -> RedisResult<ServerClock> {
    let (seconds, micros) = from_redis_value(reply)?;
    Ok(ServerClock::new(seconds, micros, at.into_std()))
}

/// What `work` gives, or `None` where it lasts longer than the grace after the run shall end.
async fn within_grace<T>(stop: &mut Stop, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = async { stop.wait().await; sleep(GRACE).await } => None,
    }
}

fn no_connection() -> RedisError {
    io::Error::from(io::ErrorKind::NotConnected).into()
}

fn timed_out() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "no reply in time").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::id::StreamId;

    #[test]
    fn the_ceiling_of_the_delay_doubles_up_to_five_seconds() {
        let backoff = Backoff::new(FIRST_DELAY, Timeouts::default().longest_delay);
        let ceilings: Vec<u128> =
            [0, 1, 2, 5, 6, 40].map(|attempt| backoff.bound(attempt + 1).as_millis()).to_vec();
        assert_eq!(ceilings, [100, 200, 400, 3_200, 5_000, 5_000]);
    }

    #[test]
    fn an_age_is_by_the_servers_clock_and_only_for_a_time() {
        let start = now();
        let bulk = |text: &str| Value::BulkString(text.into());
        let reply = Value::Array(vec![bulk("1700000000"), bulk("500000")]);
        let later = server_clock(reply, start).unwrap().time_at((start + Duration::from_secs(1)).into_std());
        assert_eq!(later, Duration::from_millis(1_700_000_001_500));
        for (ms, age) in [
            (1_700_000_000_000, Some(Duration::from_millis(1_500))),
            (1_700_000_002_000, Some(Duration::ZERO)),
            (1, None),
            (1_800_000_000_000, None),
        ] {
            assert_eq!(StreamId::new(ms, 0).age(later), age, "{ms}");
        }
        assert!(server_clock(Value::Nil, start).is_err());
    }

    #[test]
    fn only_moved_names_the_node_that_holds_a_key() {
        let error = |text: &str| match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => RedisError::from(error),
            other => panic!("{other:?}"),
        };
        let node = |host: &str| Some((host.to_owned(), 6381));
        assert_eq!(moved_to(&error("MOVED 3999 127.0.0.1:6381")), node("127.0.0.1"));
        assert_eq!(moved_to(&error("MOVED 3999 ::1:6381")), node("::1"));
        assert_eq!(moved_to(&error("MOVED 3999 :6381")), node(""));
        assert_eq!(moved_to(&error("ASK 3999 127.0.0.1:6381")), None);
        assert_eq!(moved_to(&error("ERR no such key")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_hand_is_given_the_grace_and_no_more() {
        let mut stop = Stop::new(std::future::ready(()));
        assert_eq!(within_grace(&mut stop, sleep(GRACE / 2)).await, Some(()));
        assert_eq!(within_grace(&mut stop, sleep(GRACE * 2)).await, None);
    }
}
