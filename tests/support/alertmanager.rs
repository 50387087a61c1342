//! One running Alertmanager: private, on loopback, with its data in a temporary folder; killed on drop.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::http;
use super::metrics;
use super::peers;
use super::server::{free_port, tail};
use super::wait::wait_for;

/// How long it may take to start.
const DEADLINE: Duration = Duration::from_secs(20);

/// A configuration that tells nobody.
pub const SILENT: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// An Alertmanager that a test started.
#[derive(Debug)]
pub struct Alertmanager {
    program: PathBuf,
    port: u16,
    folder: TempDir,
    args: Vec<String>,
    /// Where its API lies: empty, or `/prefix`.
    prefix: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    child: Option<Child>,
}

impl Alertmanager {
    /// Starts one that tells nobody; `None` where there is none and there need not be.
    pub async fn start() -> Option<Self> {
        let mut alertmanager = Self::with(SILENT)?;
        alertmanager.launch().await;
        Some(alertmanager)
    }

    /// One with this configuration, which is not started yet.
    pub fn with(config: &str) -> Option<Self> {
        let program = peers::find("prometheus-alertmanager")?;
        let folder = tempfile::Builder::new().prefix("streamgauge-am-").tempdir().expect("a folder");
        let alertmanager = Self {
            program,
            port: free_port(),
            folder,
            args: Vec::new(),
            prefix: "",
            headers: Vec::new(),
            child: None,
        };
        alertmanager.put("config.yml", config);
        Some(alertmanager)
    }

    /// The same below a path.
    pub fn below(mut self, prefix: &'static str) -> Self {
        self.args.push(format!("--web.route-prefix={prefix}"));
        self.prefix = prefix;
        self
    }

    /// The same with a web configuration file, and the headers that a reader must send then.
    pub fn guarded(mut self, web_config: &str, headers: &[(&'static str, &'static str)]) -> Self {
        let path = self.put("web.yml", web_config);
        self.args.push(format!("--web.config.file={}", path.display()));
        self.headers = headers.to_vec();
        self
    }

    /// Writes a file into its folder, and returns its path.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file in a folder of our own can be written");
        path
    }

    /// Where it listens: stays the same over a restart.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Starts it, and waits until it listens.
    pub async fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::create(self.folder.path().join("log")).expect("a log can be written");
        let path = |name| self.folder.path().join(name).display().to_string();
        let child = Command::new(&self.program)
            .args([
                format!("--config.file={}", path("config.yml")),
                format!("--storage.path={}", path("data")),
            ])
            .args([
                format!("--web.listen-address={}", self.address()),
                "--cluster.listen-address=".to_owned(),
            ])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("Alertmanager can be run");
        self.child = Some(child);
        wait_for(DEADLINE, "Alertmanager listens", async || {
            let log = self.log();
            if log.contains("TLS is ") { Ok(()) } else { Err(tail(&log, 10)) }
        })
        .await;
    }

    /// Kills it: what it knew of alerts is forgotten.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("SIGKILL reaches a child");
        child.wait().expect("a killed child ends");
    }

    /// What it logged since it was launched.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The alerts that it shows: those that fire.
    pub async fn alerts(&self) -> Vec<Value> {
        serde_json::from_str(&self.get("/api/v2/alerts").await).expect("alerts are a list in JSON")
    }

    /// Whether it shows an alert of this group, whose name needs no escaping.
    pub async fn shows_group(&self, group: &str) -> bool {
        self.get(&format!("/api/v2/alerts?filter=group%3D%22{group}%22")).await.trim() != "[]"
    }

    /// How many firing alerts it was sent, each time counted.
    pub async fn received(&self) -> f64 {
        let series = "alertmanager_alerts_received_total{status=\"firing\",version=\"v2\"}";
        metrics::parse(&self.get("/metrics").await)[series]
    }

    async fn get(&self, path: &str) -> String {
        let path = format!("{}{path}", self.prefix);
        let response = http::get_with(self.address(), &path, &self.headers).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.text()
    }

    /// The label `group` of each alert that it shows, in order.
    pub async fn groups(&self) -> Vec<String> {
        let label = |alert: Value| alert["labels"]["group"].as_str().expect("the label is there").to_owned();
        let mut groups: Vec<_> = self.alerts().await.into_iter().map(label).collect();
        groups.sort_unstable();
        groups
    }

    /// Waits until it shows alerts of these groups and no others, each once.
    pub async fn shows(&self, groups: &[&str]) {
        wait_for(DEADLINE, &format!("Alertmanager shows {groups:?}"), async || {
            let shown = self.groups().await;
            if shown == groups { Ok(()) } else { Err(format!("it shows {shown:?}")) }
        })
        .await;
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test failed, and this may tell why")]
            {
                eprintln!("Alertmanager wrote:\n{}", tail(&self.log(), 20));
            }
        }
    }
}
