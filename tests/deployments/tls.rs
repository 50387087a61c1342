//! Servers behind TLS, which require a client certificate, and a user of the ACL.

use rcgen::{BasicConstraints, CertificateParams, IsCa, date_time_ymd};

use crate::support::certificates::{Authority, Signed};
use crate::support::config::{ConfigFile, QUICK};
use crate::support::program::Streamgauge;
use crate::support::series::{errors, group, up};
use crate::support::server::{Server, free_port};
use crate::support::servers::{Program, with_tls};
use crate::support::wait::wait_until;
use crate::support::watch::{
    RECOVERY, assert_logged, is_up, keeps_failing, until_metrics, until_within, with_streams,
};

/// A server that speaks TLS only, to those alone who show a certificate of the authority.
struct Secured {
    authority: Authority,
    server: Server,
    port: u16,
}

impl Secured {
    async fn start(program: &'static Program) -> Self {
        let authority = Authority::new("authority");
        let shown = authority.sign("localhost", |_| {});
        let port = free_port();
        let (cert, key) = own(&authority, "server", &shown);
        let ca = authority.file();
        let tls_port = port.to_string();
        let args = [
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
        ];
        let server = Server::start(program, &args).await;
        let mut client = with_streams(&server).await;
        client.run("ACL SETUSER mon reset on >pw ~* +xinfo +xpending +xrange +scan +time").await;
        // The port in clear was for the test alone.
        client.run("CONFIG SET port 0").await;
        Self { authority, server, port }
    }

    /// A target with this user, and these keys under `tls`.
    fn target(&self, user: &str, tls: &str) -> String {
        format!("{{name: t, url: 'rediss://{user}@localhost:{}', tls: {{{tls}}}}}", self.port)
    }
}

/// The files of a certificate and its key.
pub(crate) fn own(authority: &Authority, name: &str, signed: &Signed) -> (String, String) {
    let put = |end: &str, text: &str| authority.put(&format!("{name}.{end}"), text).display().to_string();
    (put("pem", &signed.cert), put("key", &signed.key))
}

#[tokio::test]
async fn a_server_that_speaks_tls_only_is_polled_with_a_certificate_of_ours_and_a_user() {
    for program in with_tls() {
        let secured = Secured::start(program).await;
        let client = secured.authority.sign("streamgauge", |_| {});
        let (cert, key) = own(&secured.authority, "client", &client);
        let tls = format!("ca_file: '{}', cert_file: '{cert}', key_file: '{key}'", secured.authority.file());
        let config = ConfigFile::new(&format!("{QUICK}targets: [{}]", secured.target("mon:pw", &tls)));
        let exporter = config.serve().serving().await;
        let found = until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
        assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0, "{program}");
        let node = format!(r#"streamgauge_node_up{{node="localhost:{}",target="t"}}"#, secured.port);
        assert_eq!(found[&node], 1.0);
        assert_eq!(found[&errors("tls")], 0.0);
        assert_logged(&exporter, "cannot", 0).await;
        let checked = config.command("check").run().await;
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        assert!(checked.stdout.contains("streams  2 (a, b)"), "{}", checked.stdout);
        drop(secured.server);
    }
}

#[tokio::test]
async fn check_says_in_clear_words_what_is_wrong_with_a_certificate() {
    let newest = with_tls().pop().expect("there is one");
    let secured = Secured::start(newest).await;
    let ca = format!("ca_file: '{}'", secured.authority.file());
    let client = own(&secured.authority, "client", &secured.authority.sign("streamgauge", |_| {}));
    let expired =
        secured.authority.sign("streamgauge", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let expired = own(&secured.authority, "expired", &expired);
    let stranger = Authority::new("stranger");
    let foreign = own(&stranger, "client", &stranger.sign("streamgauge", |_| {}));
    let with = |(cert, key): &(String, String)| format!(", cert_file: '{cert}', key_file: '{key}'");
    let not_trusted = "its certificate is of an authority that is not trusted";
    for (tls, said) in [
        (format!("{ca}{}", with(&client)), ""),
        (ca.clone(), "it requires a client certificate (tls.cert_file, tls.key_file)"),
        (
            format!("{ca}{}", with(&expired)),
            "it refuses the client certificate, which has expired (tls.cert_file)",
        ),
        (
            format!("{ca}{}", with(&foreign)),
            "it does not trust the authority of the client certificate (tls.cert_file)",
        ),
        (format!("ca_file: '{}'", stranger.file()), not_trusted),
        (format!("{ca}, server_name: other.example.com"), "its certificate is not for other.example.com"),
        (format!("insecure_skip_verify: true{}", with(&client)), ""),
    ] {
        let config = ConfigFile::new(&format!("targets: [{}]", secured.target("mon:pw", &tls)));
        // The server closes the connection as soon as it has said why, and that word can be lost with it.
        let mut checked = config.command("check").run().await;
        for _ in 0..20 {
            if checked.stdout.contains(said) {
                break;
            }
            checked = config.command("check").run().await;
        }
        assert_eq!(checked.code, Some(i32::from(!said.is_empty())), "{tls}: {}", checked.stdout);
        assert!(checked.stdout.contains(said), "{said}: {}", checked.stdout);
        let warned = checked.stdout.contains("any host can pose as the server");
        assert_eq!(warned, tls.contains("insecure"), "{}", checked.stdout);
    }
}

#[tokio::test]
async fn check_tells_a_self_signed_certificate_and_a_url_without_tls() {
    let newest = with_tls().pop().expect("there is one");
    let authority = Authority::new("authority");
    let of_authority =
        |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (cert, key) = own(&authority, "server", &authority.sign("localhost", of_authority));
    let (ca, port) = (authority.file(), free_port().to_string());
    let args =
        ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let args = [&args[..], &["--tls-ca-cert-file", &ca]].concat();
    let server = Server::start(newest, &args).await;
    let check = |url: String| Streamgauge::command("check").args(["--redis-url".to_owned(), url]);
    let secured = check(format!("rediss://localhost:{port}")).args(["--redis-tls-ca-file", &ca]).run().await;
    assert_eq!(secured.code, Some(1), "{secured:?}");
    assert!(secured.stdout.contains("its certificate is that of an authority (CA:TRUE)"), "{secured:?}");
    let plain = check(format!("redis://localhost:{port}")).run().await;
    assert_eq!(plain.code, Some(1), "{plain:?}");
    assert!(plain.stdout.contains("rediss://"), "{plain:?}");
    let tls = check(format!("rediss://{}", server.address())).args(["--redis-tls-ca-file", &ca]).run().await;
    assert!(
        tls.stdout.contains("does it speak TLS?") || tls.stdout.contains("does not speak TLS"),
        "{tls:?}"
    );
}

#[tokio::test]
async fn certificates_are_read_again_for_each_connection_and_faults_are_counted() {
    let newest = with_tls().pop().expect("there is one");
    let secured = Secured::start(newest).await;
    let stranger = Authority::new("stranger");
    let (cert, key) = own(&secured.authority, "client", &stranger.sign("streamgauge", |_| {}));
    let tls = format!("ca_file: '{}', cert_file: '{cert}', key_file: '{key}'", secured.authority.file());
    let config = ConfigFile::new(&format!("{QUICK}targets: [{}]", secured.target("mon:pw", &tls)));
    let exporter = config.serve().serving().await;
    until_metrics(&exporter, "the server refuses it", |metrics| {
        assert!(!is_up(metrics));
        metrics[&errors("tls")] >= 3.0
    })
    .await;
    own(&secured.authority, "client", &secured.authority.sign("streamgauge", |_| {}));
    until_within(RECOVERY, &exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
    assert!(!exporter.stderr().contains("PRIVATE"), "{}", exporter.stderr());
}

#[tokio::test]
async fn a_server_in_clear_behind_a_secured_url_is_said() {
    let server = Server::start(crate::support::servers::newest(), &[]).await;
    let config = ConfigFile::new(&format!(
        "{QUICK}targets: [{{name: t, url: 'rediss://localhost:{}', tls: {{insecure_skip_verify: true}}}}]",
        server.port()
    ));
    let exporter = config.serve().serving().await;
    keeps_failing(&exporter, "tls").await;
    assert_logged(&exporter, "does it speak TLS?", 1).await;
}

/// A command with the URL of the server, and what it is known by as far as it is told.
fn command(name: &str, secured: &Secured, tls: &[&str]) -> Streamgauge {
    let url = format!("rediss://localhost:{}", secured.port);
    Streamgauge::command(name).args(["--redis-url", &url, "--stream", "s"]).args(tls)
}

#[tokio::test]
async fn commands_are_told_by_flags_what_a_file_tells_the_exporter() {
    let newest = with_tls().pop().expect("there is one");
    let secured = Secured::start(newest).await;
    let (cert, key) = own(&secured.authority, "client", &secured.authority.sign("client", |_| {}));
    let ca = secured.authority.file();
    let own = ["--redis-tls-cert-file", &cert, "--redis-tls-key-file", &key];
    let known = [&own[..], &["--redis-tls-ca-file", &ca]].concat();
    let unverified = [&own[..], &["--redis-tls-insecure-skip-verify"]].concat();

    let produced = command("produce", &secured, &known).args(["--count", "4", "--rate", "0"]).run().await;
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    assert!(!produced.stderr.contains("any host can pose as the server"), "{}", produced.stderr);
    let produced =
        command("produce", &secured, &unverified).args(["--count", "3", "--rate", "0"]).run().await;
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    assert_eq!(produced.stderr.matches("any host can pose as the server").count(), 1, "{}", produced.stderr);

    let group = ["--group", "g", "--consumer", "one"];
    let consuming = command("consume", &secured, &known).args(group).args(["--fail-rate", "1"]).spawn();
    wait_until(RECOVERY, "all are pending", async || {
        let listed = command("pending", &secured, &known).args(group).run().await;
        listed.stdout.contains("7 of 7 pending entries are shown")
    })
    .await;
    let ended = consuming.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let listed = command("pending", &secured, &unverified).args(group).run().await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stderr.contains("any host can pose as the server"), "{}", listed.stderr);

    // The exporter's commands take the same flags.
    let checked = command("check", &secured, &known).run().await;
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    assert!(checked.stdout.contains("streams  1 (s)"), "{}", checked.stdout);
}

#[tokio::test]
async fn commands_say_in_clear_words_what_is_wrong_with_a_certificate() {
    let newest = with_tls().pop().expect("there is one");
    let secured = Secured::start(newest).await;
    let ca = secured.authority.file();
    let other = ["--redis-tls-ca-file", &ca, "--redis-tls-server-name", "other.example.com"];
    let said = "its certificate is not for other.example.com";
    let pending = command("pending", &secured, &other).args(["--group", "g"]).run().await;
    assert_eq!(pending.code, Some(1));
    assert!(pending.stderr.contains(said), "{}", pending.stderr);
    // A certificate may be mended while they wait.
    let waiting = command("produce", &secured, &other).args(["--count", "1"]).spawn();
    wait_until(RECOVERY, "it is said", async || waiting.stderr().contains(said)).await;
    drop(waiting);
    let half = ["--redis-tls-cert-file", ca.as_str()];
    let refused = command("consume", &secured, &half).args(["--group", "g"]).run().await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--redis-tls-key-file"), "{}", refused.stderr);
}

#[tokio::test]
async fn without_a_word_of_it_the_authorities_of_the_system_count() {
    let newest = with_tls().pop().expect("there is one");
    let secured = Secured::start(newest).await;
    let (cert, key) = own(&secured.authority, "client", &secured.authority.sign("client", |_| {}));
    let produced =
        command("produce", &secured, &["--redis-tls-cert-file", &cert, "--redis-tls-key-file", &key])
            .args(["--count", "1"])
            // Where the system looks for its authorities.
            .env("SSL_CERT_FILE", secured.authority.file())
            .run()
            .await;
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
}
