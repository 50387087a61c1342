//! Clusters: each stream is read from the node that owns its slot, while slots move and nodes die.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::support::certificates::Authority;
use crate::support::client::RedisClient;
use crate::support::cluster::Cluster;
use crate::support::config::{ConfigFile, serving};
use crate::support::metrics::{Metrics, named};
use crate::support::program::{Exporter, Streamgauge};
use crate::support::proxy::{FaultyProxy, ProxyMode};
use crate::support::series::{TARGET_UP, errors, group, polls, up};
use crate::support::server::free_port;
use crate::support::servers::{Program, all, newest, with_tls};
use crate::support::wait::wait_until;
use crate::support::watch::{is_up, summary, until_within};
use crate::tls::own;

const SOON: Duration = Duration::from_secs(60);

const POLL: &str = "poll: {interval: 1500ms, timeout: 1400ms, stale_after: 1m, discovery_interval: 1s}\n";

const STREAMS: usize = 300;

fn keys() -> impl Iterator<Item = String> {
    (0..STREAMS).map(|n| format!("s{n}"))
}

/// A stream of two entries, of which the group has read one; the key is `KEY`.
const STREAM: &str =
    "XADD KEY * f v\nXADD KEY * f v\nXGROUP CREATE KEY g 0\nXREADGROUP GROUP g c COUNT 1 STREAMS KEY >";

async fn fill(cluster: &Cluster) {
    let mut lines = [String::new(), String::new(), String::new()];
    for key in keys() {
        let owner = Cluster::first_owner(cluster.slot(&key).await);
        lines[owner].push_str(&format!("{}\n", STREAM.replace("KEY", &key)));
    }
    for (node, lines) in cluster.nodes.iter().zip(&lines) {
        RedisClient::to(node).await.run(lines).await;
    }
}

fn target(cluster: &Cluster) -> String {
    target_by(cluster, "redis", "")
}

/// A target at the first two nodes, over this scheme and with these keys besides.
fn target_by(cluster: &Cluster, scheme: &str, keys: &str) -> String {
    let seeds: Vec<_> = (0..2).map(|at| format!("'{scheme}://{}'", cluster.address(at))).collect();
    format!("{POLL}targets: [{{name: t, topology: cluster{keys}, urls: [{}]}}]", seeds.join(", "))
}

fn node_up(address: &str) -> String {
    format!(r#"streamgauge_node_up{{node="{address}",target="t"}}"#)
}

fn lag(key: &str) -> String {
    group("redis_stream_group_lag", key, "g")
}

fn all_there(metrics: &Metrics) -> bool {
    is_up(metrics)
        && named(metrics, "redis_stream_up").len() == STREAMS
        && keys().all(|key| metrics.get(&up(&key)) == Some(&1.0) && metrics.get(&lag(&key)) == Some(&1.0))
}

/// Waits for some polls more. Each stream is there in each of them.
async fn all_stay(exporter: &Exporter, polled: f64) {
    let before = exporter.metrics().await[&polls("ok")];
    until_within(SOON, exporter, "more polls", |metrics| {
        let there = named(metrics, "redis_stream_up");
        assert_eq!(there.len(), STREAMS, "each once");
        // A loaded machine may not answer in time.
        let down: Vec<_> = there.iter().filter(|(_, value)| **value != 1.0).collect();
        assert!(down.is_empty() || metrics[&errors("timeout")] > 0.0, "{down:?}");
        metrics[&polls("ok")] >= before + polled
    })
    .await;
}

#[tokio::test]
async fn streams_are_read_where_they_are_while_slots_move_and_a_master_dies() {
    let cluster = Cluster::start(newest(), 3, &[]).await;
    let target = target_by(&cluster, "redis", USER);
    slots_move_and_a_master_dies(cluster, &target).await;
}

#[tokio::test]
async fn they_are_read_over_tls_too_with_a_certificate_of_ours() {
    let program = with_tls().pop().expect("there is one");
    let authority = Authority::new("authority");
    let node = own(&authority, "node", &authority.sign("127.0.0.1", |_| {}));
    let ca = authority.file();
    let args = ["--tls-cert-file", &node.0, "--tls-key-file", &node.1, "--tls-ca-cert-file", &ca];
    let cluster = Cluster::start_secured(program, 3, &args).await;
    let (cert, key) = own(&authority, "client", &authority.sign("streamgauge", |_| {}));
    let tls = format!("{USER}, tls: {{ca_file: '{ca}', cert_file: '{cert}', key_file: '{key}'}}");
    let target = target_by(&cluster, "rediss", &tls);
    slots_move_and_a_master_dies(cluster, &target).await;
}

const USER: &str = ", username: mon, password: pw";

async fn slots_move_and_a_master_dies(mut cluster: Cluster, target: &str) {
    fill(&cluster).await;
    for node in &cluster.nodes {
        let user =
            "ACL SETUSER mon reset on >pw ~* +xinfo +xpending +xrange +scan +time +cluster|slots +asking";
        RedisClient::to(node).await.run(user).await;
    }
    let exporter = serving(target).await;
    let found = until_within(SOON, &exporter, "all streams", all_there).await;
    let nodes: BTreeSet<_> = named(&found, "streamgauge_node_up").into_keys().collect();
    assert_eq!(nodes, (0..3).map(|at| node_up(&cluster.address(at))).collect());
    assert_eq!(found[r#"streamgauge_discovered_streams{target="t"}"#], 300.0);

    // Slots on their way: the stream is on either node.
    let moved: Vec<_> = keys().take(3).collect();
    for key in &moved {
        let slot = cluster.slot(key).await;
        let (from, to) = (Cluster::first_owner(slot), (Cluster::first_owner(slot) + 1) % 3);
        cluster.begin_to_move(slot, from, to).await;
        all_stay(&exporter, 1.0).await;
        // All that lies in the slot goes.
        cluster.migrate(key, from, to).await;
        all_stay(&exporter, 2.0).await;
        let here: Vec<String> =
            cluster.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100"]).await;
        for other in here {
            cluster.migrate(&other, from, to).await;
        }
        cluster.end_move(slot, to).await;
        all_stay(&exporter, 1.0).await;
    }
    let found = until_within(SOON, &exporter, "all lags again", all_there).await;
    assert!(found[&errors("moved")] > 0.0);
    assert_eq!(found[&errors("denied")], 0.0);
    assert!(found[r#"streamgauge_redis_commands_total{command="asking",target="t"}"#] > 0.0);

    // A dead master takes its own streams with it, and nothing else.
    let dead = 2;
    let mut of_the_dead = BTreeSet::new();
    for key in keys() {
        let slot = cluster.slot(&key).await;
        let first = Cluster::first_owner(slot);
        let owner = if moved.contains(&key) { (first + 1) % 3 } else { first };
        if owner == dead {
            of_the_dead.insert(key);
        }
    }
    let address = cluster.address(dead);
    cluster.nodes[dead].kill();
    // What has to be asked for goes on for all others.
    let pending = |key: &str| group("redis_stream_group_oldest_pending_deliveries", key, "g");
    let of_them = |metrics: &Metrics, key: &str| {
        let is_of = |series: &&String| {
            series.starts_with("redis_stream_") && series.contains(&format!(r#"stream="{key}""#))
        };
        metrics.keys().filter(is_of).count()
    };
    let found = until_within(SOON, &exporter, "its streams are down", |metrics| {
        of_the_dead.iter().all(|key| metrics.get(&up(key)) == Some(&0.0))
    })
    .await;
    assert_eq!(found[TARGET_UP], 0.0);
    assert_eq!(found[&node_up(&address)], 0.0);
    for key in keys() {
        if of_the_dead.contains(&key) {
            assert_eq!(of_them(&found, &key), 1, "{key}");
        } else if found[&errors("timeout")] == 0.0 {
            let shown = [up(&key), lag(&key), pending(&key)].map(|series| found.get(&series).copied());
            assert_eq!(shown, [Some(1.0); 3], "{key}");
        }
    }

    // Its replica takes over.
    let found = until_within(SOON, &exporter, "all streams again", all_there).await;
    assert_eq!(found[&node_up(&cluster.address(dead + 3))], 1.0);
    assert!(!found.contains_key(&node_up(&address)));
}

#[tokio::test]
async fn every_version_tells_of_its_cluster_and_check_shows_its_nodes() {
    let oldest_and_newest: [&'static Program; 2] = [&all()[0], newest()];
    for program in oldest_and_newest {
        let cluster = Cluster::start(program, 0, &[]).await;
        for key in ["a", "b", "c", "{a}2"] {
            cluster.run(key, STREAM).await;
        }
        for (user, permissions) in [("slots", "+cluster|slots"), ("shards", "+cluster|shards")] {
            if user == "shards" && program.version < (7, 0, 0) {
                continue;
            }
            for node in &cluster.nodes {
                let user = format!(
                    "ACL SETUSER {user} reset on >pw ~* +xinfo +xpending +xrange +scan +time {permissions}"
                );
                RedisClient::to(node).await.run(&user).await;
            }
            let config = ConfigFile::new(
                &target(&cluster).replace("urls:", &format!("username: {user}, password: pw, urls:")),
            );
            let checked = config.command("check").run().await;
            assert_eq!(checked.code, Some(0), "{program}: {}{}", checked.stdout, checked.stderr);
            assert!(checked.stdout.contains("streams  4 (a, b, c, {a}2)"), "{program}: {}", checked.stdout);
            for node in &cluster.nodes {
                assert!(checked.stdout.contains(&format!("{}: ", node.address())), "{}", checked.stdout);
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_said() {
    let server = crate::support::server::Server::start(newest(), &[]).await;
    let config = ConfigFile::new(&format!("targets: [{{topology: cluster, url: '{}'}}]", server.url()));
    let checked = config.command("check").run().await;
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains("cluster support disabled"), "{}", checked.stdout);
}

#[tokio::test]
async fn each_node_that_cannot_be_reached_is_named_when_none_can() {
    let urls: Vec<_> = (0..7).map(|_| format!("'redis://127.0.0.1:{}'", free_port())).collect();
    for nodes in [2, 7] {
        let list = urls[..nodes].join(", ");
        let config = ConfigFile::new(&format!("targets: [{{topology: cluster, urls: [{list}]}}]"));
        let checked = config.command("check").run().await;
        assert_eq!(checked.code, Some(1));
        let refused = |url: &String| {
            let address = url.trim_matches('\'').strip_prefix("redis://").expect("a URL");
            format!("cannot connect to {address}: Connection refused (os error 111)")
        };
        let mut told: Vec<_> = urls[..nodes].iter().take(5).map(refused).collect();
        if nodes > 5 {
            told.push(format!("and {} more", nodes - 5));
        }
        let told = format!("error    no node of the cluster answers: {}\n", told.join("; "));
        assert!(checked.stdout.contains(&told), "{told}: {}", checked.stdout);
    }
}

/// Returns a cluster with this many streams, and the proxy by which its first master is reached, as all masters tell.
async fn behind_proxy(streams: usize) -> (Cluster, FaultyProxy) {
    let cluster = Cluster::start(newest(), 0, &[]).await;
    for number in 0..streams {
        cluster.run(&format!("s{number}"), STREAM).await;
    }
    let proxied = &cluster.nodes[0];
    let proxy = FaultyProxy::before(proxied.address(), ProxyMode::Forward).await;
    let port = proxy.address.port().to_string();
    proxied.command::<()>(&["CONFIG", "SET", "cluster-announce-port", &port]).await;
    for node in &cluster.nodes {
        wait_until(SOON, "the port is known", async || {
            node.command::<String>(&["CLUSTER", "NODES"]).await.contains(&format!("127.0.0.1:{port}@"))
        })
        .await;
    }
    (cluster, proxy)
}

#[tokio::test]
async fn a_master_that_hangs_on_xinfo_keeps_no_other_from_being_read_whole() {
    const KEYS: usize = 30;
    let (cluster, proxy) = behind_proxy(KEYS).await;
    let hanging = &cluster.nodes[0];
    let keys: Vec<_> = (0..KEYS).map(|n| format!("s{n}")).collect();
    let mut of_node = [Vec::new(), Vec::new(), Vec::new()];
    for key in &keys {
        of_node[Cluster::first_owner(cluster.slot(key).await)].push(key.as_str());
    }
    let poll = "poll: {interval: 3s, timeout: 2900ms, stale_after: 1m, discovery_interval: 1s}\n";
    let exporter = serving(&target(&cluster).replace(POLL, poll)).await;
    let is_there = |metrics: &Metrics, key: &&str| {
        [up(key), lag(key)].iter().all(|series| metrics.get(series) == Some(&1.0))
    };
    until_within(SOON, &exporter, "all streams", |metrics| {
        keys.iter().all(|key| is_there(metrics, &key.as_str()))
    })
    .await;

    proxy.set_mode(ProxyMode::HangAt("XINFO"));
    hanging.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    // Something that takes a question to know, asked in the polls from now on.
    for key in of_node[1].iter().chain(&of_node[2]) {
        cluster.run(key, "XGROUP CREATE KEY late 0\nXREADGROUP GROUP late c COUNT 1 STREAMS KEY >").await;
    }
    let node = node_up(&proxy.address.to_string());
    let late = |metric: &str, key: &str| group(&format!("redis_stream_group_{metric}"), key, "late");
    until_within(SOON, &exporter, "its streams are down, and the others whole", |metrics| {
        let mut others = of_node[1].iter().chain(&of_node[2]);
        of_node[0].iter().all(|key| metrics.get(&up(key)) == Some(&0.0) && !metrics.contains_key(&lag(key)))
            && others.all(|key| {
                let told = late("oldest_pending_deliveries", key);
                is_there(metrics, key) && metrics.get(&told) == Some(&1.0)
            })
            && (metrics[&node], metrics[TARGET_UP]) == (0.0, 0.0)
            && metrics[&errors("timeout")] >= 2.0
    })
    .await;

    proxy.set_mode(ProxyMode::Forward);
    until_within(SOON, &exporter, "all streams again", |metrics| {
        is_up(metrics) && keys.iter().all(|key| is_there(metrics, &key.as_str()))
    })
    .await;
}

#[tokio::test]
async fn a_page_shows_the_report_and_the_metrics_of_one_poll() {
    let (cluster, proxy) = behind_proxy(9).await;
    let away = &cluster.nodes[0];
    let poll = "poll: {interval: 100ms, timeout: 90ms, stale_after: 1m, discovery_interval: 1h}\n";
    let exporter = serving(&target(&cluster).replace(POLL, poll)).await;
    let all_up = |metrics: &Metrics| {
        let streams = named(metrics, "redis_stream_up");
        streams.len() == 9 && streams.values().all(|up| *up == 1.0)
    };
    until_within(SOON, &exporter, "all streams", all_up).await;

    let scrapes = async || loop {
        let page = exporter.metrics().await;
        // A loaded machine may not answer in time: then streams that were read before the deadline stay up.
        assert!(is_up(&page) == all_up(&page) || page[&errors("timeout")] > 0.0, "{}", summary(&page));
    };
    let outages = async {
        for _ in 0..20 {
            proxy.set_mode(ProxyMode::Reset);
            away.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
            until_within(SOON, &exporter, "a node is away", |page| !is_up(page)).await;
            proxy.set_mode(ProxyMode::Forward);
            until_within(SOON, &exporter, "all nodes are back", is_up).await;
        }
    };
    tokio::select! {
        () = outages => {}
        () = scrapes() => {}
        () = scrapes() => {}
        () = scrapes() => {}
    }
}

#[tokio::test]
async fn a_node_with_a_name_that_is_not_allowed_is_left_out_until_the_list_has_it() {
    let cluster = Cluster::start(newest(), 0, &["--cluster-preferred-endpoint-type", "hostname"]).await;
    let keys: Vec<_> = (0..9).map(|n| format!("s{n}")).collect();
    for key in &keys {
        cluster.run(key, STREAM).await;
    }
    for (at, name) in ["localhost", "localhost", "elsewhere.example"].into_iter().enumerate() {
        cluster.nodes[at].command::<()>(&["CONFIG", "SET", "cluster-announce-hostname", name]).await;
    }
    for node in &cluster.nodes {
        wait_until(SOON, "the names are known", async || {
            let known: String = node.command(&["CLUSTER", "NODES"]).await;
            known.matches(",localhost").count() == 2 && known.contains(",elsewhere.example")
        })
        .await;
    }
    let of_node = async |at: usize| {
        let mut of_node = Vec::new();
        for key in &keys {
            if Cluster::first_owner(cluster.slot(key).await) == at {
                of_node.push(key.as_str());
            }
        }
        of_node
    };
    let (others, of_the_left_out) = ([of_node(0).await, of_node(1).await].concat(), of_node(2).await);
    let allowing = |names: &str| target_by(&cluster, "redis", &format!(", allowed_nodes: [{names}]"));
    let config = ConfigFile::new(&allowing("Localhost"));
    let exporter = config.serve().serving().await;
    let node = format!("elsewhere.example:{}", cluster.nodes[2].port());
    let found = until_within(SOON, &exporter, "the others are read", |metrics| {
        others.iter().all(|key| metrics.get(&lag(key)) == Some(&1.0))
            && metrics[&errors("node_not_allowed")] > 0.0
    })
    .await;
    assert_eq!((found[&node_up(&node)], found[TARGET_UP]), (0.0, 0.0));
    assert!(of_the_left_out.iter().all(|key| !found.contains_key(&lag(key))), "{found:#?}");
    let page = exporter.get("/").await.text();
    assert!(page.contains(&format!("{node} is not in allowed_nodes")), "{page}");
    // With the node in the list, only its name is a problem.
    config.put("config.yaml", &allowing("localhost, '*.example'"));
    exporter.hang_up();
    until_within(SOON, &exporter, "its name is looked up", |metrics| metrics[&errors("resolve")] > 0.0).await;
    // A name of its own for the address, as an operator would give it.
    cluster.nodes[2].command::<()>(&["CONFIG", "SET", "cluster-announce-hostname", "localhost"]).await;
    until_within(SOON, &exporter, "all streams", |metrics| {
        is_up(metrics) && keys.iter().all(|key| metrics.get(&lag(key)) == Some(&1.0))
    })
    .await;
}

#[tokio::test]
async fn a_secured_cluster_that_names_an_address_without_tls_is_not_sent_the_password() {
    let program = with_tls().pop().expect("there is one");
    let authority = Authority::new("authority");
    let node = own(&authority, "node", &authority.sign("127.0.0.1", |_| {}));
    let ca = authority.file();
    let args = ["--tls-cert-file", &node.0, "--tls-key-file", &node.1, "--tls-ca-cert-file", &ca];
    let cluster =
        Cluster::start_secured(program, 0, &[&args[..], &["--tls-auth-clients", "no"]].concat()).await;
    for node in &cluster.nodes {
        let user = "ACL SETUSER mon reset on >hunter2 ~* +xinfo +xpending +xrange +scan +time +cluster|slots";
        RedisClient::to(node).await.run(user).await;
    }
    let clear = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = clear.local_addr().expect("it is bound").port().to_string();
    cluster.nodes[0].command::<()>(&["CONFIG", "SET", "cluster-announce-tls-port", &port]).await;
    let tls = format!(", username: mon, password: hunter2, tls: {{ca_file: '{ca}'}}");
    let exporter = serving(&target_by(&cluster, "rediss", &tls)).await;
    let (mut stream, _) =
        tokio::time::timeout(SOON, clear.accept()).await.expect("in time").expect("it listens");
    // A TLS handshake, which gets no answer.
    let mut received = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut received)).await;
    assert!(received.starts_with(&[0x16, 0x03]), "{received:?}");
    assert!(!received.windows(7).any(|part| part == b"hunter2"), "{received:?}");
    exporter.stop().await;
}

#[tokio::test]
async fn commands_go_to_the_node_that_holds_the_stream_whichever_is_named() {
    let cluster = Cluster::start(newest(), 0, &[]).await;
    cluster.run("s", STREAM).await;
    let slot = cluster.slot("s").await;
    let (from, to) = (Cluster::first_owner(slot), (Cluster::first_owner(slot) + 1) % 3);
    let of = |name: &str, at: usize, args: &[&str]| {
        Streamgauge::command(name).args(["--redis-url", &cluster.nodes[at].url()]).args(args)
    };
    let is_listed_by_each = async || {
        for at in 0..3 {
            let listed = of("pending", at, &["--stream", "s", "--group", "g"]).run().await;
            assert_eq!(listed.code, Some(0), "{}", listed.stderr);
            assert!(listed.stdout.contains("1 pending entry is shown"), "{}", listed.stdout);
        }
    };
    is_listed_by_each().await;
    let missing = of("pending", to, &["--stream", "s", "--group", "other"]).run().await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains(r#"stream "s" has no group "other""#), "{}", missing.stderr);
    cluster.begin_to_move(slot, from, to).await;
    cluster.migrate("s", from, to).await;
    is_listed_by_each().await;
    cluster.end_move(slot, to).await;
    is_listed_by_each().await;

    let produce = ["--count", "60", "--rate", "0", "--stream"];
    for at in 0..3 {
        let produced = of("produce", at, &[&produce[..], &["{s}1", "--stream", "{s}2"]].concat()).run().await;
        assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    }
    let lengths: [u64; 2] = [
        cluster.nodes[to].command(&["XLEN", "{s}1"]).await,
        cluster.nodes[to].command(&["XLEN", "{s}2"]).await,
    ];
    assert_eq!(lengths, [90, 90]);

    let elsewhere = keys();
    let mut far = String::new();
    for key in elsewhere {
        if Cluster::first_owner(cluster.slot(&key).await) == (to + 1) % 3 {
            far = key;
            break;
        }
    }
    for rate in ["0", "100"] {
        let args = ["--stream", "s", "--stream", &far, "--rate", rate];
        let refused = of("produce", 0, &args).run().await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        let said =
            format!("the streams s, {far} are on several nodes of a cluster: give their keys one hash tag");
        assert!(refused.stderr.contains(&said), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_master_that_stands_still_costs_no_other_its_connection() {
    let cluster = Cluster::start(newest(), 0, &[]).await;
    let mut of_node: [Option<String>; 3] = [const { None }; 3];
    for key in keys().take(30) {
        let owner = Cluster::first_owner(cluster.slot(&key).await);
        if of_node[owner].is_none() {
            cluster.run(&key, STREAM).await;
            of_node[owner] = Some(key);
        }
    }
    let of_node = of_node.map(|key| key.expect("thirty keys are on every node"));
    let named = of_node.each_ref().map(|key| format!("{{key: {key}}}")).join(", ");
    let [still, others @ ..] = of_node;
    // So long that a busy machine is not taken for one that stands still. Without globs nothing is asked in between.
    let poll = "poll: {interval: 8s, timeout: 7900ms, stale_after: 1m}\n";
    let target = target_by(&cluster, "redis", &format!(", streams: [{named}]")).replace(POLL, poll);
    let exporter = serving(&target).await;
    let are_up = |metrics: &Metrics| others.iter().all(|key| metrics.get(&up(key)) == Some(&1.0));
    until_within(SOON, &exporter, "all streams", |metrics| {
        are_up(metrics) && metrics.get(&up(&still)) == Some(&1.0)
    })
    .await;
    // The first that is asked which masters there are.
    cluster.nodes[0].pause();
    let found =
        until_within(SOON, &exporter, "its stream is down", |metrics| metrics.get(&up(&still)) == Some(&0.0))
            .await;
    cluster.nodes[0].resume();
    assert!(are_up(&found));
    let log = exporter.stderr();
    for other in 1..3 {
        let address = format!("address={} ", cluster.address(other));
        let connected = log.lines().filter(|line| line.contains(": connected ") && line.contains(&address));
        assert_eq!(connected.count(), 1, "{log}");
    }
}
