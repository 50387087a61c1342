//! `streamgauge init`: what it prints is a configuration that `check` accepts, for every kind of server, without a
//! password.

mod support;

use support::client::RedisClient;
use support::cluster::Cluster;
use support::config::ConfigFile;
use support::program::{Finished, Streamgauge};
use support::sentinel::{MASTER, Sentinel};
use support::server::Server;
use support::servers::{for_each_program, for_each_server, newest};

const PASSWORD: &str = "correct-horse";

async fn init(url: &str, arguments: &[&str]) -> Finished {
    Streamgauge::command("init").args(["--redis-url", url]).args(arguments).run().await
}

/// Checks a printed configuration, with the variable that it names, and returns the output.
async fn checked(printed: &Finished) -> String {
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{}", printed.stdout);
    let file = ConfigFile::new(&printed.stdout);
    let check = file.command("check").env("REDIS_PASSWORD", PASSWORD).run().await;
    assert_eq!(check.code, Some(0), "{}\n{}\n{}", printed.stdout, check.stdout, check.stderr);
    check.stdout
}

#[track_caller]
fn contains(printed: &Finished, parts: &[&str]) {
    for part in parts {
        assert!(printed.stdout.contains(part), "{part:?} is missing in:\n{}", printed.stdout);
    }
}

#[tokio::test]
async fn a_server_is_described_by_its_streams_groups_and_families() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD orders * f v\nXGROUP CREATE orders mail 0\nXADD ${HOME} * f v").await;
        client.run("XADD jobs:1 * f v\nXADD jobs:2 * f v\nXADD jobs:eu * f v\nSET jobs:text x").await;
        let printed = init(&server.url(), &[]).await;
        let (major, minor, patch) = server.program().version;
        contains(
            &printed,
            &[
                &format!(" {major}.{minor}.{patch}, master, standalone\n"),
                "#   5 streams with 1 group\n",
                "#     orders: mail (lag 1)\n",
                "#     jobs:eu: no groups\n",
                ": the interval of 10 s fits\n",
                &format!("  - url: \"{}\"\n", server.url()),
                "    # All streams are monitored. Keys that are alike: jobs:* (3); and 2 other keys\n",
                "    #streams: [{key: \"jobs:*\", as: \"jobs:*\"}, \"$${HOME}\", \"orders\"]\n",
                "#alerts:\n",
            ],
        );
        assert!(!printed.stdout.contains("warning"), "{}", printed.stdout);
        assert!(checked(&printed).await.contains("\n  streams  5 ("));

        let selected = printed.stdout.replace("#streams:", "streams:");
        assert!(checked(&Finished { stdout: selected, ..printed }).await.contains("\n  streams  5 ("));
    })
    .await;
}

#[tokio::test]
async fn a_password_is_not_printed_and_missing_permissions_are_named() {
    for_each_server(async |server| {
        let keys = if server.program().version < (7, 0, 0) { "~*" } else { "%R~*" };
        let rules = ["+xinfo", "+scan", "+xrange", "+hello", "-xpending"];
        let user: Vec<_> =
            ["ACL", "SETUSER", "me", "on", ">correct-horse", keys].into_iter().chain(rules).collect();
        server.command::<()>(&user).await;
        server.command::<String>(&["XADD", "s", "*", "f", "v"]).await;
        let url = format!("redis://me:{PASSWORD}@{}", server.address());
        let printed = init(&url, &[]).await;
        assert!(!format!("{printed:?}").contains(PASSWORD));
        let missing = "#   warning: the user may not run all commands; missing: +xpending +time +info";
        contains(&printed, &[missing, "    username: \"me\"\n", "    password: ${REDIS_PASSWORD}\n"]);
        checked(&printed).await;

        let folder = ConfigFile::new("");
        let path = folder.put("password", PASSWORD);
        let path = path.to_str().expect("it is text");
        let url = format!("redis://{}", server.address());
        let printed = init(&url, &["--redis-username", "me", "--redis-password-file", path]).await;
        contains(&printed, &[&format!("    password_file: \"{path}\"\n")]);
        checked(&printed).await;
    })
    .await;
}

#[tokio::test]
async fn a_cluster_is_found_from_one_node() {
    for_each_program(async |program| {
        let cluster = Cluster::start(program, 0, &[]).await;
        for key in ["a", "b", "c", "d"] {
            cluster.run(key, &format!("XADD {key} * f v")).await;
        }
        let given = format!("redis://{}", cluster.address(0));
        let printed = init(&given, &[]).await;
        let first = format!("  - topology: cluster\n    urls: [\"{given}\", \"redis://127.0.0.1:");
        contains(&printed, &[&first, "#   4 streams with 0 groups\n", ", master, cluster\n"]);
        assert!(checked(&printed).await.contains("\n  streams  4 (a, b, c, d)\n"));
    })
    .await;
}

#[tokio::test]
async fn the_masters_of_a_sentinel_are_targets_and_its_password_may_be_none() {
    for_each_program(async |program| {
        let master = Server::start(program, &["--requirepass", PASSWORD]).await;
        let sentinel = Sentinel::start(program, &master).await;
        let words = ["SENTINEL", "SET", MASTER, "auth-pass", PASSWORD];
        let _: String = sentinel.client().await.ask(&words).await;
        let url = sentinel.url().replace("redis://", &format!("redis://:{PASSWORD}@"));
        let printed = init(&url, &[]).await;
        assert!(!format!("{printed:?}").contains(PASSWORD));
        let target = format!(
            "  - topology: sentinel\n    sentinel:\n      master_name: \"{MASTER}\"\n      urls: [\"{}\"]\n",
            sentinel.url()
        );
        contains(&printed, &[&target, "    password: ${REDIS_PASSWORD}\n", ", master, standalone\n"]);
        checked(&printed).await;
        let of_database = init(&format!("{url}/2"), &[]).await;
        contains(&of_database, &[&format!("      urls: [\"{}/2\"]\n", sentinel.url())]);

        let without = init(&sentinel.url(), &[]).await;
        assert_eq!((without.code, without.stdout.as_str()), (Some(1), ""));
        assert!(without.stderr.contains("cannot poll the master \"mymaster\", which the sentinel named: "));
        assert!(without.stderr.contains("it wants a password"), "{}", without.stderr);
    })
    .await;
}

#[tokio::test]
async fn a_replica_is_given_its_role() {
    let master = Server::start(newest(), &[]).await;
    let replica = Server::start(newest(), &["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
    let printed = init(&replica.url(), &[]).await;
    contains(&printed, &["    role: replica\n", ", replica, standalone\n"]);
    checked(&printed).await;
}

#[tokio::test]
async fn what_cannot_be_polled_prints_nothing_and_exits_as_check_does() {
    for (url, code, message) in [
        ("redis://127.0.0.1:1", 1, "cannot connect to 127.0.0.1:1"),
        ("redis://user:correct-horse@127.0.0.1:1", 1, "cannot connect to 127.0.0.1:1"),
        ("cache/2", 2, "--redis-url: not a URL"),
    ] {
        let failed = init(url, &[]).await;
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(code), ""), "{url}");
        assert!(failed.stderr.contains(message) && !failed.stderr.contains(PASSWORD), "{}", failed.stderr);
    }
}
