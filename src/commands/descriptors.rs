//! Refuses to start without free file descriptors: the runtime would panic, and connections would fail one by one later.

use std::io;
use std::os::fd::AsFd as _;

use rustix::process::{Resource, getrlimit};

/// The number that any command needs: for the runtime, signals, the log and listeners, a connection with the files that it takes (DNS,
/// password, certificates), and a few clients.
const NEEDED: usize = 24;

/// Checks that enough file descriptors are free, by taking them for a moment.
///
/// # Errors
///
/// Too few are free.
pub fn require() -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "nothing is written to it")]
    let stderr = io::stderr();
    let taken = (0..NEEDED).map_while(|_| stderr.as_fd().try_clone_to_owned().ok());
    let free = taken.collect::<Vec<_>>().len();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    anyhow::ensure!(
        free >= NEEDED,
        "file descriptors: {free} are free, and {NEEDED} are needed; the limit is {limit}, files that are open already \
         included: raise it to 64 or more (ulimit -n, LimitNOFILE of systemd)"
    );
    Ok(())
}
