//! Compares the exporters on servers of growing size, to see which cost grows faster than the number of streams.

use std::path::Path;
use std::time::Duration;

use crate::load::StreamLoad;
use crate::progress;
use crate::runs::{self, Figures, Peer, Rounds};
use crate::support::config::ConfigFile;
use crate::support::program::Exporter;
use crate::support::server::Server;
use crate::support::servers::Program;

/// A number of streams, and a poll interval that leaves time for them.
pub(crate) struct ScaleStep {
    pub(crate) streams: usize,
    /// Number of measured polls.
    pub(crate) polls: u32,
    pub(crate) interval: Duration,
}

/// The figures of one run of either exporter.
pub(crate) struct ScaleFigures {
    pub(crate) streams: usize,
    pub(crate) ours: Figures,
    pub(crate) theirs: Figures,
}

/// Runs both exporters once on a new server with the streams of the step.
pub(crate) async fn measure(program: &'static Program, peer: &Path, step: &ScaleStep) -> ScaleFigures {
    let ScaleStep { streams, polls, interval } = *step;
    let server = Server::start(program, &[]).await;
    StreamLoad { streams }.fill(&server).await;
    let mut info = server.connection().await;
    progress(&format!("{streams} streams: streamgauge"));
    let rounds = Rounds { count: 1, polls, interval, scrapes: 1 };
    let exporter = start_streamgauge(&server.url(), step).await;
    let ours = runs::streamgauge(&mut info, exporter, streams, &rounds).await;
    progress(&format!("{streams} streams: prometheus-redis-exporter"));
    let theirs = runs::peer(&mut info, Peer::start(peer, &server.url()).await, streams).await;
    ScaleFigures { streams, ours, theirs }
}

/// Starts streamgauge with limits for this number of streams, so that none is left out and lags are counted within a few
/// polls.
async fn start_streamgauge(url: &str, step: &ScaleStep) -> Exporter {
    let config = ConfigFile::new(&format!(
        "poll: {{interval: {}ms, count_budget: {}}}\ntargets: [{{url: '{url}', limits: {{streams: {}}}}}]\n",
        step.interval.as_millis(),
        20 * step.streams,
        step.streams,
    ));
    config.serve().args(["--log-level", "debug"]).serving().await
}
