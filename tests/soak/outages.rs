//! Servers that are killed, restarted, stand still, or hang up.

use std::time::Duration;

use tokio::time::sleep;

use crate::journal::Journal;
use crate::scene::Scene;
use crate::schedule::{Deck, Plan};
use crate::support::server::Server;

/// What befalls a server.
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
}

const OUTAGES: &[Outage] = &[Outage::Killed, Outage::Restarted, Outage::Paused, Outage::Disconnected];

/// One server after the other, until the time is over. All of them are up then.
pub(crate) async fn run(scene: &Scene, servers: &mut [Server], plan: Plan, journal: &Journal) {
    let mut deck = Deck::new(OUTAGES, plan, 1);
    while let Some(outage) = deck.deal(500..3_000).await {
        let at = deck.chance.usize(..servers.len());
        let time = Duration::from_millis(deck.chance.u64(300..3_500));
        journal.count(outage);
        journal.during(&scene.nodes[at].target, befall(&mut servers[at], outage, time)).await;
    }
}

async fn befall(server: &mut Server, outage: Outage, time: Duration) {
    match outage {
        Outage::Killed => {
            server.kill();
            sleep(time).await;
            server.restart().await;
        }
        Outage::Restarted => server.restart().await,
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
