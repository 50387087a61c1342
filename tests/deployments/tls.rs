//! Servers behind TLS, which want a certificate of ours, and a user of the ACL.

use rcgen::date_time_ymd;

use crate::support::certificates::{Authority, Signed};
use crate::support::config::{ConfigFile, QUICK};
use crate::support::program::Streamgauge;
use crate::support::series::{errors, group, up};
use crate::support::server::{Server, free_port};
use crate::support::servers::{Program, with_tls};
use crate::support::watch::{
    RECOVERY, assert_told, is_up, keeps_failing, until_metrics, until_within, with_streams,
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
        let mut talk = with_streams(&server).await;
        talk.tell("ACL SETUSER mon reset on >pw ~* +xinfo +xpending +xrange +scan +time").await;
        // The port in clear was for the test alone.
        talk.tell("CONFIG SET port 0").await;
        Self { authority, server, port }
    }

    /// A target with this user, and these keys under `tls`.
    fn target(&self, user: &str, tls: &str) -> String {
        format!("{{name: t, url: 'rediss://{user}@localhost:{}', tls: {{{tls}}}}}", self.port)
    }
}

/// The files of a certificate and its key.
fn own(authority: &Authority, name: &str, signed: &Signed) -> (String, String) {
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
        assert_told(&exporter, "cannot", 0).await;
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
        (ca.clone(), "it wants a certificate of ours (tls.cert_file, tls.key_file)"),
        (format!("{ca}{}", with(&expired)), "it finds our certificate expired (tls.cert_file)"),
        (
            format!("{ca}{}", with(&foreign)),
            "it does not trust the authority of our certificate (tls.cert_file)",
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
        let warned = checked.stderr.contains("anybody may be the server");
        assert_eq!(warned, tls.contains("insecure"), "{}", checked.stderr);
    }
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
    assert_told(&exporter, "does it speak TLS?", 1).await;
}

#[tokio::test]
async fn the_workload_speaks_tls_too() {
    let newest = with_tls().pop().expect("there is one");
    let authority = Authority::new("authority");
    let (cert, key) = own(&authority, "server", &authority.sign("localhost", |_| {}));
    let (port, ca) = (free_port(), authority.file());
    let tls_port = port.to_string();
    let args = ["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let server = Server::start(newest, &[&args[..], &["--tls-auth-clients", "no"]].concat()).await;
    let url = format!("rediss://localhost:{port}");
    let produced = Streamgauge::command("produce")
        .args(["--redis-url", &url, "--stream", "s", "--count", "7", "--rate", "0"])
        // Where the system looks for its authorities.
        .env("SSL_CERT_FILE", &ca)
        .run()
        .await;
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    assert_eq!(server.command::<u64>(&["XLEN", "s"]).await, 7);
    drop(server);
}
