//! `streamgauge completions`: prints a script for a shell.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{self, Cli};

/// Prints the completion script.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn run(args: &cli::terminal::Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "streamgauge", &mut script);
    io::stdout().write_all(&script).context("cannot write the script")
}
