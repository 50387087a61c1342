//! A connection that is made again with backoff after it was lost. Every wait has a deadline, and ends early when the run
//! is stopped.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value, from_redis_value,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::connect_options::ConnectOptions;
use super::error::{Refusal, RunError, is_transient};
use redis_stream_core::backoff::Backoff;
use redis_stream_core::clock::now;
use redis_stream_core::cluster::{Redirect, RedirectKind, are_on_one_host, endpoint_of};
use redis_stream_core::dial::{DialError, Dialer};
use redis_stream_core::secret::hide_secrets;
use redis_stream_core::server_clock::ServerClock;
use tokio_util::sync::CancellationToken;

/// Time that a command that was sent may still take after the run is stopped.
const GRACE: Duration = Duration::from_secs(2);

const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Timeouts of a connection. Each is 5 seconds by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest time to make a connection, including authentication.
    pub connect: Duration,
    /// Longest time until a reply, in addition to the time that the command itself may block.
    pub reply: Duration,
    /// Longest delay between two attempts to connect.
    pub longest_delay: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs(5);
        Self { connect: seconds, reply: seconds, longest_delay: seconds }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Ready,
    Stopped,
}

/// A connection to one server.
pub(crate) struct Connection {
    options: ConnectOptions,
    dialer: Dialer,
    timeouts: Timeouts,
    stop: CancellationToken,
    /// The node of a cluster that MOVED named, instead of the host and port of the options.
    moved_to: Option<(String, u16)>,
    current: Option<MultiplexedConnection>,
    /// Attempts since the last success.
    attempt: u32,
    /// The error that was logged last, so that only changes are logged.
    logged: Option<String>,
    proven: Proof,
}

/// Records if this server has ever executed a command. Before, a refusal is a wrong setting; afterwards it may be a
/// password that is being rotated, and is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Never,
    Once,
}

impl Connection {
    pub(crate) fn new(options: ConnectOptions, stop: CancellationToken) -> Self {
        let timeouts = Timeouts::default();
        let (moved_to, proven) = (None, Proof::Never);
        let dialer = options.dialer();
        Self { options, dialer, timeouts, stop, moved_to, current: None, attempt: 0, logged: None, proven }
    }

    pub(crate) fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// Returns the same as a further connection of a run, whose first one reports wrong settings: refusals are retried.
    pub(crate) fn further(self) -> Self {
        Self { proven: Proof::Once, ..self }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Connects if there is no connection, and retries until it succeeds or the run is stopped.
    pub(crate) async fn connect(&mut self) -> Result<Progress, RunError> {
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
                () = self.stop.cancelled() => return Ok(Progress::Stopped),
                dialled = dial(&self.options, &self.dialer, self.moved_to.as_ref(), self.timeouts.connect) => dialled,
            };
            match dialled {
                Ok(connection) => self.current = Some(connection),
                Err(ConnectError::Redis(error)) => {
                    // The node may be gone: the configured address leads to the others.
                    self.moved_to = None;
                    self.lost(error)?;
                }
                Err(ConnectError::Settings(error)) if self.proven == Proof::Once => {
                    self.failed(&error.to_string());
                }
                Err(ConnectError::Settings(error)) => return Err(error),
            }
        }
    }

    /// Connects if there is no connection, and tries only once.
    pub(crate) async fn connect_once(&mut self) -> Result<(), RunError> {
        if self.current.is_some() {
            return Ok(());
        }
        let dialled = dial(&self.options, &self.dialer, self.moved_to.as_ref(), self.timeouts.connect).await;
        match dialled {
            Ok(connection) => self.current = Some(connection),
            Err(ConnectError::Redis(error)) => return Err(self.refused(error)),
            Err(ConnectError::Settings(error)) => return Err(error),
        }
        Ok(())
    }

    /// Returns the error that ends the run for an error of the server or the connection.
    pub(crate) fn refused(&self, error: RedisError) -> RunError {
        RunError::Refused { server: self.options.to_string(), source: Refusal::new(error) }
    }

    /// Notes that the server executes commands: the next loss begins with a short delay again.
    pub(crate) fn works(&mut self) {
        if self.attempt > 0 || self.proven == Proof::Never {
            info!(server = %self.options, "connected");
        }
        self.attempt = 0;
        self.logged = None;
        self.proven = Proof::Once;
    }

    /// Drops the connection after an error. Returns the error that ends the run if a new connection would meet it too.
    pub(crate) fn lost(&mut self, error: RedisError) -> Result<(), RunError> {
        self.current = None;
        if let Some(node) = moved_to(&error) {
            let endpoint = endpoint_of(&node, self.options.endpoint());
            if self.options.has_password() && !are_on_one_host(self.options.endpoint(), &endpoint) {
                let server = self.options.to_string();
                let node = hide_secrets(&endpoint.to_string()).into_owned();
                return Err(RunError::OtherHost { server, node });
            }
            info!(server = %self.options, node = %format_args!("{}:{}", node.0, node.1), "stream is on another node, following");
            self.moved_to = Some(node);
            self.attempt = self.attempt.saturating_add(1);
            return Ok(());
        }
        let is_rotating = error.kind() == ErrorKind::AuthenticationFailed && self.proven == Proof::Once;
        // A reply that was cut off; on the first connection, the peer is no Redis server.
        let is_cut = error.kind() == ErrorKind::Parse && self.proven == Proof::Once;
        if is_transient(&error) || is_rotating || is_cut {
            self.failed(&Refusal::new(error).to_string());
            return Ok(());
        }
        Err(self.refused(error))
    }

    fn failed(&mut self, error: &str) {
        self.attempt = self.attempt.saturating_add(1);
        if self.logged.as_deref() != Some(error) && !self.is_stopped() {
            warn!(server = %self.options, error, "server cannot be used, trying again");
            self.logged = Some(error.to_owned());
        }
    }

    /// Sends one command that may block on the server for up to `block`.
    pub(crate) async fn query(&mut self, cmd: &Cmd, block: Duration) -> RedisResult<Value> {
        let connection = self.current.as_mut().ok_or_else(no_connection)?;
        let sent = connection.send_packed_command(cmd);
        within(block + self.timeouts.reply, &self.stop, sent).await.and_then(Value::extract_error)
    }

    /// Sends commands together, and returns one result for each.
    pub(crate) async fn query_all(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let connection = self.current.as_mut().ok_or_else(no_connection)?;
        let sent = connection.send_packed_commands(pipeline, 0, pipeline.len());
        let replies = within(self.timeouts.reply, &self.stop, sent).await?;
        Ok(replies.into_iter().map(Value::extract_error).collect())
    }

    /// Waits until the run is stopped.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Sleeps until the time is over or the run is stopped.
    pub(crate) async fn pause(&self, time: Duration) -> Progress {
        tokio::select! {
            () = self.stop.cancelled() => Progress::Stopped,
            () = sleep(time) => Progress::Ready,
        }
    }
}

enum ConnectError {
    Redis(RedisError),
    /// The settings cannot be read.
    Settings(RunError),
}

async fn dial(
    options: &ConnectOptions,
    dialer: &Dialer,
    moved_to: Option<&(String, u16)>,
    longest: Duration,
) -> Result<MultiplexedConnection, ConnectError> {
    let settings = options.settings().await.map_err(ConnectError::Settings)?;
    let endpoint =
        moved_to.map_or_else(|| options.endpoint().clone(), |node| endpoint_of(node, options.endpoint()));
    let deadline = now() + longest;
    let connecting = async {
        let stream = dialer.dial(&endpoint, deadline).await.map_err(into_io)?;
        // The default response timeout of half a second would cut blocking reads short; `query` sets deadlines.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        MultiplexedConnection::new_with_config(&settings, stream, config).await
    };
    let connected = timeout_at(deadline, connecting).await.unwrap_or_else(|_| Err(timed_out()));
    let (connection, driver) = connected.map_err(ConnectError::Redis)?;
    // The task ends with the last clone of the connection.
    tokio::spawn(driver);
    Ok(connection)
}

/// Converts to an I/O error, which is retried: the cause may be on the server's side.
fn into_io(error: DialError) -> RedisError {
    match error {
        DialError::Connect(source) => source.into(),
        DialError::Timeout => timed_out(),
        error => io::Error::other(error).into(),
    }
}

/// Returns the node that holds the key, if the error is a redirection to it.
pub(crate) fn moved_to(error: &RedisError) -> Option<(String, u16)> {
    let redirect = Redirect::parse(error.code()?, error.detail()?)?;
    (redirect.kind == RedirectKind::Moved).then_some(redirect.node)
}

/// Reads the reply to TIME, which arrived at `at`.
pub(crate) fn server_clock(reply: Value, at: Instant) -> RedisResult<ServerClock> {
    let (seconds, micros) = from_redis_value(reply)?;
    Ok(ServerClock::new(seconds, micros, at.into_std()))
}

/// Waits for a reply; once the connection is stopped, for [`GRACE`] at most.
async fn within<T>(
    time: Duration,
    stop: &CancellationToken,
    reply: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    tokio::select! {
        biased;
        reply = timeout(time, reply) => reply.unwrap_or_else(|_| Err(timed_out())),
        () = async { stop.cancelled().await; sleep(GRACE).await } => Err(timed_out()),
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
    async fn a_command_that_was_sent_has_the_grace_and_no_more() {
        let stop = CancellationToken::new();
        stop.cancel();
        let reply = async |after| {
            let reply = async {
                sleep(after).await;
                Ok(())
            };
            within(GRACE * 9, &stop, reply).await.is_ok()
        };
        assert!(reply(GRACE / 2).await);
        assert!(!reply(GRACE * 2).await);
    }
}
