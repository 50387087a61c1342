//! The nodes behind a target: one server, the master that sentinels name, or the masters of a cluster. A cluster is a
//! set of plain nodes, each with its own connection, epoch and clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::info;

use crate::config::topology::Topology;
use crate::config::{Role, Target};
use crate::poller::cluster;
use crate::poller::decode::topology::ServerProcess;
use crate::poller::error::PollError;
use crate::poller::node::{self, Identity, Login, Node};
use crate::poller::node_reader::{Asking, NodeReader};
use crate::poller::pipeline::deadline_share;
use crate::poller::sentinel::Sentinels;
use crate::poller::slots::{Range, Slots};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::cluster::{Redirect, RedirectKind, are_on_one_host, endpoint_of};
use redis_stream_core::dial::Dialer;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_core::secret::hide_secrets;
use redis_stream_lag::snapshot::Epoch;

/// One node and its connection.
#[derive(Debug)]
pub(super) struct NodeHandle {
    pub(super) endpoint: Endpoint,
    /// `endpoint` as text.
    pub(super) address: Arc<str>,
    /// `None` while it cannot be polled.
    pub(super) node: Option<Node>,
    /// The reply to HELLO; `None` before the first connection, and where HELLO is refused.
    pub(super) identity: Option<Identity>,
    /// Why it cannot be polled; `None` while it can.
    pub(super) failure: Option<String>,
    /// Streams that this node cannot show; `None` if it shows all.
    pub(super) warning: Option<String>,
    /// The process that the last connection led to, and the connection's epoch; `None` where INFO is refused.
    process: Option<(ServerProcess, Epoch)>,
    /// False once INFO was refused: the server notes each refused command in its ACL LOG.
    asks_for_process: bool,
}

/// The parts that every connection of a target needs.
#[derive(Debug)]
struct Access {
    target: Arc<Target>,
    dialer: Dialer,
    metrics: TargetMetrics,
    /// The number of epochs handed out.
    epochs: AtomicU64,
}

/// The nodes of one target.
#[derive(Debug)]
pub(super) struct Nodes {
    access: Access,
    pub(super) handles: Vec<NodeHandle>,
    /// The slots' owners; `None` unless the target is a cluster.
    slots: Option<Slots>,
    sentinels: Option<Sentinels>,
}

impl Access {
    fn next_epoch(&self) -> Epoch {
        Epoch(self.epochs.fetch_add(1, Relaxed) + 1)
    }

    /// Returns a warning if the node is one of several masters of a cluster that is configured as a standalone server,
    /// and streams are found by globs. Streams that are named are read from the other nodes by following redirects.
    async fn hidden_streams(
        &self,
        node: &mut Node,
        endpoint: &Endpoint,
        identity: Option<&Identity>,
        deadline: Instant,
    ) -> Result<Option<String>, PollError> {
        let is_cluster = identity.is_some_and(|identity| identity.mode == "cluster");
        let has_globs = self.target.streams.iter().any(|rule| rule.key.literal().is_none());
        if !matches!(self.target.topology, Topology::Standalone(_)) || !is_cluster || !has_globs {
            return Ok(None);
        }
        let masters = match self.ranges(node, endpoint, deadline).await {
            Ok(ranges) => {
                let masters: BTreeSet<_> = ranges.iter().map(|range| &range.master).collect();
                if masters.len() < 2 {
                    return Ok(None);
                }
                format!("one of {} masters of a cluster", masters.len())
            }
            Err(error) if error.is_refusal() => "a node of a cluster".to_owned(),
            Err(error) => return Err(error),
        };
        let hint = "streams on the other nodes are not found; set topology: cluster";
        Ok(Some(format!("{} is {masters}: {hint}", node.address)))
    }

    /// Every connection that is sent the target's user and password is made here.
    async fn connect(&self, endpoint: &Endpoint, epoch: Epoch, deadline: Instant) -> Result<Node, PollError> {
        if !self.is_allowed(endpoint) {
            let address = hide_secrets(&endpoint.to_string()).into_owned();
            return Err(PollError::NodeNotAllowed { address });
        }
        let login = Login::of(&self.target);
        Node::connect(login, &self.dialer, endpoint, epoch, &self.metrics, deadline).await
    }

    fn is_allowed(&self, endpoint: &Endpoint) -> bool {
        let is_seed = matches!(&self.target.topology, Topology::Cluster(seeds) if seeds.contains(endpoint));
        is_seed || self.target.allowed_nodes.as_ref().is_none_or(|allowed| allowed.contains(endpoint))
    }

    /// Returns the slots that each master owns, from the view of one node.
    async fn ranges(
        &self,
        node: &mut Node,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Vec<Range>, PollError> {
        cluster::ranges(node, endpoint, &self.metrics, deadline).await
    }
}

impl NodeHandle {
    fn new(endpoint: Endpoint) -> Self {
        Self {
            address: endpoint.to_string().into(),
            endpoint,
            node: None,
            identity: None,
            failure: None,
            warning: None,
            process: None,
            asks_for_process: true,
        }
    }

    /// Returns `run_id` of the process that was connected last.
    pub(super) fn run_id(&self) -> Option<&str> {
        self.process.as_ref().map(|(process, _)| process.run_id())
    }

    /// Connects if necessary, and checks the node's role.
    async fn connect(&mut self, access: &Access, deadline: Instant) -> Result<(), PollError> {
        let connected = self.try_connect(access, deadline).await;
        access.metrics.set_node_up(&self.address, connected.is_ok());
        self.failure = connected.as_ref().err().map(ToString::to_string);
        if connected.is_err() {
            self.node = None;
        }
        connected
    }

    async fn try_connect(&mut self, access: &Access, deadline: Instant) -> Result<(), PollError> {
        let Access { target, metrics, .. } = access;
        if let Some(node) = self.node.as_mut()
            && !node.is_closed()
        {
            let renewed = node.renew_login(Login::of(target), metrics, deadline_share(deadline, 1)).await;
            let identity = match renewed {
                Ok(()) => node.identify(metrics, deadline).await,
                Err(error) => Err(error),
            };
            match identity {
                Err(PollError::Lost { .. }) => {}
                identity => {
                    self.identity = identity?;
                    return node::check_role(target.role, &self.address, self.identity.as_ref());
                }
            }
        }
        // There was no connection, or the server or a proxy closed it while it was idle.
        let node = self.node.insert(access.connect(&self.endpoint, access.next_epoch(), deadline).await?);
        self.identity = node.identify(metrics, deadline).await?;
        node::check_role(target.role, &self.address, self.identity.as_ref())?;
        node.decline_touch(self.identity.as_ref(), metrics, deadline).await?;
        let process = match self.asks_for_process {
            true => node.process(metrics, deadline).await?,
            false => None,
        };
        self.asks_for_process = process.is_some();
        let before = self.process.take();
        let continued =
            before.filter(|(before, _)| process.as_ref().is_some_and(|now| before.is_continued_by(now)));
        if let Some((_, epoch)) = &continued {
            node.epoch = *epoch;
        }
        self.process = process.map(|process| (process, node.epoch));
        self.warning = access.hidden_streams(node, &self.endpoint, self.identity.as_ref(), deadline).await?;
        if continued.is_none() {
            let identity = self.identity.as_ref();
            info!(
                target_name = %target.name,
                address = %node.address,
                server = identity.map(|identity| identity.server.as_str()),
                version = identity.map(|identity| identity.version.as_str()),
                role = identity.map(|identity| identity.role.as_str()),
                "connected"
            );
        }
        Ok(())
    }
}

impl Nodes {
    /// Returns nodes that are not connected yet.
    pub(super) fn new(target: Arc<Target>, metrics: TargetMetrics) -> Self {
        let sentinels = match &target.topology {
            Topology::Sentinel(settings) => Some(Sentinels::new(settings.clone())),
            Topology::Standalone(_) | Topology::Cluster(_) => None,
        };
        let handles = match &target.topology {
            Topology::Standalone(endpoint) => vec![NodeHandle::new(endpoint.clone())],
            Topology::Sentinel(_) | Topology::Cluster(_) => Vec::new(),
        };
        let dialer = Dialer::new(target.tls.clone());
        let access = Access { target, dialer, metrics, epochs: AtomicU64::new(0) };
        Self { access, handles, slots: None, sentinels }
    }

    /// Returns the nodes for another configuration of the same servers, not connected. Later connections do not reuse
    /// epochs.
    pub(super) fn successor(&self, target: Arc<Target>, metrics: TargetMetrics) -> Self {
        let handles = self.handles.iter().map(|handle| NodeHandle::new(handle.endpoint.clone())).collect();
        let next = Self { handles, slots: self.slots.clone(), ..Self::new(target, metrics) };
        next.access.epochs.store(self.access.epochs.load(Relaxed), Relaxed);
        next
    }

    /// Connects all nodes. Returns the first error if some could be connected.
    ///
    /// # Errors
    ///
    /// No node could be connected.
    pub(super) async fn connect(&mut self, deadline: Instant) -> Result<Option<PollError>, PollError> {
        match &self.access.target.topology {
            Topology::Standalone(_) => {
                let failed = self.connect_all(deadline).await;
                failed.map_or(Ok(None), Err)
            }
            Topology::Sentinel(_) => self.connect_master(deadline).await.map(|()| None),
            Topology::Cluster(seeds) => {
                let seeds = seeds.clone();
                let unknown = self.find_masters(&seeds, deadline_share(deadline, 1)).await;
                let failed = self.connect_all(deadline_share(deadline, 1)).await;
                let failed = failed.or(unknown.err());
                match failed {
                    Some(error) if self.connected().next().is_none() => Err(error),
                    failed => Ok(failed),
                }
            }
        }
    }

    async fn connect_all(&mut self, deadline: Instant) -> Option<PollError> {
        let access = &self.access;
        let connecting = self.handles.iter_mut().map(|handle| handle.connect(access, deadline));
        join_all(connecting).await.into_iter().find_map(Result::err)
    }

    /// Connects the node at `endpoint`, adding it if it is unknown. Returns its position.
    pub(super) async fn reach(&mut self, endpoint: Endpoint, deadline: Instant) -> Result<usize, PollError> {
        let at = self.handle_at(endpoint);
        if self.handles[at].node.is_none() {
            self.handles[at].connect(&self.access, deadline).await?;
        }
        Ok(at)
    }

    fn handle_at(&mut self, endpoint: Endpoint) -> usize {
        let known = self.handles.iter().position(|handle| handle.endpoint == endpoint);
        known.unwrap_or_else(|| {
            self.handles.push(NodeHandle::new(endpoint));
            self.handles.len() - 1
        })
    }

    /// Asks the sentinels for the master, and connects to it if HELLO confirms its role. If no sentinel names a
    /// working master, a known node that still claims to be the master is used.
    async fn connect_master(&mut self, deadline: Instant) -> Result<(), PollError> {
        let Some(mut sentinels) = self.sentinels.take() else { return Ok(()) };
        let mut failed = None;
        for left in (1..=sentinels.count()).rev() {
            let share = deadline_share(deadline, left);
            let named = sentinels.master(&self.access.dialer, &self.access.metrics, share).await;
            let followed = match named {
                Ok(endpoint) => self.follow(endpoint, share).await,
                Err(error) => Err(error),
            };
            let Err(error) = followed else {
                failed = None;
                break;
            };
            sentinels.distrust_first();
            failed.get_or_insert(error);
        }
        self.sentinels = Some(sentinels);
        match failed {
            None => Ok(()),
            Some(error) if self.handles.is_empty() => Err(error),
            Some(_) => self.connect_all(deadline).await.map_or(Ok(()), Err),
        }
    }

    /// Connects to the node at `endpoint` if it is a master.
    async fn follow(&mut self, endpoint: Endpoint, deadline: Instant) -> Result<(), PollError> {
        if self.handles.first().is_some_and(|handle| handle.endpoint == endpoint) {
            return self.connect_all(deadline).await.map_or(Ok(()), Err);
        }
        let mut handle = NodeHandle::new(endpoint);
        let connected = handle.connect(&self.access, deadline).await;
        if connected.is_err() && !self.handles.is_empty() {
            self.access.metrics.forget_node(&handle.address);
            return connected;
        }
        for before in std::mem::replace(&mut self.handles, vec![handle]) {
            self.access.metrics.forget_node(&before.address);
        }
        connected
    }

    /// Asks the nodes for the masters: first the connected nodes, then all nodes ever named. Each attempt may take
    /// half of the time that is left.
    async fn find_masters(&mut self, seeds: &[Endpoint], deadline: Instant) -> Result<(), PollError> {
        let mut failed = Vec::new();
        for handle in &mut self.handles {
            let Some(node) = &mut handle.node else { continue };
            match self.access.ranges(node, &handle.endpoint, deadline_share(deadline, 1)).await {
                Ok(ranges) => {
                    let asked = handle.endpoint.clone();
                    self.arrange(&ranges, &asked);
                    return Ok(());
                }
                Err(error) => {
                    handle.node = None;
                    failed.push(error);
                }
            }
        }
        let known = self.handles.iter().map(|handle| handle.endpoint.clone());
        let known: Vec<_> = known.filter(|endpoint| !seeds.contains(endpoint)).collect();
        for endpoint in seeds.iter().chain(&known) {
            let deadline = deadline_share(deadline, 1);
            let asked = async {
                let mut node = self.access.connect(endpoint, Epoch(0), deadline).await?;
                self.access.ranges(&mut node, endpoint, deadline).await
            };
            match asked.await {
                Ok(ranges) => {
                    self.arrange(&ranges, endpoint);
                    return Ok(());
                }
                Err(error) => failed.push(error),
            }
        }
        match failed.len() {
            0 | 1 => failed.pop().map_or(Ok(()), Err),
            _ => Err(PollError::NoNode(failed)),
        }
    }

    /// Adopts the topology that a node reported.
    fn arrange(&mut self, ranges: &[Range], asked: &Endpoint) {
        let mut slots = Slots::new();
        let before = std::mem::take(&mut self.handles);
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for range in ranges {
            let endpoint = endpoint_of(&range.master, asked);
            let at = endpoints.iter().position(|known| *known == endpoint).unwrap_or_else(|| {
                endpoints.push(endpoint);
                endpoints.len() - 1
            });
            slots.assign(range.first, range.last, at);
        }
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        for endpoint in endpoints {
            let known = before
                .iter_mut()
                .find(|handle| handle.as_ref().is_some_and(|known| known.endpoint == endpoint));
            let handle = known.and_then(Option::take).unwrap_or_else(|| NodeHandle::new(endpoint));
            self.handles.push(handle);
        }
        for gone in before.into_iter().flatten() {
            self.access.metrics.forget_node(&gone.address);
            info!(target_name = %self.access.target.name, address = %gone.address, "node holds no slots any more");
        }
        self.slots = Some(slots);
    }

    /// Connects the node that a redirect names, and returns its position. MOVED updates the slot's owner.
    pub(super) async fn redirected(
        &mut self,
        redirect: &Redirect,
        by: usize,
        deadline: Instant,
    ) -> Result<usize, PollError> {
        let asked = &self.handles[by];
        let endpoint = endpoint_of(&redirect.node, &asked.endpoint);
        if !self.may_be_sent_credentials(&asked.endpoint, &endpoint) {
            let node = hide_secrets(&endpoint.to_string()).into_owned();
            let address = asked.address.to_string();
            let error = PollError::OtherHost { address, node };
            self.handles[by].warning = Some(error.to_string());
            return Err(error);
        }
        let at = self.handle_at(endpoint.clone());
        if let (RedirectKind::Moved, Some(slots)) = (redirect.kind, &mut self.slots) {
            slots.assign(redirect.slot, redirect.slot, at);
        }
        self.reach(endpoint, deadline).await
    }

    /// Returns false if a redirect would send a password to a host that the configuration does not name. The nodes of a
    /// cluster are trusted to name each other.
    fn may_be_sent_credentials(&self, asked: &Endpoint, endpoint: &Endpoint) -> bool {
        let target = &self.access.target;
        let is_cluster = matches!(target.topology, Topology::Cluster(_));
        is_cluster || target.password.is_none() || are_on_one_host(asked, endpoint)
    }

    /// Returns the position of the slot's owner, if it is connected.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        let owner = match &self.slots {
            None => Some(0),
            Some(slots) => slots.owner(slot),
        };
        owner.filter(|at| self.handles.get(*at).is_some_and(|handle| handle.node.is_some()))
    }

    /// Returns the connected nodes with their positions.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &NodeHandle, &Node)> {
        let handles = self.handles.iter().enumerate();
        handles.filter_map(|(at, handle)| handle.node.as_ref().map(|node| (at, handle, node)))
    }

    /// Returns a reader for the node at this position, if it is connected.
    pub(super) fn reader(&self, at: usize, asking: Asking) -> Option<NodeReader<'_>> {
        let NodeHandle { node, identity, .. } = self.handles.get(at)?;
        let identity = identity.as_ref();
        let is_replica =
            self.access.target.role == Role::Replica || identity.is_some_and(Identity::is_replica);
        Some(NodeReader {
            node: node.as_ref()?,
            asking,
            entries_read: identity.map(Identity::entries_read_meaning).unwrap_or_default(),
            may_have_acked_trimming: identity.is_none_or(Identity::may_have_acked_trimming),
            has_xnack: identity.is_some_and(Identity::has_xnack),
            has_true_consumers: !is_replica,
            has_true_entries_read: !is_replica || identity.is_some_and(Identity::replicates_entries_read),
        })
    }

    /// Returns a node whose connection is open, reconnecting it if it was closed while idle.
    pub(super) async fn reopened(
        &mut self,
        address: &str,
        deadline: Instant,
    ) -> Result<Option<&mut Node>, PollError> {
        let Some(handle) = self.handles.iter_mut().find(|handle| *handle.address == *address) else {
            return Ok(None);
        };
        if handle.node.as_mut().is_some_and(Node::is_closed) {
            handle.connect(&self.access, deadline).await?;
        }
        Ok(handle.node.as_mut())
    }

    /// Sends a command on each connection, so that neither a server nor a proxy closes it as idle. A connection that is
    /// lost meanwhile is opened again by the next poll.
    pub(super) async fn keep_alive(&mut self, deadline: Instant) {
        let metrics = &self.access.metrics;
        let sent = self.handles.iter_mut().filter_map(|handle| handle.node.as_mut());
        join_all(sent.map(|node| node.keep_alive(metrics, deadline))).await;
    }

    /// Drops the connection to a node.
    pub(super) fn fail(&mut self, at: usize, error: &PollError) {
        let handle = &mut self.handles[at];
        (handle.node, handle.failure) = (None, Some(error.to_string()));
        self.access.metrics.set_node_up(&handle.address, false);
    }

    /// Closes all connections. The next [`connect`](Self::connect) resolves and dials again.
    pub(super) fn disconnect(&mut self) {
        self.handles.iter_mut().for_each(|handle| handle.node = None);
    }
}
