//! `streamgauge completions`: prints a script for a shell.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::cli::{self, Cli};
use crate::commands::output;

/// Prints the completion script.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn run(args: &cli::Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "streamgauge", &mut script);
    let mut out = output::raw_stdout();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
