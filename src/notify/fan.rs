//! Every address behind the name of a host, each with a queue and a task of its own, so that a dead one delays no
//! other. The name is resolved again when there is something to send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::alert::notification::Alert;
use crate::clock::now;
use crate::notify::alertmanager::Alertmanager;
use crate::notify::client::resolve;
use crate::notify::error::NotifyError;
use crate::notify::queue::{CAPACITY_ALERTS, Mailbox, Queue};
use crate::notify::send::{Lane, Outlet, Told};
use crate::self_metrics::NotifierMetrics;
use crate::shutdown::Shutdown;

/// How long what a name stands for is relied on.
const RESOLVED_FOR: Duration = Duration::from_secs(30);
/// How long it may take to find out by which of two families a host can be reached.
const PROBE: Duration = Duration::from_secs(2);

/// The Alertmanagers behind one URL.
#[derive(Debug)]
pub(super) struct Fan {
    name: Arc<str>,
    outlet: Alertmanager,
    metrics: NotifierMetrics,
    shutdown: Shutdown,
    branches: BTreeMap<SocketAddr, Branch>,
    tasks: JoinSet<()>,
    resolved_at: Option<Instant>,
    /// Why the name could not be resolved last; logged when it changes.
    problem: Option<String>,
}

#[derive(Debug)]
struct Branch {
    mailbox: Arc<Mailbox<Queue>>,
    task: AbortHandle,
}

impl Fan {
    /// Nothing is resolved yet. `outlet` is how each of them is told.
    pub(super) fn new(
        name: Arc<str>,
        outlet: Alertmanager,
        metrics: NotifierMetrics,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            name,
            outlet,
            metrics,
            shutdown,
            branches: BTreeMap::new(),
            tasks: JoinSet::new(),
            resolved_at: None,
            problem: None,
        }
    }

    /// Makes the branches those of the addresses that the name stands for now. Where it cannot be resolved, those
    /// that are known stay.
    async fn resolve(&mut self) -> Result<(), NotifyError> {
        if self.resolved_at.is_some_and(|at| now() < at + RESOLVED_FOR) {
            return Ok(());
        }
        let address = &self.outlet.url().address;
        let within = self.outlet.client().timeout();
        let timed_out = |_| {
            Err(NotifyError::Timeout { address: format!("resolver of {}", address.host), timeout: within })
        };
        let found = match timeout(within, resolve(address)).await.unwrap_or_else(timed_out) {
            Ok(found) => found,
            Err(error) if self.branches.is_empty() => return Err(error),
            Err(error) => {
                self.note_problem(Some(error.to_string()));
                return Ok(());
            }
        };
        self.note_problem(None);
        let addresses = of_one_family(found).await;
        self.resolved_at = Some(now());
        self.branch_to(&addresses);
        Ok(())
    }

    /// What an address that is gone was not told of goes to the others: it may have moved there.
    fn branch_to(&mut self, addresses: &[SocketAddr]) {
        if addresses.len() == self.branches.len()
            && addresses.iter().all(|address| self.branches.contains_key(address))
        {
            return;
        }
        let mut orphaned: Vec<Arc<Alert>> = Vec::new();
        self.branches.retain(|address, branch| {
            let stays = addresses.contains(address);
            if !stays {
                orphaned.extend(branch.mailbox.take_all());
                branch.task.abort();
            }
            stays
        });
        for address in addresses {
            if !self.branches.contains_key(address) {
                let branch = self.branch(*address);
                self.branches.insert(*address, branch);
            }
        }
        for branch in self.branches.values() {
            branch.mailbox.pass_unless_held(&orphaned);
        }
        info!(notifier = %self.name, url = %self.outlet.url(), ?addresses, "addresses to notify");
    }

    fn branch(&mut self, address: SocketAddr) -> Branch {
        let (name, metrics) = (Arc::clone(&self.name), self.metrics.clone());
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&name), Queue::new(CAPACITY_ALERTS), metrics.clone()));
        let (outlet, shutdown) = (self.outlet.at(address), self.shutdown.clone());
        let lane = Lane::new(name, Arc::clone(&mailbox), outlet, metrics, shutdown);
        Branch { mailbox, task: self.tasks.spawn(lane.run()) }
    }

    fn note_problem(&mut self, problem: Option<String>) {
        if let Some(error) = problem.as_ref().filter(|_| self.problem != problem) {
            warn!(notifier = %self.name, error, "cannot look for more addresses; those that are known are notified");
        }
        self.problem = problem;
    }
}

impl Outlet for Fan {
    type Parcel = Vec<Arc<Alert>>;

    /// Hands the alerts on. They are counted where they arrive.
    async fn deliver(&mut self, alerts: &Self::Parcel) -> Result<Told, NotifyError> {
        self.resolve().await?;
        for branch in self.branches.values() {
            branch.mailbox.pass(alerts);
        }
        // Those of addresses that are gone have ended.
        while self.tasks.try_join_next().is_some() {}
        Ok(Told::default())
    }

    async fn finish(&mut self) {
        self.branches.values().for_each(|branch| branch.mailbox.close());
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Of a host with addresses of both families, those by which it can be reached: `localhost` mostly stands for two
/// addresses of one server, which may listen on one of them only.
async fn of_one_family(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    if others.is_empty() || is_reachable(&preferred).await || !is_reachable(&others).await {
        return preferred;
    }
    others
}

async fn is_reachable(addresses: &[SocketAddr]) -> bool {
    let attempts = addresses.iter().map(|address| Box::pin(TcpStream::connect(*address)));
    matches!(timeout(PROBE, select_ok(attempts)).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn of_two_families_the_one_that_is_listened_on_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = listener.local_addr().unwrap();
        let silent = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], listening.port()));
        let other = SocketAddr::from(([127, 0, 0, 2], 1));
        for (addresses, taken) in [
            (vec![silent, listening], vec![listening]),
            (vec![listening, silent], vec![listening]),
            (vec![silent, other, listening], vec![other, listening]),
            (vec![silent, other], vec![silent]),
            (vec![listening, other], vec![listening, other]),
            (vec![], vec![]),
        ] {
            assert_eq!(of_one_family(addresses.clone()).await, taken, "{addresses:?}");
        }
    }
}
