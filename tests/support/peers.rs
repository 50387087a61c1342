//! Programs that the exporter is held against: Prometheus and Alertmanager, promtool, Helm, and the exporter that it
//! is to replace.

use std::env;
use std::path::{Path, PathBuf};

/// Where the program of this name lies: target/peers, or PATH. `None` where it is not there and need not be;
/// what is not checked then is said on standard error.
///
/// Panics if it is named in `STREAMGAUGE_REQUIRE_PEERS` and not there.
pub fn find(name: &str) -> Option<PathBuf> {
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(brought).chain(env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        let required = env::var("STREAMGAUGE_REQUIRE_PEERS").unwrap_or_default();
        assert!(
            !required.split(',').any(|peer| peer == name),
            "{name} is required and missing; run `make peers`"
        );
        #[expect(clippy::print_stderr, reason = "a check that is left out must be seen to be")]
        {
            eprintln!("not checked: there is no {name}; `make peers` brings it");
        }
    }
    found
}
