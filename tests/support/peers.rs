//! Finds the programs that the exporter is tested with: Prometheus, Alertmanager, promtool, Chromium, Helm, curl,
//! openssl, redis-cli and prometheus-redis-exporter.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;

/// Returns the path of a program under target/peers or on PATH; under `STREAMGAUGE_PEERS=newest` the one under
/// target/peers/newest, if it is there.
///
/// Returns `None` only under `STREAMGAUGE_SKIP_PEERS=1`; the test then ends early and is listed in
/// target/skipped-tests, which `make test` prints.
///
/// Panics where the program is missing.
pub fn find(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let path = env::var_os("PATH").unwrap_or_default();
    // `scripts/peers.sh newest` brings some of them in a newer version.
    let newest = env::var("STREAMGAUGE_PEERS").is_ok_and(|value| value == "newest");
    let newest = newest.then(|| target.join("peers/newest"));
    let folders = newest.into_iter().chain([target.join("peers")]).chain(env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        assert!(
            env::var("STREAMGAUGE_SKIP_PEERS").is_ok_and(|value| value == "1"),
            "{name} is missing: run `scripts/peers.sh {name}`, or set STREAMGAUGE_SKIP_PEERS=1 to skip tests like this"
        );
        let test = thread::current().name().unwrap_or_default().to_owned();
        let line = format!("{} {test}: no {name}\n", env!("CARGO_CRATE_NAME"));
        let mut list =
            OpenOptions::new().create(true).append(true).open(target.join("skipped-tests")).unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
    found
}
