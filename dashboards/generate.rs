//! Writes the Grafana dashboard to standard output: `make dashboard` keeps it in dashboards/streamgauge.json.

use std::io::{self, Write as _};

mod generator;

fn main() -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "prints text of its own")]
    let mut out = io::stdout();
    writeln!(out, "{:#}", generator::dashboard())
}
