//! `streamgauge rules`: prints the alert rules as a Prometheus rule file.

use std::io::Write as _;

use crate::alert::{recommended, rule_file};
use crate::cli;
use crate::commands::output;
use crate::config::env::of_process;
use crate::config::{Alerts, load};

/// Prints the rules of a configuration, or the built-in rules.
///
/// # Errors
///
/// The configuration is invalid.
pub fn run(args: &cli::Rules) -> anyhow::Result<()> {
    let (alerts, label_names) = match &args.config {
        Some(path) if !path.as_os_str().is_empty() => {
            let config = load::from_file(path, &of_process)?;
            // All targets have the same label names.
            let names = config.targets.first().map(|target| target.labels.keys().cloned().collect());
            (config.alerts, names.unwrap_or_default())
        }
        _ => (Alerts::default(), Vec::new()),
    };
    let label_names: Vec<_> = label_names.iter().map(String::as_str).collect();
    let mut prometheus_only = recommended::prometheus_only(&label_names, alerts.runbook_url.as_deref());
    prometheus_only.retain(|rule| alerts.prometheus_only.contains(&rule.name));
    let rules = alerts.rules.iter().map(AsRef::as_ref);
    let text = rule_file::write(rules, &prometheus_only, &label_names);
    Ok(output::raw_stdout().write_all(text.as_bytes())?)
}
