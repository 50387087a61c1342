//! Finds the installed server programs, and runs a test body against each of them.

use std::env;
use std::fmt;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::server::Server;

/// A server program on this machine.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name and version: `redis-7.0.15`, `valkey-8.1.8`. Unique in [`all`].
    pub name: String,
    pub path: PathBuf,
    pub kind: ServerKind,
    /// Major, minor, patch. Valkey's versions continue from Redis 7.2.
    pub version: (u32, u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerKind {
    Redis,
    Valkey,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

impl Program {
    /// Reads the version of the program at a path; `None` if it is not a server of 6.2 or later.
    fn at(path: &Path) -> Option<Self> {
        let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().ok()?;
        let (kind, version) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        let word = match kind {
            ServerKind::Redis => "redis",
            ServerKind::Valkey => "valkey",
        };
        let (major, minor, patch) = version;
        let name = format!("{word}-{major}.{minor}.{patch}");
        (version >= (6, 2, 0)).then(|| Self { name, path: path.to_owned(), kind, version })
    }
}

/// Parses the first line of `--version`: `Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64`.
pub fn parse_version(line: &str) -> Option<(ServerKind, (u32, u32, u32))> {
    let (kind, rest) = match line.strip_prefix("Redis server v=") {
        Some(rest) => (ServerKind::Redis, rest),
        None => (ServerKind::Valkey, line.strip_prefix("Valkey server v=")?),
    };
    let mut numbers = rest.split_whitespace().next()?.splitn(3, '.').map(|number| number.parse().ok());
    Some((kind, (numbers.next()??, numbers.next()??, numbers.next()??)))
}

/// Returns the servers of `STREAMGAUGE_REDIS_SERVER`, target/servers and PATH: each version once, Redis before Valkey,
/// the oldest first.
///
/// Panics if there is none, or if one of `STREAMGAUGE_REQUIRE_SERVERS` (`redis-6.2,valkey-8.1`) is missing.
pub fn all() -> &'static [Program] {
    static ALL: OnceLock<Vec<Program>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut found: Vec<Program> = candidates().iter().filter_map(|path| Program::at(path)).collect();
        // The sort is stable, so of two programs with the same version the first candidate is kept.
        found.sort_by_key(|program| (program.kind, program.version));
        found.dedup_by(|later, earlier| later.name == earlier.name);
        assert!(!found.is_empty(), "no Redis or Valkey server to test against: run `make servers`");
        let required = env::var("STREAMGAUGE_REQUIRE_SERVERS").unwrap_or_default();
        let missing = missing(&required, &found);
        assert!(
            missing.is_empty(),
            "these servers are required and missing: {missing:?}; run `make servers`"
        );
        found
    })
}

/// Returns the required names (`redis-6.2`, comma-separated) that no program has.
pub fn missing<'a>(required: &'a str, found: &[Program]) -> Vec<&'a str> {
    let is_there = |name: &str| found.iter().any(|program| program.name.starts_with(&format!("{name}.")));
    required.split(',').filter(|name| !name.is_empty() && !is_there(name)).collect()
}

/// Returns the newest server, for tests that do not depend on the version.
pub fn newest() -> &'static Program {
    all().iter().max_by_key(|program| program.version).expect("all() is never empty")
}

/// Returns the server of that kind and version, as in `redis-6.2`, and panics if there is none.
pub fn of_version(name: &str) -> &'static Program {
    let of_name = |program: &&Program| program.name.starts_with(&format!("{name}."));
    all()
        .iter()
        .find(of_name)
        .unwrap_or_else(|| panic!("there is no {name}: run `scripts/servers.sh {name}`"))
}

/// Returns the servers that were built with TLS.
pub fn with_tls() -> Vec<&'static Program> {
    // With TLS, a TLS port without a certificate is an error that names tls-cert-file.
    let has_tls = |program: &&'static Program| {
        let output = Command::new(&program.path).args(["--port", "0", "--tls-port", "1"]).output();
        String::from_utf8_lossy(&output.expect("a server runs").stdout).contains("tls-cert-file")
    };
    let found: Vec<_> = all().iter().filter(has_tls).collect();
    assert!(!found.is_empty(), "no server with TLS: install redis-server, whose package on Debian has it");
    found
}

/// Returns the paths at which a server may be, the preferred ones first.
fn candidates() -> Vec<PathBuf> {
    const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
    let mut folders = Vec::new();
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers");
    for entry in fs::read_dir(installed).into_iter().flatten().flatten() {
        folders.push(entry.path());
    }
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let in_folders = folders.iter().flat_map(|folder| PROGRAMS.map(|program| folder.join(program)));
    let named = env::var_os("STREAMGAUGE_REDIS_SERVER").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.into_iter().chain(in_folders.filter(|path| path.is_file())).collect()
}

/// Runs the test body against every server program concurrently, and panics with the servers on which it failed.
///
/// ```ignore
/// for_each_program(async |program| {
///     let server = Server::start(program, &["--requirepass", "secret"]).await;
/// }).await;
/// ```
pub async fn for_each_program(test: impl AsyncFn(&'static Program)) {
    let runs = all().iter().map(async |program| {
        let run = AssertUnwindSafe(test(program)).catch_unwind().await;
        run.err().map(|panic| format!("on {program}: {}", message(panic.as_ref())))
    });
    let failures: Vec<String> = join_all(runs).await.into_iter().flatten().collect();
    assert!(failures.is_empty(), "failed {}", failures.join("\nfailed "));
}

/// Runs the test body against a new server of every version; see [`for_each_program`].
pub async fn for_each_server(test: impl AsyncFn(Server)) {
    for_each_program(async |program| test(Server::start(program, &[]).await).await).await;
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}
