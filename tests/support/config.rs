//! A configuration file in a folder of its own, and other files beside it.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::program::{Exporter, Streamgauge};

/// Polls in quick succession. The time-out leaves a loaded machine time to answer, and `stale_after` some
/// polls to fail in.
pub const QUICK: &str =
    "poll: {interval: 400ms, timeout: 390ms, stale_after: 2s, discovery_interval: 400ms}\n";

/// One poll, and none after it for as long as a test lasts.
pub const ONCE: &str = "poll: {interval: 1h, timeout: 10s}\n";

/// A configuration file; it is gone when this is dropped.
#[derive(Debug)]
pub struct ConfigFile {
    folder: TempDir,
}

impl ConfigFile {
    /// Writes the file.
    pub fn new(yaml: &str) -> Self {
        let config = Self {
            folder: tempfile::Builder::new().prefix("streamgauge-config-").tempdir().expect("a folder"),
        };
        config.put("config.yaml", yaml);
        config
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// Writes another file beside it, and returns its path.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file in a folder of our own can be written");
        path
    }

    /// `serve` with this file.
    pub fn serve(&self) -> Streamgauge {
        Streamgauge::serve().args(["--config".as_ref(), self.path().as_os_str()])
    }

    /// Another subcommand with this file.
    pub fn command(&self, name: &str) -> Streamgauge {
        Streamgauge::command(name).args(["--config".as_ref(), self.path().as_os_str()])
    }
}

/// An exporter with this configuration.
pub async fn serving(yaml: &str) -> Exporter {
    ConfigFile::new(yaml).serve().serving().await
}
