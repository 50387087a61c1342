//! Servers that are killed, restarted, stand still, or hang up.

use std::time::Duration;

use tokio::time::sleep;

use crate::journal::Journal;
use crate::schedule::{Deck, Plan};
use crate::setup::Setup;
use crate::support::server::Server;

/// A fault of a server.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Killed, and brought back after a while.
    Killed,
    /// Ended in order, and begun anew at once.
    Restarted,
    /// It stands still for some seconds.
    Paused,
    /// It ends all connections.
    Disconnected,
    /// The one that is polled over TLS gets a new certificate, and so does the program.
    Certified,
}

const OUTAGES: &[Outage] =
    &[Outage::Killed, Outage::Restarted, Outage::Paused, Outage::Disconnected, Outage::Certified];

/// One server after the other, until the time is over. All of them are up then.
pub(crate) async fn run(setup: &Setup, servers: &mut [Server], plan: Plan, journal: &Journal) {
    let mut deck = Deck::new(OUTAGES, plan, 1);
    while let Some(outage) = deck.deal(500..3_000).await {
        let time = Duration::from_millis(deck.chance.u64(300..3_500));
        let any = deck.chance.usize(..servers.len());
        let at = if matches!(outage, Outage::Certified) { setup.secured.at } else { any };
        journal.count(outage);
        let trouble = async {
            if matches!(outage, Outage::Certified) {
                setup.secured.certify();
            }
            befall(&mut servers[at], outage, time).await;
        };
        journal.during(&setup.nodes[at].target, trouble).await;
    }
}

async fn befall(server: &mut Server, outage: Outage, time: Duration) {
    match outage {
        Outage::Killed => {
            server.kill();
            sleep(time).await;
            server.restart().await;
        }
        Outage::Restarted | Outage::Certified => server.restart().await,
        Outage::Paused => {
            server.pause();
            sleep(time).await;
            server.resume();
        }
        Outage::Disconnected => {
            server.command::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        }
    }
}
