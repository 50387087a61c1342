//! `streamgauge init`: prints a configuration for the server of a URL, with what was found there as comments. What the
//! URL leads to is found out: a single server, a cluster, or a sentinel, whose masters become a target each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgMatches;

use crate::commands::config_source;
use crate::commands::output;
use crate::commands::poll_cost::{self, PollCost};
use crate::config::env::of_process;
use crate::config::topology::{Sentinel, Topology};
use crate::config::{Config, Poll, Role, Target};
use crate::poller::error::PollError;
use crate::poller::node::NodeState;
use crate::poller::poll::{Polled, Poller, describe_unread};
use crate::poller::survey::{self, MonitoredMaster};
use crate::self_metrics::labels::Reason;
use crate::self_metrics::target::TargetMetrics;
use crate::terminal::table::limits;
use redis_stream_core::clock::now;
use redis_stream_core::name::Name;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_lag::report::Report;

mod families;
mod render;

/// The most nodes of a cluster that are written down to find the others by.
const MAX_SEEDS: usize = 3;

/// A target and what a poll found there.
struct Survey {
    target: Target,
    /// A line for each node.
    nodes: Vec<String>,
    warnings: Vec<String>,
    missing_permissions: Vec<&'static str>,
    report: Arc<Report>,
    cost: Option<PollCost>,
    /// Why streams were not read, by key.
    problems: BTreeMap<Name, Option<Reason>>,
    /// The interval that fits, where the default is too short.
    interval: Option<Duration>,
}

/// Prints a configuration.
///
/// # Errors
///
/// The flags are invalid, or the server cannot be polled.
pub async fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let Config { poll, mut targets, .. } = config_source::read(matches, &of_process)?;
    output::tell_unverified(&targets);
    let given = Target { role: Role::Any, ..targets.swap_remove(0) };
    let surveys = survey_all(given, &poll).await?;
    let mut out = output::stdout();
    out.write_all(render::configuration(&surveys, &poll).as_bytes())?;
    Ok(())
}

/// Finds out what the target is, and polls it.
async fn survey_all(given: Target, poll: &Poll) -> anyhow::Result<Vec<Survey>> {
    let mut poller = poller(&given, poll);
    let polled = match poller.poll().await {
        Ok(polled) => polled,
        Err(PollError::Sentinel { .. }) => return survey_masters(&given, given.clone(), poll).await,
        Err(error) => {
            let login = match &error {
                // Sentinels often have no password where their servers have one.
                PollError::Auth { .. } => Target { username: None, password: None, ..given.clone() },
                // They refuse SELECT: the database of the URL is that of the masters.
                PollError::Server { .. } if given.db != 0 => given.clone(),
                _ => return Err(error.into()),
            };
            return match survey_masters(&given, login, poll).await {
                Err(other) if !other.is::<MasterError>() => Err(error.into()),
                surveys => surveys,
            };
        }
    };
    if !is_cluster(&poller) {
        return Ok(vec![survey(given, poller, polled, poll).await?]);
    }
    let seeds = match &given.topology {
        Topology::Standalone(endpoint @ (Endpoint::Tcp(_) | Endpoint::Tls(_))) => vec![endpoint.clone()],
        // A socket names no other node.
        _ => return Ok(vec![survey(given, poller, polled, poll).await?]),
    };
    let mut target = Target { topology: Topology::Cluster(seeds.clone()), ..given };
    let mut poller = self::poller(&target, poll);
    let polled = poller.poll().await.context("cannot poll the cluster of this node")?;
    target.topology = Topology::Cluster(seeds_of(seeds, &poller));
    Ok(vec![survey(target, poller, polled, poll).await?])
}

/// Polls each master that the sentinel at the address of `given` monitors. `login` has the credentials of the sentinel.
async fn survey_masters(given: &Target, login: Target, poll: &Poll) -> anyhow::Result<Vec<Survey>> {
    let Topology::Standalone(endpoint) = &given.topology else { unreachable!("flags give one address") };
    let masters = survey::monitored_masters(&login, endpoint, now() + poll.timeout).await?;
    let mut surveys = Vec::with_capacity(masters.len());
    for MonitoredMaster { name, other_sentinels } in masters {
        let sentinel = Sentinel {
            master_name: name.clone(),
            endpoints: std::iter::once(endpoint.clone()).chain(other_sentinels).collect(),
            username: login.username.clone(),
            password: login.password.clone(),
        };
        let target = Target { topology: Topology::Sentinel(sentinel), name, ..given.clone() };
        let mut poller = poller(&target, poll);
        let polled =
            poller.poll().await.map_err(|source| MasterError { name: target.name.clone(), source })?;
        surveys.push(survey(target, poller, polled, poll).await?);
    }
    anyhow::ensure!(!surveys.is_empty(), "the sentinel {endpoint} monitors no master");
    Ok(surveys)
}

/// A master that a sentinel named cannot be polled.
#[derive(Debug, thiserror::Error)]
#[error("cannot poll the master {name:?}, which the sentinel named: {source}")]
struct MasterError {
    name: String,
    source: PollError,
}

fn poller(target: &Target, poll: &Poll) -> Poller {
    let metrics = TargetMetrics::unexported(&target.name);
    Poller::new(Arc::new(target.clone()), poll.clone(), metrics)
}

fn is_cluster(poller: &Poller) -> bool {
    poller.nodes().any(|node| node.identity.is_some_and(|identity| identity.mode == "cluster"))
}

/// Returns the given nodes of a cluster and some others.
fn seeds_of(mut seeds: Vec<Endpoint>, poller: &Poller) -> Vec<Endpoint> {
    for endpoint in poller.endpoints() {
        if seeds.len() < MAX_SEEDS && !seeds.contains(endpoint) {
            seeds.push(endpoint.clone());
        }
    }
    seeds
}

/// Describes what was polled, and polls once more for the cost.
async fn survey(
    mut target: Target,
    mut poller: Poller,
    polled: Polled,
    poll: &Poll,
) -> anyhow::Result<Survey> {
    let nodes: Vec<_> = poller.nodes().map(describe).collect();
    let is_replica = poller.nodes().all(|node| node.identity.is_some_and(|identity| identity.is_replica()));
    target.role = if is_replica { Role::Replica } else { Role::Master };
    let mut warnings = warnings(&poller, &polled);
    let is_in_cluster = is_cluster(&poller);
    let missing_permissions = match poller.node_address().cloned() {
        None => Vec::new(),
        Some(endpoint) => {
            survey::missing_permissions(&target, &endpoint, is_in_cluster, now() + poll.timeout).await?
        }
    };
    let problems = polled.report.streams.iter().filter(|stream| stream.values.is_none());
    let problems = problems.map(|stream| (stream.key.clone(), poller.stream_problem(&stream.key))).collect();
    let (cost, second) = poll_cost::measure(&mut poller).await;
    let cost = second.is_ok().then_some(cost);
    let interval = [Some(&polled), second.as_ref().ok()].into_iter().flatten().find_map(fitting_interval);
    if let Err(error) = second {
        warnings.push(format!("a second poll failed: {error}"));
    }
    Ok(Survey {
        target,
        nodes,
        warnings,
        missing_permissions,
        report: polled.report,
        cost,
        problems,
        interval,
    })
}

fn describe(node: NodeState<'_>) -> String {
    match (node.failure, node.identity) {
        (Some(failure), _) => failure.to_owned(),
        (None, Some(it)) => {
            format!("{}: {} {}, {}, {}", node.address, it.server, it.version, it.role, it.mode)
        }
        (None, None) => {
            format!("{}: HELLO is refused, so its version, role and topology are not known", node.address)
        }
    }
}

fn warnings(poller: &Poller, polled: &Polled) -> Vec<String> {
    let mut warnings: Vec<_> = polled.warning.iter().cloned().collect();
    match poller.scan_problem() {
        Some(problem) => {
            warnings.push(format!("streams cannot be found by SCAN, and must be named: {problem}"));
        }
        None if !poller.has_found_streams() => {
            warnings.push("SCAN was stopped after 10 seconds, so there may be more streams".to_owned());
        }
        None => {}
    }
    if polled.is_time_refused {
        warnings.push("TIME is refused: ages use this machine's clock".to_owned());
    }
    warnings.extend(describe_unread(polled));
    warnings.extend(limits(&polled.report.limited.into()));
    warnings
}

fn fitting_interval(polled: &Polled) -> Option<Duration> {
    match &polled.cut_off_by {
        Some(PollError::Behind(turn)) => Some(turn.fitting_interval()),
        _ => None,
    }
}
