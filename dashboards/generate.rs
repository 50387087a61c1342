//! Writes the Grafana dashboard to standard output: `make dashboard` keeps it in dashboards/streamgauge.json.

use std::io::{self, Write as _};

mod generator;

fn main() -> io::Result<()> {
    writeln!(io::stdout(), "{:#}", generator::dashboard())
}
