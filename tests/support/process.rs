//! A peer program during a test: private, on loopback, with its files in a temporary folder. It is killed on drop, and
//! its log is printed if the test failed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::peers;
use super::server::{free_port, tail};

/// A peer program.
#[derive(Debug)]
pub struct Process {
    /// Name in messages.
    name: &'static str,
    program: PathBuf,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl Process {
    /// Returns a program that is not started yet; `None` only under `STREAMGAUGE_SKIP_PEERS=1`.
    pub fn of(peer: &str, name: &'static str) -> Option<Self> {
        let program = peers::find(peer)?;
        let folder = tempfile::Builder::new().prefix("streamgauge-peer-").tempdir().expect("a folder");
        Some(Self { name, program, port: free_port(), folder, child: None })
    }

    /// Writes a file to its folder and returns the path.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file in a folder of our own can be written");
        path
    }

    /// Returns the path of a file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the address for it to listen on, which stays the same over a restart.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub fn start(&mut self, args: impl IntoIterator<Item = String>) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::create(self.path("log")).expect("a log can be written");
        let child = Command::new(&self.program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{} cannot be run: {error}", self.name)));
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("SIGKILL reaches a child");
        child.wait().expect("a killed child ends");
    }

    /// Returns its log since it was last started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails if it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test failed, and this may show why")]
            {
                eprintln!("{} wrote:\n{}", self.name, tail(&self.log(), 20));
            }
        }
    }
}
