//! The nodes behind a target, from poll to poll: one server, the master that sentinels name, or the masters of a
//! cluster. A cluster is a set of plain nodes here: each has its own connection, epoch and clock.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::info;

use crate::config::topology::Topology;
use crate::config::{Role, Target};
use crate::poller::cluster;
use crate::poller::error::PollError;
use crate::poller::exchange::share;
use crate::poller::node::{self, Identity, Login, Node};
use crate::poller::sentinel::Sentinels;
use crate::poller::slots::{Range, Slots};
use crate::poller::source::{Courtesy, Source};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::cluster::{Redirect, RedirectKind, endpoint_of};
use redis_stream_core::dial::Dialer;
use redis_stream_core::redis_url::Place;
use redis_stream_lag::snapshot::Epoch;

/// One node.
#[derive(Debug)]
pub(super) struct Member {
    /// Where it is.
    pub(super) place: Place,
    /// The same, as shown to people.
    pub(super) address: Arc<str>,
    /// `None` while it cannot be polled.
    pub(super) node: Option<Node>,
    /// What it says it is; `None` where it does not tell, and before the first connection.
    pub(super) identity: Option<Identity>,
    /// Why it cannot be polled; `None` while it can.
    pub(super) failure: Option<String>,
}

/// What the nodes of a target are connected with.
#[derive(Debug)]
struct Access {
    target: Arc<Target>,
    dialer: Dialer,
    metrics: TargetMetrics,
}

/// The nodes of one target.
#[derive(Debug)]
pub(super) struct Fleet {
    access: Access,
    pub(super) members: Vec<Member>,
    /// Who owns which slot; `None` where there are none.
    slots: Option<Slots>,
    sentinels: Option<Sentinels>,
    /// How many connections were made: each is an epoch.
    connections: u64,
}

impl Access {
    async fn connect(&self, place: &Place, epoch: Epoch, deadline: Instant) -> Result<Node, PollError> {
        let login = Login::of(&self.target);
        Node::connect(login, &self.dialer, place, epoch, &self.metrics, deadline).await
    }

    /// The slots that the masters of its cluster own, as a node tells them.
    async fn ranges(
        &self,
        node: &mut Node,
        place: &Place,
        deadline: Instant,
    ) -> Result<Vec<Range>, PollError> {
        cluster::ranges(node, place, &self.metrics, deadline).await
    }
}

impl Member {
    fn new(place: Place) -> Self {
        Self { address: place.to_string().into(), place, node: None, identity: None, failure: None }
    }

    /// Connects where there is no connection, and checks that the node is what it is to be.
    async fn connect(&mut self, access: &Access, epoch: Epoch, deadline: Instant) -> Result<(), PollError> {
        let connected = self.try_connect(access, epoch, deadline).await;
        access.metrics.set_node_up(&self.address, connected.is_ok());
        self.failure = connected.as_ref().err().map(ToString::to_string);
        if connected.is_err() {
            self.node = None;
        }
        connected
    }

    async fn try_connect(
        &mut self,
        access: &Access,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<(), PollError> {
        let Access { target, metrics, .. } = access;
        let is_new = self.node.is_none();
        let node = match &mut self.node {
            Some(node) => node,
            none => none.insert(access.connect(&self.place, epoch, deadline).await?),
        };
        self.identity = node.identify(metrics, deadline).await?;
        if let Some(identity) = &self.identity {
            node::check_role(target.role, &node.address, identity)?;
        }
        if is_new {
            node.decline_touch(self.identity.as_ref(), metrics, deadline).await?;
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

impl Fleet {
    /// Nothing is connected yet.
    pub(super) fn new(target: Arc<Target>, metrics: TargetMetrics) -> Self {
        let sentinels = match &target.topology {
            Topology::Sentinel(settings) => Some(Sentinels::new(settings.clone())),
            Topology::Standalone(_) | Topology::Cluster(_) => None,
        };
        let members = match &target.topology {
            Topology::Standalone(place) => vec![Member::new(place.clone())],
            Topology::Sentinel(_) | Topology::Cluster(_) => Vec::new(),
        };
        let dialer = Dialer::new(target.tls.clone());
        let access = Access { target, dialer, metrics };
        Self { access, members, slots: None, sentinels, connections: 0 }
    }

    /// One of another configuration of the same servers: it knows the nodes and is connected to none. Its connections
    /// take no epoch of those before.
    pub(super) fn successor(&self, target: Arc<Target>, metrics: TargetMetrics) -> Self {
        let members = self.members.iter().map(|member| Member::new(member.place.clone())).collect();
        let (slots, connections) = (self.slots.clone(), self.connections);
        Self { members, slots, connections, ..Self::new(target, metrics) }
    }

    /// Connects the nodes that there are now. Returns the first error, where some could be connected.
    ///
    /// # Errors
    ///
    /// None could.
    pub(super) async fn connect(&mut self, deadline: Instant) -> Result<Option<PollError>, PollError> {
        match &self.access.target.topology {
            Topology::Standalone(_) => {
                let failed = self.connect_members(deadline).await;
                failed.map_or(Ok(None), Err)
            }
            Topology::Sentinel(_) => self.connect_master(deadline).await.map(|()| None),
            Topology::Cluster(seeds) => {
                let seeds = seeds.clone();
                let unknown = self.find_masters(&seeds, share(deadline, 1)).await;
                let failed = self.connect_members(share(deadline, 1)).await;
                let failed = failed.or(unknown.err());
                match failed {
                    Some(error) if self.connected().next().is_none() => Err(error),
                    failed => Ok(failed),
                }
            }
        }
    }

    /// Connects all of them at once; returns the first error.
    async fn connect_members(&mut self, deadline: Instant) -> Option<PollError> {
        let (access, connections) = (&self.access, &mut self.connections);
        let connecting = self.members.iter_mut().map(|member| {
            *connections += u64::from(member.node.is_none());
            member.connect(access, Epoch(*connections), deadline)
        });
        join_all(connecting).await.into_iter().find_map(Result::err)
    }

    /// Connects the node at a place, which may be one that was not known before. Its number.
    pub(super) async fn reach(&mut self, place: Place, deadline: Instant) -> Result<usize, PollError> {
        let at = self.member_at(place);
        if self.members[at].node.is_none() {
            self.connections += 1;
            let epoch = Epoch(self.connections);
            let member = &mut self.members[at];
            member.connect(&self.access, epoch, deadline).await?;
        }
        Ok(at)
    }

    fn member_at(&mut self, place: Place) -> usize {
        let known = self.members.iter().position(|member| member.place == place);
        known.unwrap_or_else(|| {
            self.members.push(Member::new(place));
            self.members.len() - 1
        })
    }

    /// Asks who the master is, and goes there. What a sentinel names is taken for the master only if it says that it
    /// is one; while no sentinel names another, one that was the master and says that it still is will do.
    async fn connect_master(&mut self, deadline: Instant) -> Result<(), PollError> {
        let Some(mut sentinels) = self.sentinels.take() else { return Ok(()) };
        let mut failed = None;
        for left in (1..=sentinels.count()).rev() {
            let share = share(deadline, left);
            let named = sentinels.master(&self.access.dialer, &self.access.metrics, share).await;
            let followed = match named {
                Ok(place) => self.follow(place, share).await,
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
            Some(error) if self.members.is_empty() => Err(error),
            Some(_) => self.connect_members(deadline).await.map_or(Ok(()), Err),
        }
    }

    /// Goes to the master at a place, if it is one.
    async fn follow(&mut self, place: Place, deadline: Instant) -> Result<(), PollError> {
        if self.members.first().is_some_and(|member| member.place == place) {
            return self.connect_members(deadline).await.map_or(Ok(()), Err);
        }
        self.connections += 1;
        let mut member = Member::new(place);
        let epoch = Epoch(self.connections);
        let connected = member.connect(&self.access, epoch, deadline).await;
        if connected.is_err() && !self.members.is_empty() {
            self.access.metrics.forget_node(&member.address);
            return connected;
        }
        for before in std::mem::replace(&mut self.members, vec![member]) {
            self.access.metrics.forget_node(&before.address);
        }
        connected
    }

    /// Asks the nodes which masters there are: those that are connected first, then all that were ever named. Each may
    /// take half of the time that is left.
    async fn find_masters(&mut self, seeds: &[Place], deadline: Instant) -> Result<(), PollError> {
        let mut failed = None;
        for member in &mut self.members {
            let Some(node) = &mut member.node else { continue };
            match self.access.ranges(node, &member.place, share(deadline, 1)).await {
                Ok(ranges) => {
                    let asked = member.place.clone();
                    self.arrange(&ranges, &asked);
                    return Ok(());
                }
                Err(error) => {
                    member.node = None;
                    failed.get_or_insert(error);
                }
            }
        }
        let known: Vec<_> = self.members.iter().map(|member| member.place.clone()).collect();
        for place in seeds.iter().chain(&known) {
            let deadline = share(deadline, 1);
            let asked = async {
                let mut node = self.access.connect(place, Epoch(0), deadline).await?;
                self.access.ranges(&mut node, place, deadline).await
            };
            match asked.await {
                Ok(ranges) => {
                    self.arrange(&ranges, place);
                    return Ok(());
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes what a node says of the others.
    fn arrange(&mut self, ranges: &[Range], asked: &Place) {
        let mut slots = Slots::new();
        let before = std::mem::take(&mut self.members);
        let mut places: Vec<Place> = Vec::new();
        for range in ranges {
            let place = endpoint_of(&range.master, asked);
            let at = places.iter().position(|known| *known == place).unwrap_or_else(|| {
                places.push(place);
                places.len() - 1
            });
            slots.assign(range.first, range.last, at);
        }
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        for place in places {
            let known =
                before.iter_mut().find(|member| member.as_ref().is_some_and(|known| known.place == place));
            let member = known.and_then(Option::take).unwrap_or_else(|| Member::new(place));
            self.members.push(member);
        }
        for gone in before.into_iter().flatten() {
            self.access.metrics.forget_node(&gone.address);
            info!(target_name = %self.access.target.name, address = %gone.address, "node holds no slots any more");
        }
        self.slots = Some(slots);
    }

    /// Where another node sends us; its number. What moved for good is remembered.
    pub(super) async fn redirected(
        &mut self,
        redirect: &Redirect,
        by: usize,
        deadline: Instant,
    ) -> Result<usize, PollError> {
        let place = endpoint_of(&redirect.node, &self.members[by].place);
        let at = self.member_at(place.clone());
        if let (RedirectKind::Moved, Some(slots)) = (redirect.kind, &mut self.slots) {
            slots.assign(redirect.slot, redirect.slot, at);
        }
        self.reach(place, deadline).await
    }

    /// The number of the node that holds the keys of a slot, if it is connected.
    pub(super) fn home(&self, slot: u16) -> Option<usize> {
        let home = match &self.slots {
            None => Some(0),
            Some(slots) => slots.owner(slot),
        };
        home.filter(|at| self.members.get(*at).is_some_and(|member| member.node.is_some()))
    }

    /// The nodes that are connected, with their numbers.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &Member, &Node)> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(at, member)| member.node.as_ref().map(|node| (at, member, node)))
    }

    /// How a node is asked, if it is connected.
    pub(super) fn source(&self, at: usize, courtesy: Courtesy) -> Option<Source<'_>> {
        let Member { node, identity, .. } = self.members.get(at)?;
        let identity = identity.as_ref();
        let is_replica =
            self.access.target.role == Role::Replica || identity.is_some_and(Identity::is_replica);
        Some(Source {
            node: node.as_ref()?,
            courtesy,
            has_true_consumers: !is_replica,
            has_true_entries_read: !is_replica || identity.is_some_and(Identity::replicates_entries_read),
        })
    }

    /// The connection to the node of this address.
    pub(super) fn node_mut(&mut self, address: &str) -> Option<&mut Node> {
        let member = self.members.iter_mut().find(|member| *member.address == *address)?;
        member.node.as_mut()
    }

    /// Gives up the connection to a node.
    pub(super) fn fail(&mut self, at: usize, error: &PollError) {
        let member = &mut self.members[at];
        (member.node, member.failure) = (None, Some(error.to_string()));
        self.access.metrics.set_node_up(&member.address, false);
    }

    /// Closes all connections. The next [`connect`](Self::connect) resolves and dials anew.
    pub(super) fn disconnect(&mut self) {
        self.members.iter_mut().for_each(|member| member.node = None);
    }
}
