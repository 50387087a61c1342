//! A server of each version and a cluster, the exporter that polls them all, and two receivers of its alerts.

use std::time::Duration;

use crate::support::certificates::Authority;
use crate::support::cluster::Cluster;
use crate::support::config::ConfigFile;
use crate::support::program::Exporter;
use crate::support::receiver::TestReceiver;
use crate::support::server::{Server, free_port};
use crate::support::servers::{Program, all, newest, with_tls};
use crate::support::wait::wait_until;

/// From one poll of a target to the next.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// Deadline of a poll.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(800);
/// `status.window`: at least six intervals.
pub(crate) const WINDOW: Duration = Duration::from_secs(8);
/// Above this lag a group is told of.
pub(crate) const BEHIND: usize = 100;
/// The user of the ACL that polls.
pub(crate) const USER: &str = "streamgauge";
/// The name of the cluster's target.
pub(crate) const CLUSTER: &str = "cluster";

/// Deadline for the start, and for a change to take effect.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A server, alone or of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The target that it is of.
    pub(crate) target: String,
    /// Where it is, in clear.
    pub(crate) url: String,
    /// Where it is polled, as the configuration has it.
    place: String,
    /// Prefix of its keys: of a node of the cluster, a hash tag of one of its slots.
    pub(crate) tag: String,
}

/// All that stays up, or comes back.
pub(crate) struct Setup {
    /// The program.
    pub(crate) exporter: Exporter,
    /// Its configuration.
    pub(crate) file: ConfigFile,
    /// The polled nodes, in the order of the servers.
    pub(crate) nodes: Vec<Node>,
    /// The one that is polled over TLS.
    pub(crate) secured: Secured,
    /// A receiver as Alertmanager is one.
    pub(crate) alertmanager: TestReceiver,
    /// Another, by a webhook.
    pub(crate) webhook: TestReceiver,
}

/// A server that wants a certificate, and shows one.
pub(crate) struct Secured {
    /// Which of the nodes it is.
    pub(crate) at: usize,
    authority: Authority,
}

/// The part of the configuration that a reload changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variant {
    /// The target that has other streams.
    pub(crate) narrowed: Option<String>,
    /// Targets besides.
    pub(crate) spares: usize,
    /// Names what is new each time.
    pub(crate) serial: usize,
}

impl Setup {
    /// Starts all of it, and waits until each target was polled.
    pub(crate) async fn start() -> (Self, Vec<Server>) {
        let (servers, nodes, secured) = servers().await;
        let (alertmanager, webhook) = (TestReceiver::new().await, TestReceiver::new().await);
        let file = ConfigFile::new("");
        file.put("password", "pw\n");
        file.put("config.yaml", &config(&nodes, [&alertmanager, &webhook], &Variant::default()));
        let exporter = file.serve().args(["--log-level", "debug"]).serving().await;
        let setup = Self { exporter, file, nodes, secured, alertmanager, webhook };
        wait_until(DEADLINE, "each target is polled", async || {
            let metrics = setup.exporter.metrics().await;
            setup.targets().iter().all(|target| metrics[&up(target)] == 1.0)
        })
        .await;
        (setup, servers)
    }

    /// The targets that are always there.
    pub(crate) fn targets(&self) -> Vec<String> {
        let mut targets: Vec<_> = self.nodes.iter().map(|node| node.target.clone()).collect();
        targets.dedup();
        targets
    }

    /// The nodes of a target.
    pub(crate) fn nodes_of<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.target == target)
    }

    /// Its configuration with these changes.
    pub(crate) fn config(&self, variant: &Variant) -> String {
        config(&self.nodes, [&self.alertmanager, &self.webhook], variant)
    }
}

/// Returns the series that is 1 if a target answered in the last poll.
pub(crate) fn up(target: &str) -> String {
    format!(r#"streamgauge_target_up{{target="{target}"}}"#)
}

impl Secured {
    /// Makes new certificates, its own and the program's.
    pub(crate) fn certify(&self) {
        for (name, subject) in [("server", "localhost"), ("client", "streamgauge")] {
            let signed = self.authority.sign(subject, |_| {});
            self.authority.put(&format!("{name}.pem"), &signed.cert);
            self.authority.put(&format!("{name}.key"), &signed.key);
        }
    }

    fn path(&self, file: &str) -> String {
        self.authority.path(file).display().to_string()
    }

    fn args(&self, port: u16) -> Vec<String> {
        let (cert, key, ca) = (self.path("server.pem"), self.path("server.key"), self.authority.file());
        let keys = ["--tls-port", "--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"];
        let values = [port.to_string(), cert, key, ca];
        keys.into_iter().zip(values).flat_map(|(key, value)| [key.to_owned(), value]).collect()
    }

    fn place(&self, port: u16) -> String {
        let (ca, cert, key) = (self.authority.file(), self.path("client.pem"), self.path("client.key"));
        let tls = format!("{{ca_file: '{ca}', cert_file: '{cert}', key_file: '{key}'}}");
        format!("url: 'rediss://localhost:{port}', tls: {tls}")
    }
}

/// Every second server keeps what it has when it is killed.
async fn servers() -> (Vec<Server>, Vec<Node>, Secured) {
    let (mut servers, mut nodes) = (Vec::new(), Vec::new());
    let secured_program = with_tls()[0];
    let at = all().iter().position(|program| program.name == secured_program.name).expect("it is one of all");
    let secured = Secured { at, authority: Authority::new("soak") };
    secured.certify();
    for (at, program) in all().iter().enumerate() {
        let kept = ["--appendonly", if at % 2 == 0 { "yes" } else { "no" }];
        let port = free_port();
        let tls = if at == secured.at { secured.args(port) } else { Vec::new() };
        let tls: Vec<_> = tls.iter().map(String::as_str).collect();
        let server = Server::start(program, &[&user(program)[..], &kept, &tls].concat()).await;
        let place = if at == secured.at { secured.place(port) } else { format!("url: '{}'", server.url()) };
        nodes.push(Node { target: program.name.clone(), url: server.url(), place, tag: String::new() });
        servers.push(server);
    }
    let mut user = user(newest());
    user.extend(["+cluster|slots", "+asking"]);
    let cluster = Cluster::start(newest(), 0, &user).await;
    for (at, node) in cluster.nodes.into_iter().enumerate() {
        let tags = (0..).map(|n| format!("{{{n}}}"));
        let mut of_node = tags.filter(|tag| Cluster::first_owner(slot(tag)) == at);
        let tag = of_node.next().expect("each node has some of the slots");
        nodes.push(Node { target: CLUSTER.to_owned(), url: node.url(), place: node.url(), tag });
        servers.push(node);
    }
    (servers, nodes, secured)
}

/// The slot of a hash tag in braces.
fn slot(tag: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag.trim_matches(['{', '}']).as_bytes()) % 16_384
}

/// The user that docs/connecting.md recommends, as arguments of a server, which knows it after each restart.
fn user(program: &Program) -> Vec<&'static str> {
    let mut words = vec!["--slowlog-log-slower-than", "100000", "--user", USER, "on", ">pw"];
    words.push(if program.version < (7, 0, 0) { "~*" } else { "%R~*" });
    words.extend([
        "+xinfo|stream",
        "+xinfo|groups",
        "+xinfo|consumers",
        "+xpending",
        "+xrange",
        "+scan",
        "+time",
        "+info",
    ]);
    if program.version >= (7, 2, 0) {
        words.push("+client|no-touch");
    }
    words
}

fn config(nodes: &[Node], [alertmanager, webhook]: [&TestReceiver; 2], variant: &Variant) -> String {
    let (alertmanager, webhook) = (alertmanager.address, webhook.address);
    let (interval, timeout, serial) = (INTERVAL.as_millis(), TIMEOUT.as_millis(), variant.serial);
    let window = WINDOW.as_secs();
    let mut text = format!(
        "poll: {{interval: {interval}ms, timeout: {timeout}ms, stale_after: 5s, discovery_interval: 1s}}
status: {{window: {window}s}}
alerts:
  state_file: alerts.json
  rules:
    - {{alert: Behind, expr: lag > {BEHIND}}}
    - {{alert: Other{serial}, expr: messages_pending > {serial}}}
  notifiers:
    - {{name: alertmanager, alertmanager: {{urls: ['http://{alertmanager}'], timeout: 2s}}}}
    - {{name: webhook, webhook: {{url: 'http://{webhook}/{serial}', repeat_interval: 1m}}}}
targets:\n"
    );
    for node in nodes.iter().filter(|node| node.target != CLUSTER) {
        let streams = match &variant.narrowed {
            Some(target) if *target == node.target => {
                "{key: 'churn*', window: 12s}, {key: '*orders*', groups: {exclude: ['g*1']}, consumers: false}"
            }
            _ => "{key: orders, groups: {include: [workers, '*']}}, {key: '*'}",
        };
        text += &target(&node.target, &node.place, streams);
    }
    let seeds = nodes.iter().filter(|node| node.target == CLUSTER).map(|node| format!("'{}'", node.place));
    let seeds = seeds.collect::<Vec<_>>().join(", ");
    text += &target(CLUSTER, &format!("topology: cluster, urls: [{seeds}]"), "{key: '*'}");
    for (spare, node) in (0..variant.spares).zip(nodes.iter()) {
        let (name, url) = (format!("spare-{serial}-{spare}"), format!("url: '{}/0'", node.url));
        text += &target(&name, &url, "{key: '*'}");
    }
    text
}

fn target(name: &str, place: &str, streams: &str) -> String {
    format!(
        "  - {{name: {name}, {place}, username: {USER}, password_file: password, streams: [{streams}]}}\n"
    )
}
