//! Measures idle exporters: one stream, which does not change.

use std::path::Path;
use std::time::Duration;

use crate::runs::{Peer, polled, polls, start_streamgauge};
use crate::scrape::{Coding, scrape};
use crate::support::footprint;
use crate::support::server::Server;

/// Polls and scrapes before the measurement.
const WARM_UP: usize = 3;
/// Poll interval of the exporter that polls during the measurement.
const INTERVAL: Duration = Duration::from_millis(100);
/// Poll interval of the exporter that does not.
const LONG_INTERVAL: Duration = Duration::from_secs(3_600);

pub(crate) struct Idle {
    /// Duration of the measurement.
    pub(crate) time: Duration,
    /// Polls during the measurement.
    pub(crate) polls: usize,
    /// CPU time of the polling exporter, to 20 ms.
    pub(crate) polling_cpu: Duration,
    /// CPU time of the exporter that did not poll.
    pub(crate) waiting_cpu: Duration,
    /// Resident memory of the polling exporter at the end, in bytes.
    pub(crate) resident_bytes: u64,
    /// The part of it that is no file's.
    pub(crate) own_bytes: u64,
    /// The part of it that no other process maps, while another exporter runs.
    pub(crate) unique_bytes: u64,
    /// Its file descriptors.
    pub(crate) descriptors: usize,
    /// Resident memory of the peer after a few scrapes.
    pub(crate) peer_resident_bytes: u64,
    /// The part of it that is no file's.
    pub(crate) peer_own_bytes: u64,
    /// Its file descriptors.
    pub(crate) peer_descriptors: usize,
}

/// Measures both exporters on a server with one stream for some time.
pub(crate) async fn watch(server: &Server, peer: &Path, time: Duration) -> Idle {
    let polling = start_streamgauge(&server.url(), INTERVAL).await;
    let waiting = start_streamgauge(&server.url(), LONG_INTERVAL).await;
    let peer = Peer::start(peer, &server.url()).await;
    polled(&waiting, 1).await;
    polled(&polling, WARM_UP).await;
    for _ in 0..WARM_UP {
        for address in [polling.address, waiting.address, peer.address()] {
            scrape(address, Coding::Plain).await;
            scrape(address, Coding::Gzip).await;
        }
    }
    let cpu = || (footprint::cpu(polling.pid()), footprint::cpu(waiting.pid()));
    let (polls_before, cpu_before) = (polls(&polling).len(), cpu());
    tokio::time::sleep(time).await;
    let cpu_after = cpu();
    Idle {
        time,
        polls: polls(&polling).len() - polls_before,
        polling_cpu: cpu_after.0 - cpu_before.0,
        waiting_cpu: cpu_after.1 - cpu_before.1,
        resident_bytes: footprint::resident_bytes(polling.pid()),
        own_bytes: footprint::own_bytes(polling.pid()),
        unique_bytes: footprint::unique_bytes(polling.pid()),
        descriptors: footprint::descriptors(polling.pid()),
        peer_resident_bytes: footprint::resident_bytes(peer.pid()),
        peer_own_bytes: footprint::own_bytes(peer.pid()),
        peer_descriptors: footprint::descriptors(peer.pid()),
    }
}
