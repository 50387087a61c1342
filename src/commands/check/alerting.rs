//! The part of `check` about alerts: rules that cannot fire, and receivers that cannot be reached. All results are
//! warnings.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::alert::capabilities::{self, LimitationEffect, ServerCapabilities};
use crate::alert::fact::SubjectKind;
use crate::alert::recommended;
use crate::alert::rule::Rule;
use crate::config::notifiers::NotifierConfig;
use crate::config::{self, Alerts};
use crate::notify::probe;
use crate::poller::node::Identity;
use crate::state_file;
use redis_stream_lag::report::Report;

use super::{Found, Lines, counted};

/// Adds warnings about the rules that apply to a target.
pub(super) fn of_target(rules: &[Arc<Rule>], target: &config::Target, found: &Found, lines: &mut Lines) {
    let about = |rule: &&Arc<Rule>| rule.selector.target.matches(target.name.as_bytes());
    let server = server(target, &found.report, found.identity.as_ref());
    // Grouped by warning, in the order of the rules.
    let mut limited = Vec::new();
    for rule in rules.iter().filter(about) {
        let Some(limitation) = server.limitation_of(rule) else { continue };
        match limited.iter_mut().find(|(known, _)| *known == limitation) {
            Some((_, names)) => Vec::push(names, rule.name.clone()),
            None => limited.push((limitation, vec![rule.name.clone()])),
        }
    }
    for ((fact, effect, why), names) in limited {
        let names = counted(names.into_iter());
        lines.warn(&match effect {
            LimitationEffect::NeverKnown => {
                format!("{fact} is never known here ({why}), so these rules never fire: {names}")
            }
            LimitationEffect::MayBeWrong => {
                format!("{fact} may be wrong here ({why}), which these rules rely on: {names}")
            }
        });
    }
    let waiting: Vec<_> =
        rules.iter().filter(about).filter(|rule| capabilities::waits_for_history(rule)).collect();
    if let (Some(window), false) = (window(target), waiting.is_empty()) {
        let names = counted(waiting.iter().map(|rule| rule.name.clone()));
        lines.add("note", &format!("alert rules that need {window} of history after a start: {names}"));
    }
}

fn server(target: &config::Target, report: &Report, identity: Option<&Identity>) -> ServerCapabilities {
    let release = identity.map(Identity::release).unwrap_or_default();
    ServerCapabilities {
        // Without any stream, the server's version decides.
        counts_entries: capabilities::counts_entries(report).unwrap_or(!(1..7).contains(&release.0)),
        is_replica: target.role == config::Role::Replica || identity.is_some_and(Identity::is_replica),
        release,
    }
}

/// Returns the status window of a target's streams, or the range of their windows.
fn window(target: &config::Target) -> Option<String> {
    let windows = || target.streams.iter().map(|streams| streams.window);
    let (shortest, longest) = (windows().min()?, windows().max()?);
    let show = |window: Duration| humantime::format_duration(window).to_string();
    Some(if shortest == longest {
        show(shortest)
    } else {
        format!("{} to {}", show(shortest), show(longest))
    })
}

/// Returns the number of rules, and warnings about configured rules that match nothing and about the state file. `found` holds the result for
/// each target that could be polled.
pub(super) fn of_rules(alerts: &Alerts, found: &[(&config::Target, Option<Found>)]) -> Lines {
    let mut lines = Lines::below("alerts");
    lines.add("rules", &alerts.rules.len().to_string());
    if let Some(path) = &alerts.state_file
        && let Err(error) = state_file::check_writable(path)
    {
        lines.warn(&format!("alerts.state_file {} cannot be written: {error}", path.display()));
    }
    let own = alerts.rules.iter().filter(|rule| recommended::names().all(|name| name != rule.name));
    for rule in own {
        if let Some(problem) = about_nothing(rule, found) {
            lines.warn(&format!("{} {problem}", rule.name));
        }
    }
    lines
}

/// Returns why a rule matches nothing; `None` if it matches something, or if that is not known yet.
fn about_nothing(rule: &Rule, found: &[(&config::Target, Option<Found>)]) -> Option<String> {
    let selector = &rule.selector;
    let mut targets =
        found.iter().filter(|(target, _)| selector.target.matches(target.name.as_bytes())).peekable();
    if targets.peek().is_none() {
        return Some(format!("is about no target: none is called \"{}\"", selector.target));
    }
    let may_be_about_any = |(_, found): &(&config::Target, Option<Found>)| {
        found
            .as_ref()
            .is_none_or(|found| !found.is_complete || capabilities::selects_any(rule, &found.report))
    };
    if targets.any(may_be_about_any) {
        return None;
    }
    let of = |what: &str, glob: &dyn std::fmt::Display| format!("{what} \"{glob}\"");
    let (subject, mut globs) = match rule.subject() {
        SubjectKind::Target => ("target", Vec::new()),
        SubjectKind::Stream => ("stream", vec![of("stream", &selector.stream)]),
        SubjectKind::Group => ("group", vec![of("stream", &selector.stream), of("group", &selector.group)]),
    };
    globs.insert(0, of("target", &selector.target));
    let named = if rule.expression.first().fact.only_named() { " that the configuration names" } else { "" };
    Some(format!("is about no {subject}{named}: none was found for {}", globs.join(", ")))
}

/// Returns a line for each receiver: reachable or not.
pub(super) async fn of_notifiers(notifiers: &[NotifierConfig]) -> Lines {
    let mut lines = Lines::below("notifiers");
    let reached = join_all(notifiers.iter().map(probe)).await;
    for (notifier, reached) in notifiers.iter().zip(reached) {
        for one in reached {
            match one {
                Ok(address) => lines.add(&notifier.name, &format!("{address} can be reached")),
                Err(problem) => lines.warn(&format!("{}: {problem}", notifier.name)),
            }
        }
    }
    let writes = |notifier: &&NotifierConfig| !notifier.receiver.deduplicates();
    let writing: Vec<_> = notifiers.iter().filter(writes).map(|notifier| notifier.name.as_str()).collect();
    if !writing.is_empty() {
        let names = writing.join(", ");
        lines.warn(&format!(
            "two streamgauges on one server would both write to {names}; only Alertmanager and PagerDuty deduplicate"
        ));
    }
    lines
}
