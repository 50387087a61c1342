//! Connects to one node, logs in, and identifies it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, cmd};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::config::{LoginPassword, Password, Role, Target};
use crate::poller::connection::{NodeConnection, Replies};
use crate::poller::decode::topology::{self, Hello, ServerProcess};
use crate::poller::error::PollError;
use crate::poller::pipeline::{NodePipeline, request, without_error};
use crate::poller::resp::Value;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::dial::Dialer;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_core::secret::hide_secrets;
use redis_stream_lag::snapshot::{EntriesReadMeaning, Epoch};

/// The share of a login's lifetime after which it is renewed, and the share between attempts if that fails.
const RENEWED_AFTER: f64 = 0.8;
const RENEWED_AGAIN_AFTER: f64 = 0.05;

/// A connection to one node. The connection closes when this is dropped.
#[derive(Debug)]
pub(super) struct Node {
    /// Host and port, or the path of the socket, as shown to people.
    pub(super) address: Arc<str>,
    pub(super) epoch: Epoch,
    pub(super) connection: Mutex<NodeConnection>,
    /// The endpoint; `None` once it has replied to a command.
    unanswered: Option<Endpoint>,
    /// When to log in again; `None` for never.
    renewal: Option<Instant>,
}

/// The credentials and database for a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    /// ACL user; `None` is the default user.
    pub(super) username: Option<&'a str>,
    /// `None` is no authentication.
    pub(super) password: Option<&'a LoginPassword>,
    /// The time after which it has to be renewed; `None` if it lasts as long as the connection.
    pub(super) lifetime: Option<Duration>,
    pub(super) db: u32,
}

impl<'a> Login<'a> {
    pub(super) fn of(target: &'a Target) -> Self {
        Self {
            username: target.username.as_deref(),
            password: target.password.as_ref(),
            lifetime: target.login_lifetime,
            db: target.db,
        }
    }

    /// Returns the AUTH command; `None` without a password. The password file is read for each login, in a blocking
    /// task as it may lie on a slow file system; the password command is run for each.
    async fn command(&self, deadline: Instant) -> Result<Option<Cmd>, PollError> {
        let late =
            |_| Err(io::Error::new(io::ErrorKind::TimedOut, "no password within the timeout of the poll"));
        let secret = match self.password {
            None => return Ok(None),
            Some(LoginPassword::Configured(Password::Text(secret))) => secret.clone(),
            Some(LoginPassword::Configured(file)) => {
                let file = file.clone();
                let read = timeout_at(deadline, spawn_blocking(move || file.read())).await;
                let read = read.map(|read| read.unwrap_or_else(|panic| Err(panic.into())));
                read.unwrap_or_else(late).map_err(PollError::PasswordFile)?
            }
            Some(LoginPassword::Command(command)) => {
                let printed = timeout_at(deadline, command.run()).await;
                printed.unwrap_or_else(late).map_err(PollError::PasswordCommand)?
            }
        };
        secret.mark_in_use();
        let mut auth = cmd("AUTH");
        auth.arg(self.username).arg(secret.expose());
        Ok(Some(auth))
    }
}

/// A node's reply to HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `redis` or `valkey`.
    pub server: String,
    /// The server's own version: Valkey's for a Valkey.
    pub version: String,
    /// `master` or `replica`.
    pub role: String,
    /// `standalone`, `sentinel` or `cluster`.
    pub mode: String,
}

impl Identity {
    /// Returns true if the server has CLIENT NO-TOUCH: Redis from 7.2 and every Valkey, which reports `redis` 7.2.4
    /// where it is configured to look like Redis.
    pub(super) fn knows_no_touch(&self) -> bool {
        self.release() >= (7, 2)
    }

    /// Returns true for a replica. Some servers and proxies report `slave`, as INFO does.
    pub fn is_replica(&self) -> bool {
        matches!(self.role.as_str(), "replica" | "slave")
    }

    /// Returns true if a replica's entries-read follows its master's. Before 7.4 only NOACK reads replicate it, so
    /// that it may stand still.
    pub(super) fn replicates_entries_read(&self) -> bool {
        self.release() >= (7, 4)
    }

    /// Returns the meaning of entries-read: the rank of last-delivered-id from Redis 8.0 and Valkey 8.1 on.
    pub(super) fn entries_read_meaning(&self) -> EntriesReadMeaning {
        let corrects = match self.server.as_str() {
            "redis" => self.release() >= (8, 0),
            "valkey" => self.release() >= (8, 1),
            _ => false,
        };
        if corrects { EntriesReadMeaning::Rank } else { EntriesReadMeaning::Deliveries }
    }

    /// Returns false if the server certainly has no XTRIM with ACKED: Redis has it from 8.2 on, and Valkey did not take
    /// it over.
    pub(super) fn may_have_acked_trimming(&self) -> bool {
        match self.server.as_str() {
            "redis" => self.release() >= (8, 2) || self.release() == (0, 0),
            "valkey" => false,
            _ => true,
        }
    }

    /// Returns true if the server certainly has XNACK: Redis from 8.8 on.
    pub(super) fn has_xnack(&self) -> bool {
        self.server == "redis" && self.release() >= (8, 8)
    }

    /// Returns the major and minor version; zeros where the server reports none.
    pub fn release(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map_while(|number| number.parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// A node and its connection.
#[derive(Clone, Copy, Debug)]
pub struct NodeState<'a> {
    /// Host and port, or the path of its socket.
    pub address: &'a str,
    /// The node's reply to HELLO; `None` before the first connection, and where HELLO is refused.
    pub identity: Option<&'a Identity>,
    /// Why the node cannot be polled; `None` if it can.
    pub failure: Option<&'a str>,
    /// `run_id` of the process that was connected last; `None` where INFO is refused.
    pub run_id: Option<&'a str>,
}

impl Node {
    /// Connects to `endpoint`, logs in and selects the database.
    pub(super) async fn connect(
        login: Login<'_>,
        dialer: &Dialer,
        endpoint: &Endpoint,
        epoch: Epoch,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<Self, PollError> {
        let shown: Arc<str> = endpoint.to_string().into();
        let auth = login.command(deadline).await?;
        let stream = dialer.dial(endpoint, deadline).await;
        let stream = stream.map_err(|error| PollError::from_dial(&shown, error))?;
        let connection = Mutex::new(NodeConnection::new(stream, metrics.clone()));
        let mut node =
            Self { address: shown, epoch, connection, unanswered: Some(endpoint.clone()), renewal: None };
        if let Some(auth) = auth {
            node.authenticate(&auth, login.lifetime, metrics, deadline).await?;
        }
        if login.db != 0 {
            metrics.count_commands(Command::Select, 1);
            node.call(cmd("SELECT").arg(login.db), deadline).await?;
        }
        Ok(node)
    }

    async fn authenticate(
        &mut self,
        auth: &Cmd,
        lifetime: Option<Duration>,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<(), PollError> {
        metrics.count_commands(Command::Auth, 1);
        if let Value::Error(error) = self.request(auth, deadline).await?.value() {
            return Err(PollError::from_auth_reply(&self.address, error));
        }
        self.renewal = lifetime.map(|lifetime| now() + lifetime.mul_f64(RENEWED_AFTER));
        Ok(())
    }

    /// Logs in again if the login ends soon. If that fails, the old login goes on, and another attempt follows.
    ///
    /// # Errors
    ///
    /// The connection was lost.
    pub(super) async fn renew_login(
        &mut self,
        login: Login<'_>,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<(), PollError> {
        let (Some(due), Some(lifetime)) = (self.renewal, login.lifetime) else { return Ok(()) };
        if now() < due {
            return Ok(());
        }
        self.renewal = Some(now() + lifetime.mul_f64(RENEWED_AGAIN_AFTER));
        let renewed = match login.command(deadline).await {
            Ok(Some(auth)) => self.authenticate(&auth, login.lifetime, metrics, deadline).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match renewed {
            Err(error @ PollError::Lost { .. }) => Err(error),
            Err(error) => {
                metrics.count_errors(error.reason(), 1);
                warn!(address = %self.address, error = %error, "cannot renew the login; the connection goes on with the old one");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Returns pipelines for this node, given the expected size of the reply to each job.
    pub(super) fn pipelines(&self, reply_bytes: impl Iterator<Item = u64>) -> NodePipeline<'_> {
        let reply_bytes = reply_bytes.collect();
        NodePipeline { connection: &self.connection, address: &self.address, reply_bytes }
    }

    /// Sends one command; an error reply is an error of the node.
    pub(super) async fn call(&mut self, command: &Cmd, deadline: Instant) -> Result<Replies, PollError> {
        without_error(self.request(command, deadline).await?, &self.address)
    }

    /// Sends one command, and returns its reply, also if that is an error.
    async fn request(&mut self, command: &Cmd, deadline: Instant) -> Result<Replies, PollError> {
        let connection = self.connection.get_mut();
        let reply = request(connection, &self.address, deadline, command).await;
        let Some(endpoint) = &self.unanswered else { return reply };
        match reply {
            Err(error @ (PollError::Lost { .. } | PollError::Protocol { .. })) => {
                Err(error.before_any_reply(endpoint, connection.first_bytes()))
            }
            reply => {
                self.unanswered = None;
                reply
            }
        }
    }

    /// Sends HELLO. Returns `None` where it is refused.
    pub(super) async fn identify(
        &mut self,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<Option<Identity>, PollError> {
        metrics.count_commands(Command::Hello, 1);
        match self.call(&cmd("HELLO"), deadline).await {
            Ok(reply) => {
                let Hello { server, version, role, mode } = topology::hello(reply.value())
                    .map_err(|error| PollError::protocol(&self.address, &error))?;
                let [server, version, role, mode] =
                    [server, version, role, mode].map(|text| hide_secrets(&text).into_owned());
                Ok(Some(Identity { server, version, role, mode }))
            }
            // Renamed, refused by an ACL, or older than 6.0.
            Err(error) if error.is_refusal() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns true if the other side closed the connection.
    pub(super) fn is_closed(&mut self) -> bool {
        self.connection.get_mut().is_closed()
    }

    /// Sends INFO server and INFO replication. Returns `None` where INFO is refused, or lacks what identifies the
    /// process.
    pub(super) async fn process(
        &mut self,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<Option<ServerProcess>, PollError> {
        let mut replies = Vec::with_capacity(2);
        for section in ["server", "replication"] {
            metrics.count_commands(Command::Info, 1);
            match self.call(cmd("INFO").arg(section), deadline).await {
                Ok(reply) => replies.push(reply),
                Err(error) if error.is_refusal() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(topology::process(replies[0].value(), replies[1].value()).ok())
    }

    /// Sends TIME, so that neither the server nor a proxy closes the connection as idle.
    pub(super) async fn keep_alive(
        &mut self,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<(), PollError> {
        metrics.count_commands(Command::Time, 1);
        match self.call(&cmd("TIME"), deadline).await {
            Err(error) if !error.is_refusal() => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps polls from making every stream look recently used. Not sent to older servers, which would note the
    /// unknown command in their ACL LOG.
    pub(super) async fn decline_touch(
        &mut self,
        identity: Option<&Identity>,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<(), PollError> {
        if !identity.is_some_and(Identity::knows_no_touch) {
            return Ok(());
        }
        metrics.count_commands(Command::ClientNoTouch, 1);
        match self.call(cmd("CLIENT").arg("NO-TOUCH").arg("ON"), deadline).await {
            Err(error) if !error.is_refusal() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns an error if the node is a sentinel, or has another role than the configuration demands.
pub(super) fn check_role(wanted: Role, address: &str, identity: Option<&Identity>) -> Result<(), PollError> {
    // Where HELLO is refused, the role is not checked.
    let Some(identity) = identity else { return Ok(()) };
    if identity.mode == "sentinel" {
        return Err(PollError::Sentinel { address: address.to_owned() });
    }
    let wanted = match wanted {
        Role::Any => return Ok(()),
        Role::Master => "master",
        Role::Replica => "replica",
    };
    let actual = if identity.is_replica() { "replica" } else { identity.role.as_str() };
    if actual == wanted || actual.is_empty() {
        return Ok(());
    }
    Err(PollError::Role { address: address.to_owned(), actual: actual.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_touch_is_known_from_7_2_on() {
        for (server, version, knows) in [
            ("redis", "6.2.14", false),
            ("redis", "7.0.15", false),
            ("redis", "7.2.0", true),
            ("redis", "7.2.4", true),
            ("redis", "8.2.3", true),
            ("redis", "10.0.0", true),
            ("valkey", "8.1.8", true),
            ("valkey", "9.1.2", true),
            ("redis", "255.255.255", true),
            ("proxy", "7", false),
            ("proxy", "", false),
            ("proxy", "unstable", false),
        ] {
            let [server, version] = [server, version].map(str::to_owned);
            let identity = Identity { server, version, role: "master".to_owned(), mode: String::new() };
            assert_eq!(identity.knows_no_touch(), knows, "{identity:?}");
        }
    }
}
