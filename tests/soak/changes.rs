//! Reloads of the configuration, there and back, and receivers of alerts that fail for a while.

use std::time::Duration;

use tokio::time::sleep;

use crate::journal::Journal;
use crate::schedule::{Deck, Plan};
use crate::setup::{DEADLINE, Setup, Variant};
use crate::support::receiver::OK;
use crate::support::wait::wait_until;

/// A change of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// Other rules, and another URL of a receiver: no poll is to notice.
    Alerts,
    /// Other streams of a target.
    Streams,
    /// Targets that come.
    Targets,
    /// A configuration that is wrong.
    Wrong,
    /// A receiver answers with an error.
    ReceiverRefuses,
    /// A receiver hangs up.
    ReceiverHangsUp,
}

const CHANGES: &[Change] = &[
    Change::Alerts,
    Change::Streams,
    Change::Targets,
    Change::Wrong,
    Change::ReceiverRefuses,
    Change::ReceiverHangsUp,
];

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
const RELOADED: &str = "streamgauge_config_last_reload_success_timestamp_seconds";
const SUCCESSFUL: &str = "streamgauge_config_last_reload_successful";

/// One change after the other, until the time is over. All is as at the start then.
pub(crate) async fn run(setup: &Setup, plan: Plan, journal: &Journal) {
    let mut deck = Deck::new(CHANGES, plan, 2);
    while let Some(change) = deck.deal(500..2_000).await {
        journal.count(change);
        let serial = deck.chance.usize(..1_000_000);
        let time = Duration::from_millis(deck.chance.u64(200..4_000));
        let variant = Variant { serial, ..Variant::default() };
        match change {
            Change::Alerts => there_and_back(setup, &variant, time).await,
            Change::Targets => {
                let spares = deck.chance.usize(1..4);
                there_and_back(setup, &Variant { spares, ..variant }, time).await;
            }
            Change::Streams => {
                let servers = setup.targets().len() - 1;
                let target = setup.targets()[deck.chance.usize(..servers)].clone();
                let narrowed = Some(target.clone());
                let changed = Variant { narrowed, ..variant };
                journal.during(&target, there_and_back(setup, &changed, time)).await;
            }
            Change::Wrong => refused(setup).await,
            Change::ReceiverRefuses | Change::ReceiverHangsUp => {
                let sink = if deck.chance.bool() { &setup.alertmanager } else { &setup.webhook };
                sink.answer(if matches!(change, Change::ReceiverRefuses) { UNAVAILABLE } else { "" });
                sleep(time).await;
                sink.answer(OK);
            }
        }
    }
}

async fn there_and_back(setup: &Setup, variant: &Variant, time: Duration) {
    reload(setup, &setup.config(variant)).await;
    sleep(time).await;
    reload(setup, &setup.config(&Variant::default())).await;
}

async fn reload(setup: &Setup, text: &str) {
    let before = setup.exporter.metrics().await[RELOADED];
    setup.file.put("config.yaml", text);
    setup.exporter.hang_up();
    wait_until(DEADLINE, "it is reloaded", async || {
        let metrics = setup.exporter.metrics().await;
        metrics[RELOADED] > before && metrics[SUCCESSFUL] == 1.0
    })
    .await;
}

/// Nothing changes but what tells of it.
async fn refused(setup: &Setup) {
    let right = setup.config(&Variant::default());
    setup.file.put("config.yaml", &format!("{right}unknown: key\n"));
    setup.exporter.hang_up();
    wait_until(DEADLINE, "it is refused", async || setup.exporter.metrics().await[SUCCESSFUL] == 0.0).await;
    reload(setup, &right).await;
}
