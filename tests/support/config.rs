//! A configuration file in a temporary folder, with other files beside it.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::program::{Exporter, Streamgauge};

/// Short intervals. The timeout leaves time for replies on a loaded machine, and `stale_after` allows some polls to
/// fail.
pub const QUICK: &str =
    "poll: {interval: 400ms, timeout: 390ms, stale_after: 2s, discovery_interval: 400ms}\n";

/// A single poll during a test.
pub const ONCE: &str = "poll: {interval: 1h, timeout: 10s}\n";

/// A configuration file, deleted on drop.
#[derive(Debug)]
pub struct ConfigFile {
    folder: TempDir,
}

impl ConfigFile {
    pub fn new(yaml: &str) -> Self {
        let config = Self {
            folder: tempfile::Builder::new().prefix("streamgauge-config-").tempdir().expect("a folder"),
        };
        config.put("config.yaml", yaml);
        config
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// Writes another file beside it and returns the path.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file in a folder of our own can be written");
        path
    }

    /// Returns the subcommand `serve` with this file.
    pub fn serve(&self) -> Streamgauge {
        Streamgauge::serve().args(["--config".as_ref(), self.path().as_os_str()])
    }

    /// Returns another subcommand with this file.
    pub fn command(&self, name: &str) -> Streamgauge {
        Streamgauge::command(name).args(["--config".as_ref(), self.path().as_os_str()])
    }
}

/// Starts an exporter with this configuration.
pub async fn serving(yaml: &str) -> Exporter {
    ConfigFile::new(yaml).serve().serving().await
}
