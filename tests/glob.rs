//! Redis' glob dialect, held against a real server: random patterns over random keys.

#![expect(clippy::unwrap_used, reason = "clippy does not take a test's own helpers for tests")]

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::Connection;
use streamgauge::glob::Glob;
use tempfile::TempDir;

/// The bytes of keys and patterns: every special one, and few others, so that matches are frequent. None
/// beyond ASCII: there, servers differ by processor.
const ALPHABET: &[u8] = b"abcz[]^-\\*?";

/// A server on a socket in a folder of its own.
// To be replaced by the servers of tests/support, so that this runs against every version.
struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts; install it with: apt-get install redis-server");
        Self { process, folder }
    }

    fn connect(&self) -> Connection {
        let url = format!("redis+unix://{}", self.folder.path().join("redis.sock").display());
        let client = redis::Client::open(url).unwrap();
        let attempt = |_| {
            std::thread::sleep(Duration::from_millis(20));
            client.get_connection().ok()
        };
        (0..500).find_map(attempt).expect("the server answers within 10 s")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn random_bytes(random: &mut fastrand::Rng, longest: usize) -> Vec<u8> {
    (0..random.usize(..=longest)).map(|_| *random.choice(ALPHABET).unwrap()).collect()
}

#[test]
fn patterns_match_the_keys_that_the_server_matches() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Server::start();
    let mut connection = server.connect();

    let mut keys: BTreeSet<Vec<u8>> = (0..400).map(|_| random_bytes(&mut random, 5)).collect();
    keys.insert(Vec::new());
    let mut filling = redis::pipe();
    for key in &keys {
        filling.set(key, 1).ignore();
    }
    filling.exec(&mut connection).unwrap();

    let mut patterns: Vec<Vec<u8>> = (0..1000).map(|_| random_bytes(&mut random, 8)).collect();
    patterns.extend(
        [&b""[..], b"*", b"**", b"[", b"[^", b"[a-", b"[a-]", b"[z-a]", b"a*a*a*b"].map(<[u8]>::to_vec),
    );
    let mut matched = 0;
    for pattern in patterns {
        let glob = Glob::new(pattern.clone());
        let ours: BTreeSet<_> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
        let by_keys: BTreeSet<Vec<u8>> = redis::cmd("KEYS").arg(&pattern).query(&mut connection).unwrap();
        let scan = ["0", "COUNT", "10000", "MATCH"];
        let (_, by_scan): (u64, BTreeSet<Vec<u8>>) =
            redis::cmd("SCAN").arg(&scan).arg(&pattern).query(&mut connection).unwrap();
        assert_eq!(show(&ours), show(&by_keys), "KEYS {glob}");
        assert_eq!(show(&ours), show(&by_scan), "SCAN MATCH {glob}");
        matched += ours.len();
    }
    assert!(matched > 1000, "only {matched} matches in all: this compares next to nothing");
}

fn show(keys: &BTreeSet<Vec<u8>>) -> Vec<String> {
    keys.iter().map(|key| key.escape_ascii().to_string()).collect()
}
