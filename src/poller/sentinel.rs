//! Asks sentinels for the master. The node itself must confirm its role, as a sentinel may be out of date.

use redis::cmd;
use tokio::time::Instant;

use crate::config::topology::Sentinel;
use crate::poller::decode::topology;
use crate::poller::error::PollError;
use crate::poller::node::{Login, Node};
use crate::poller::pipeline::deadline_share;
use crate::poller::resp::Value;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::cluster::endpoint_of;
use redis_stream_core::dial::Dialer;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_lag::snapshot::Epoch;

#[derive(Debug)]
pub(super) struct Sentinels {
    settings: Sentinel,
    /// The sentinel that is asked first. One that named a wrong master is asked last.
    first: usize,
    /// The connection to the sentinel that answered last.
    connected: Option<(usize, Node)>,
}

impl Sentinels {
    pub(super) fn new(settings: Sentinel) -> Self {
        Self { settings, first: 0, connected: None }
    }

    pub(super) fn count(&self) -> usize {
        self.settings.endpoints.len()
    }

    /// Moves the first sentinel to the end, as it named a wrong master.
    pub(super) fn distrust_first(&mut self) {
        self.first = (self.first + 1) % self.count();
        self.connected = None;
    }

    /// Returns the master that the first answering sentinel names. Each sentinel gets an equal share of the time.
    pub(super) async fn master(
        &mut self,
        dialer: &Dialer,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<Endpoint, PollError> {
        let mut failed = None;
        for asked in 0..self.count() {
            let share = deadline_share(deadline, self.count() - asked);
            let at = (self.first + asked) % self.count();
            match self.ask(at, dialer, metrics, share).await {
                Ok(endpoint) => {
                    self.first = at;
                    return Ok(endpoint);
                }
                Err(error) => {
                    self.connected = None;
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| self.no_master(&self.settings.endpoints[0].to_string())))
    }

    async fn ask(
        &mut self,
        at: usize,
        dialer: &Dialer,
        metrics: &TargetMetrics,
        deadline: Instant,
    ) -> Result<Endpoint, PollError> {
        let Sentinel { master_name, endpoints, username, password } = &self.settings;
        let endpoint = &endpoints[at];
        let mut node = match self.connected.take() {
            Some((connected, node)) if connected == at => node,
            _ => {
                let login = Login {
                    username: username.as_deref(),
                    password: password.as_ref(),
                    lifetime: None,
                    db: 0,
                };
                Node::connect(login, dialer, endpoint, Epoch(0), metrics, deadline).await?
            }
        };
        metrics.count_commands(Command::Sentinel, 1);
        let reply =
            node.call(cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master_name), deadline).await?;
        if matches!(reply.value(), Value::Nil) {
            return Err(self.no_master(&node.address));
        }
        let master =
            topology::address(reply.value()).map_err(|error| PollError::protocol(&node.address, &error))?;
        let master = endpoint_of(&master, endpoint);
        self.connected = Some((at, node));
        Ok(master)
    }

    fn no_master(&self, address: &str) -> PollError {
        PollError::UnknownMaster { address: address.to_owned(), master: self.settings.master_name.clone() }
    }
}
