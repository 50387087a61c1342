//! The servers behind one target: their connections, and the streams known on them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::clock::now;
use crate::config::{Poll, Role, Target};
use crate::dial::Dialer;
use crate::poller::catalogue::Catalogue;
use crate::poller::discovery::Discovery;
use crate::poller::error::PollError;
use crate::poller::names::Names;
use crate::poller::node::{self, Identity, Node};
use crate::poller::pending::{self, PendingError};
use crate::poller::read::{self, Read, Reading};
use crate::poller::schedule::PayloadBudget;
use crate::poller::{ask, topology};
use crate::self_metrics::TargetMetrics;
use crate::self_metrics::labels::Limited;
use crate::snapshot::facts::{Epoch, NodeReading, Snapshot};
use crate::snapshot::question::{Answer, Question};
use crate::tls::Verification;

/// The servers behind one target.
#[derive(Debug)]
pub struct Upstream {
    target: Arc<Target>,
    dialer: Dialer,
    metrics: TargetMetrics,
    node: Option<Node>,
    identity: Option<Identity>,
    /// How many connections were made: each is an epoch.
    connections: u64,
    polls: u64,
    catalogue: Catalogue,
    names: Names,
    discovery: Discovery,
    payload: PayloadBudget,
    scan_problem: Option<String>,
    /// Whether the limit cut the streams last; logged when it changes.
    leaves_out_streams: bool,
    timeout: Duration,
}

impl Upstream {
    /// Servers that were not connected to yet.
    #[must_use]
    pub fn new(target: Arc<Target>, poll: &Poll, metrics: TargetMetrics) -> Self {
        if target.tls.verification == Verification::Skipped {
            let target_name = &target.name;
            warn!(
                target_name,
                "insecure_skip_verify: anybody may be the server, and read the password and change what is read"
            );
        }
        Self {
            dialer: Dialer::new(target.tls.clone()),
            catalogue: Catalogue::new(&target),
            names: Names::default(),
            discovery: Discovery::new(&target.streams, poll),
            payload: PayloadBudget::new(poll.payload_budget),
            timeout: poll.timeout,
            target,
            metrics,
            node: None,
            identity: None,
            connections: 0,
            polls: 0,
            scan_problem: None,
            leaves_out_streams: false,
        }
    }

    /// Begins anew with another configuration of the same servers. No connection takes the epoch of one before.
    pub fn renew(&mut self, target: Arc<Target>, poll: &Poll, metrics: TargetMetrics) {
        let (connections, polls) = (self.connections, self.polls);
        *self = Self { connections, polls, ..Self::new(target, poll, metrics) };
    }

    /// What the node said it is; `None` before the first connection, and where it does not tell.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Why SCAN did not work last; `None` if it did, or was not needed.
    #[must_use]
    pub fn scan_problem(&self) -> Option<&str> {
        self.scan_problem.as_deref()
    }

    /// Bytes of entries that may be read in this poll to count lag.
    #[must_use]
    pub fn payload_left(&self) -> u64 {
        self.payload.left()
    }

    /// Connects where there is no connection, and checks that the node is what it is to be.
    ///
    /// # Errors
    ///
    /// The node cannot be reached, refuses the login or has another role. There is no connection then.
    pub async fn connect(&mut self, deadline: Instant) -> Result<(), PollError> {
        let connected = self.connect_and_identify(deadline).await;
        for address in topology::nodes(&self.target) {
            self.metrics.set_node_up(&address.to_string(), connected.is_ok());
        }
        if connected.is_err() {
            self.disconnect();
        }
        connected
    }

    async fn connect_and_identify(&mut self, deadline: Instant) -> Result<(), PollError> {
        let is_new = self.node.is_none();
        if is_new {
            self.connections += 1;
            let epoch = Epoch(self.connections);
            let place = &topology::nodes(&self.target)[0];
            let node =
                Node::connect(&self.target, &self.dialer, place, epoch, &self.metrics, deadline).await?;
            self.node = Some(node);
        }
        let Some(node) = &mut self.node else { return Ok(()) };
        self.identity = node.identify(&self.metrics, deadline).await?;
        if let Some(identity) = &self.identity {
            node::check_role(self.target.role, &node.address, identity)?;
        }
        if is_new {
            node.decline_touch(self.identity.as_ref(), &self.metrics, deadline).await?;
            let identity = self.identity.as_ref();
            info!(
                target_name = %self.target.name,
                address = %node.address,
                server = identity.map(|identity| identity.server.as_str()),
                version = identity.map(|identity| identity.version.as_str()),
                role = identity.map(|identity| identity.role.as_str()),
                "connected"
            );
            self.discovery.connected(&mut self.catalogue, now());
        }
        Ok(())
    }

    /// Closes the connection. The next [`connect`](Self::connect) resolves and dials anew.
    pub fn disconnect(&mut self) {
        self.node = None;
        self.discovery.disconnected();
    }

    /// Whether every key was looked at at least once, if there are globs to find streams by.
    #[must_use]
    pub fn knows_its_streams(&self) -> bool {
        self.discovery.ended_a_turn
    }

    /// When the next [`scan`](Self::scan) is due; `None` while there is no connection, or nothing to find.
    #[must_use]
    pub fn next_scan(&self) -> Option<Instant> {
        self.discovery.due()
    }

    /// Looks at the next keys. That the server refuses SCAN is counted, and logged when it changes.
    ///
    /// # Errors
    ///
    /// The node does not answer, or answers nothing.
    pub async fn scan(&mut self) -> Result<(), PollError> {
        let Some(node) = &mut self.node else { return Ok(()) };
        let (catalogue, metrics) = (&mut self.catalogue, &self.metrics);
        let step = self.discovery.step(&mut node.connection, &node.address, catalogue, metrics, self.timeout);
        let problem = match step.await {
            Ok(()) => None,
            Err(error) if error.is_refusal() => {
                self.metrics.count_errors(error.reason(), 1);
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        };
        if self.scan_problem != problem {
            match &problem {
                Some(error) => {
                    warn!(target_name = %self.target.name, error, "cannot look for streams by SCAN");
                }
                None => info!(target_name = %self.target.name, "can look for streams by SCAN again"),
            }
            self.scan_problem = problem;
        }
        Ok(())
    }

    /// Reads the facts of every stream that is due.
    ///
    /// # Errors
    ///
    /// Nothing could be read.
    pub async fn read(&mut self, deadline: Instant) -> Result<(Snapshot, Option<PollError>), PollError> {
        self.polls += 1;
        self.catalogue.admit();
        self.names.forget_unused();
        self.payload.begin_poll();
        let due = self.payload.select(&self.catalogue.watched);
        let Some(node) = &self.node else { return Ok((Snapshot { nodes: Vec::new() }, None)) };
        let identity = self.identity.as_ref();
        let is_replica = self.target.role == Role::Replica || identity.is_some_and(Identity::is_replica);
        let reading = Reading {
            node,
            target: &self.target,
            catalogue: &mut self.catalogue,
            metrics: &self.metrics,
            names: &mut self.names,
            has_true_consumers: !is_replica,
            has_true_entries_read: !is_replica || identity.is_some_and(Identity::replicates_entries_read),
            poll_number: self.polls,
            payload_left: self.payload.left(),
            deadline,
        };
        let Read { streams, payload_bytes, cut_off_by } = read::read(reading, &due).await;
        let (address, epoch) = (Arc::clone(&node.address), node.epoch);
        let was_any_read = self.catalogue.watched.iter().any(|watched| watched.last_read == self.polls);
        self.payload.spend(payload_bytes);
        self.catalogue.forget_missing();
        self.show_numbers();
        match cut_off_by {
            Some(error) if !was_any_read => Err(error),
            cut_off_by => Ok((Snapshot { nodes: vec![NodeReading { address, epoch, streams }] }, cut_off_by)),
        }
    }

    /// Puts questions about a snapshot; an answer for each, in their order, and why the rest was not answered.
    pub async fn ask(
        &mut self,
        snapshot: &Snapshot,
        questions: &[Question],
        deadline: Instant,
    ) -> (Vec<Answer>, Option<PollError>) {
        let (Some(node), Some(reading)) = (&self.node, snapshot.nodes.first()) else {
            return (vec![Answer::Nothing; questions.len()], None);
        };
        ask::ask(node, reading, questions, &mut self.names, &self.metrics, deadline).await
    }

    /// Lists pending entries of a group, for a person. There has to be a connection.
    ///
    /// # Errors
    ///
    /// The node does not answer, there is no such group, or the server does not let it be read.
    pub async fn pending(&mut self, query: &pending::Query) -> Result<pending::Listed, PendingError> {
        let Some(node) = &mut self.node else { return Ok(pending::Listed::default()) };
        pending::list(&mut node.connection, &node.address, query, self.timeout).await
    }

    /// Notes bytes of entries that were read to answer questions.
    pub fn spend_payload(&mut self, bytes: u64) {
        self.payload.spend(bytes);
    }

    fn show_numbers(&mut self) {
        let (watched, left_out) = (&self.catalogue.watched, self.catalogue.left_out);
        if std::mem::replace(&mut self.leaves_out_streams, left_out > 0) != (left_out > 0) {
            warn!(
                target_name = %self.target.name,
                streams_left_out = left_out,
                "limits of the target leave out streams"
            );
        }
        self.metrics.set_discovered_streams(watched.len());
        self.metrics.set_limited(Limited::Streams, left_out);
        self.metrics.set_limited(Limited::Groups, watched.iter().map(|stream| stream.left_out.groups).sum());
        self.metrics
            .set_limited(Limited::Consumers, watched.iter().map(|stream| stream.left_out.consumers).sum());
    }
}
