//! Every address behind the name of a host, each with a queue and a task of its own, so that a dead one delays no
//! other. The name is resolved again while there is something to send; who is known already does not wait for that.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::alert::notification::Alert;
use crate::notify::alertmanager::Alertmanager;
use crate::notify::client::resolve;
use crate::notify::error::NotifyError;
use crate::notify::mailbox::Mailbox;
use crate::notify::queue::{CAPACITY_ALERTS, Queue};
use crate::notify::send::{Lane, Outlet, Told};
use crate::notify::spread::Branches;
use crate::self_metrics::notifier::NotifierMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::redis_url::Address;
use tokio_util::sync::CancellationToken;

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
    shutdown: CancellationToken,
    branches: Branches,
    /// The task of each branch.
    lanes: BTreeMap<SocketAddr, AbortHandle>,
    tasks: JoinSet<()>,
    /// Looks the name up; one task at most.
    resolving: JoinSet<Result<Vec<SocketAddr>, NotifyError>>,
    /// When the name is looked up again.
    resolve_at: Instant,
    /// Why the name could not be resolved last; logged when it changes.
    problem: Option<String>,
}

impl Fan {
    /// Nothing is resolved yet. `outlet` is how each of them is told of what comes into its branch.
    pub(super) fn new(
        name: Arc<str>,
        outlet: Alertmanager,
        branches: Branches,
        metrics: NotifierMetrics,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            name,
            outlet,
            metrics,
            shutdown,
            branches,
            lanes: BTreeMap::new(),
            tasks: JoinSet::new(),
            resolving: JoinSet::new(),
            resolve_at: now(),
            problem: None,
        }
    }

    /// Brings the branches up to date. Only where there is none is the resolver waited for, and may fail.
    async fn resolve(&mut self) -> Result<(), NotifyError> {
        if self.resolving.is_empty() && self.resolve_at <= now() {
            self.resolving.spawn(look_up(self.outlet.url().address.clone(), self.outlet.client().timeout()));
        }
        let found = if self.lanes.is_empty() {
            self.resolving.join_next().await
        } else {
            self.resolving.try_join_next()
        };
        let found = match found {
            Some(found) => found.unwrap_or_else(|panic| Err(self.not_resolved(&panic))),
            None => return Ok(()),
        };
        match found {
            Err(error) if self.lanes.is_empty() => return Err(error),
            Err(error) => self.note_problem(Some(error.to_string())),
            Ok(addresses) => {
                self.note_problem(None);
                self.branch_to(&addresses);
            }
        }
        self.resolve_at = now() + RESOLVED_FOR;
        Ok(())
    }

    /// What an address that is gone was not told of goes to the others: it may have moved there.
    fn branch_to(&mut self, addresses: &[SocketAddr]) {
        if addresses.len() == self.lanes.len()
            && addresses.iter().all(|address| self.lanes.contains_key(address))
        {
            return;
        }
        let shared = self.branches.clone();
        let mut branches = shared.lock();
        let (mut orphaned, mut longer): (Vec<Arc<Alert>>, i64) = (Vec::new(), 0);
        branches.retain(|address, branch| {
            let stays = addresses.contains(address);
            if !stays {
                let (alerts, shorter) = branch.hand_over();
                orphaned.extend(alerts);
                longer -= shorter;
                if let Some(task) = self.lanes.remove(address) {
                    task.abort();
                }
            }
            stays
        });
        for address in addresses {
            branches.entry(*address).or_insert_with(|| self.branch(*address));
        }
        longer += branches.values().map(|branch| branch.take_over(&orphaned)).sum::<i64>();
        self.metrics.add_to_queue_length(longer);
        info!(notifier = %self.name, url = %self.outlet.url(), ?addresses, "addresses to notify");
    }

    fn branch(&mut self, address: SocketAddr) -> Arc<Mailbox<Queue>> {
        let (name, metrics) = (Arc::clone(&self.name), self.metrics.clone());
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&name), Queue::new(CAPACITY_ALERTS), metrics.clone()));
        let (outlet, shutdown) = (self.outlet.at(address), self.shutdown.clone());
        let lane = Lane::new(name, Arc::clone(&mailbox), outlet, metrics, shutdown);
        self.lanes.insert(address, self.tasks.spawn(lane.run()));
        mailbox
    }

    fn not_resolved(&self, panic: &JoinError) -> NotifyError {
        let host = self.outlet.url().address.host.clone();
        NotifyError::Resolve { host, source: io::Error::other(panic.to_string()) }
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

    /// Sees to it that there is a branch for each address. The alerts get there when they are settled, and are counted
    /// there.
    async fn deliver(&mut self, _: &Self::Parcel) -> Result<Told, NotifyError> {
        self.resolve().await?;
        // Those of addresses that are gone have ended.
        while self.tasks.try_join_next().is_some() {}
        Ok(Told::default())
    }

    async fn finish(&mut self) {
        self.branches.lock().values().for_each(|branch| branch.close());
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The addresses of a host, each of which is told.
pub(super) async fn look_up(host: Address, within: Duration) -> Result<Vec<SocketAddr>, NotifyError> {
    let found = timeout(within, resolve(&host)).await;
    let no_answer = io::Error::other(format!("no answer within {} s", within.as_secs_f64()));
    let timed_out = |_| Err(NotifyError::Resolve { host: host.host.clone(), source: no_answer });
    Ok(of_one_family(found.unwrap_or_else(timed_out)?).await)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    use super::*;
    use crate::config::notifiers::Http;
    use crate::config::receiver_url::ReceiverUrl;
    use crate::notify::client::Client;
    use crate::notify::examples::{START, changed, firing};
    use crate::notify::queue::{Next, Pace};
    use crate::notify::spread::Spread;
    use crate::self_metrics::SelfMetrics;
    use redis_stream_core::tls::Tls;
    use tokio_util::sync::CancellationToken;

    /// Listens on a free port, and takes down what it is sent; or never answers.
    struct Receiver {
        address: SocketAddr,
        heard: Arc<std::sync::Mutex<String>>,
    }

    impl Receiver {
        async fn new() -> Self {
            let (receiver, listener) = Self::bound().await;
            let heard = Arc::clone(&receiver.heard);
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut bytes = vec![0; 65_536];
                    let mut read = 0;
                    while !bytes[..read].ends_with(b"]") {
                        read += stream.read(&mut bytes[read..]).await.unwrap();
                    }
                    heard.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                }
            });
            receiver
        }

        async fn silent() -> Self {
            let (receiver, listener) = Self::bound().await;
            tokio::spawn(async move {
                let mut streams = Vec::new();
                while let Ok((stream, _)) = listener.accept().await {
                    streams.push(stream);
                }
            });
            receiver
        }

        async fn bound() -> (Self, TcpListener) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (Self { address: listener.local_addr().unwrap(), heard: Arc::default() }, listener)
        }

        /// Waits until it was sent an alert of this group.
        async fn hears_of(&self, group: &str) {
            let group = format!("\"group\":\"{group}\"");
            let heard = async {
                while !self.heard.lock().unwrap().contains(&group) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_secs(20), heard).await.unwrap();
        }
    }

    /// A fan, and where it is told of alerts.
    struct Open {
        fan: Fan,
        mailbox: Mailbox<Spread>,
        metrics: SelfMetrics,
        /// All ends soon after this is dropped.
        _trigger: CancellationToken,
    }

    impl Open {
        async fn tell(&mut self, groups: &[&str]) -> Result<(), NotifyError> {
            let alerts: Vec<_> = groups.iter().map(|group| changed(firing("A", group))).collect();
            self.mailbox.put(&alerts);
            let Next::Parcel(parcel) = self.mailbox.next(START, Pace::Steady) else { panic!("no parcel") };
            self.fan.deliver(&parcel).await?;
            self.mailbox.settle(&parcel, START);
            Ok(())
        }
    }

    /// One that takes its addresses as resolved.
    fn fan() -> Open {
        let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
        let of_notifier = metrics.for_notifier("am");
        let http = Http { authorization: None, tls: Tls::default(), timeout: Duration::from_secs(30) };
        let url = ReceiverUrl::parse("http://am:9093").unwrap();
        let outlet = Alertmanager::new("am".into(), Client::new(http), &url, None);
        let shutdown = CancellationToken::new();
        let trigger = shutdown.clone();
        let branches = Branches::default();
        let spread = Spread::new(100, branches.clone());
        let mailbox = Mailbox::new("am".into(), spread, of_notifier.clone());
        let mut fan = Fan::new("am".into(), outlet, branches, of_notifier, shutdown);
        fan.resolve_at = now() + Duration::from_secs(3_600);
        Open { fan, mailbox, metrics, _trigger: trigger }
    }

    #[tokio::test]
    async fn each_address_is_told_of_everything_and_a_dead_one_delays_no_other() {
        let (first, dead, last) = (Receiver::new().await, Receiver::silent().await, Receiver::new().await);
        let mut open = fan();
        open.fan.branch_to(&[first.address, dead.address, last.address]);
        for group in ["x", "y", "z"] {
            open.tell(&[group]).await.unwrap();
            first.hears_of(group).await;
            last.hears_of(group).await;
        }
    }

    #[tokio::test]
    async fn what_an_address_that_is_gone_was_not_told_goes_to_the_others() {
        let (dead, stays, new) = (Receiver::silent().await, Receiver::new().await, Receiver::new().await);
        let mut open = fan();
        open.fan.branch_to(&[dead.address, stays.address]);
        open.tell(&["x", "y"]).await.unwrap();
        stays.hears_of("y").await;
        open.fan.branch_to(&[stays.address, new.address]);
        new.hears_of("x").await;
        new.hears_of("y").await;
        timeout(Duration::from_secs(20), open.fan.finish()).await.unwrap();
        let text = String::from_utf8(open.metrics.render(None, |_| false).unwrap()).unwrap();
        for line in [
            r#"streamgauge_notifications_total{notifier="am",result="dropped"} 0"#,
            r#"streamgauge_notification_queue_length{notifier="am"} 0"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[tokio::test]
    async fn those_who_are_known_do_not_wait_for_the_resolver_and_stay_when_it_fails() {
        let known = Receiver::new().await;
        let mut open = fan();
        open.fan.branch_to(&[known.address]);
        let (answer, answered) = tokio::sync::oneshot::channel();
        open.fan.resolving.spawn(async move { answered.await.unwrap() });
        open.tell(&["x"]).await.unwrap();
        known.hears_of("x").await;
        let no_answer = NotifyError::Resolve { host: "am".to_owned(), source: io::Error::other("no answer") };
        answer.send(Err(no_answer)).unwrap();
        while open.fan.problem.is_none() {
            open.tell(&["y"]).await.unwrap();
            tokio::task::yield_now().await;
        }
        known.hears_of("y").await;
        assert_eq!(open.fan.lanes.len(), 1);
    }

    #[tokio::test]
    async fn alerts_are_not_taken_for_delivered_while_nobody_is_known() {
        let mut open = fan();
        open.fan.resolving.spawn(async { panic!("a defect") });
        assert!(matches!(open.tell(&["x"]).await, Err(NotifyError::Resolve { .. })));
    }

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
