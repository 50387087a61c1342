//! Receivers behind TLS, with certificates made for the test.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::date_time_ymd;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use streamgauge::notify::probe;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::alerts::{changed, firing};
use crate::fixture::{config, notifying};
use crate::support::alertmanager::{Alertmanager, SILENT};
use crate::support::certificates::{Authority, Signed};

/// TLS before a server that does not speak it; gone when this is dropped.
struct Terminator {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Terminator {
    async fn before(server: SocketAddr, shown: &Signed) -> Self {
        let chain = CertificateDer::pem_slice_iter(shown.cert.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut secured = acceptor.accept(stream).await?;
                    copy_bidirectional(&mut secured, &mut TcpStream::connect(server).await?).await
                });
            }
        });
        Self { address, task }
    }

    /// A notifier of this name, with these keys under `tls`.
    fn notifier(&self, name: &str, tls: &str) -> String {
        let port = self.address.port();
        format!("{{name: {name}, alertmanager: {{urls: ['https://localhost:{port}'], tls: {{{tls}}}}}}}")
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_certificate_must_be_valid_of_a_known_authority_and_for_the_right_name() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let [authority, impostor, stranger] = ["authority", "authority", "stranger"].map(Authority::new);
    let good = authority.sign("localhost", |_| {});
    let misnamed = authority.sign("other.example.com", |_| {});
    let expired = authority.sign("localhost", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = authority.sign("localhost", |params| params.not_before = date_time_ymd(4000, 1, 1));
    let [forged, foreign] = [impostor, stranger].map(|authority| authority.sign("localhost", |_| {}));
    let ca = format!("ca_file: '{}'", authority.file());
    let named = format!("{ca}, server_name: other.example.com");
    let insecure = "insecure_skip_verify: true".to_owned();
    let taken = "";
    for (shown, tls, said) in [
        (&good, &ca, taken),
        (&misnamed, &named, taken),
        (&misnamed, &insecure, taken),
        (&expired, &insecure, taken),
        (&foreign, &insecure, taken),
        (&misnamed, &ca, "its certificate is not for localhost"),
        (&good, &named, "its certificate is not for other.example.com"),
        (&expired, &ca, "its certificate has expired"),
        (&early, &ca, "its certificate is not valid yet"),
        (&forged, &ca, "its certificate is of an authority that is not trusted"),
        (&foreign, &ca, "its certificate is of an authority that is not trusted"),
    ] {
        let terminator = Terminator::before(alertmanager.process.address(), shown).await;
        // A probe has the same outcome.
        let reached = probe(&config(&terminator.notifier("main", tls)).alerts.notifiers[0]).await;
        match &reached[..] {
            [Ok(address)] => {
                assert!(said == taken && address.starts_with("https://localhost:"));
            }
            [Err(problem)] => assert!(said != taken && problem.contains(said), "{problem}"),
            other => panic!("{other:?}"),
        }
        let running = notifying(&terminator.notifier("main", tls));
        running.send(&[changed(&firing("mail"))]);
        if said == taken {
            running.until_counted("main", "delivered", 1.0).await;
            assert_eq!(running.counted("main", "failed"), 0.0, "{tls}: {}", running.log());
            assert_eq!(alertmanager.groups().await, ["mail"]);
        } else {
            running.until_counted("main", "failed", 3.0).await;
            assert_eq!(running.counted("main", "delivered"), 0.0, "{said}");
            assert_eq!(running.log().matches("cannot notify; trying again").count(), 1, "{}", running.log());
            assert!(running.log().contains(said), "{said}: {}", running.log());
        }
        assert_eq!(running.log().contains("any host can pose as the receiver"), *tls == insecure);
    }
}

#[tokio::test]
async fn an_unknown_authority_is_not_trusted_by_default() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let authority = Authority::new("authority");
    let terminator =
        Terminator::before(alertmanager.process.address(), &authority.sign("localhost", |_| {})).await;
    let running = notifying(&terminator.notifier("main", ""));
    running.send(&[changed(&firing("mail"))]);
    running.until_counted("main", "failed", 2.0).await;
    let log = running.log();
    // The second, on a machine that has no certificates at all.
    let refused = ["of an authority that is not trusted", "this system has no certificates of authorities"];
    assert!(refused.iter().any(|said| log.contains(said)), "{log}");
    assert!(alertmanager.alerts().await.is_empty());
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_tls_is_logged() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let port = alertmanager.process.address().port();
    let running = notifying(&format!(
        "{{name: main, alertmanager: {{urls: ['https://localhost:{port}'], tls: {{insecure_skip_verify: true}}}}}}"
    ));
    running.send(&[changed(&firing("mail"))]);
    running.until_counted("main", "failed", 1.0).await;
    assert!(running.log().contains("no TLS with localhost:"), "{}", running.log());
}

#[tokio::test]
async fn alertmanager_s_own_tls_wants_our_certificate_and_files_are_read_again() {
    let authority = Authority::new("authority");
    let server = authority.sign("localhost", |_| {});
    let client = authority.sign("streamgauge", |_| {});
    let stranger = Authority::new("stranger").sign("streamgauge", |_| {});
    let ca = authority.file();
    let [cert, key] = [("server.pem", &server.cert), ("server.key", &server.key)]
        .map(|(name, text)| authority.put(name, text).display().to_string());
    let web = format!(
        "tls_server_config: {{cert_file: '{cert}', key_file: '{key}', client_ca_file: '{ca}', client_auth_type: RequireAndVerifyClientCert}}"
    );
    let Some(alertmanager) = Alertmanager::with(SILENT) else { return };
    let mut alertmanager = alertmanager.guarded(&web, &[]);
    alertmanager.launch().await;

    let put = |signed: &Signed| {
        ["client.pem", "client.key"].map(|name| {
            let text = if name.ends_with("key") { &signed.key } else { &signed.cert };
            authority.put(name, text).display().to_string()
        })
    };
    let [cert, key] = put(&stranger);
    let list = |name: &str, own: &str| {
        let port = alertmanager.process.address().port();
        format!(
            "{{name: {name}, alertmanager: {{urls: ['https://localhost:{port}'], tls: {{ca_file: '{ca}'{own}}}}}}}"
        )
    };
    let own = format!(", cert_file: '{cert}', key_file: '{key}'");
    let running = notifying(&format!("{}, {}", list("with", &own), list("without", "")));
    running.send(&[changed(&firing("mail"))]);
    for notifier in ["with", "without"] {
        running.until_counted(notifier, "failed", 2.0).await;
        assert_eq!(running.counted(notifier, "delivered"), 0.0, "{notifier}");
    }
    authority.put("client.key", &client.key);
    let mixed = "tls.cert_file and tls.key_file do not go together";
    let logged = async || running.log().contains(mixed);
    crate::support::wait::wait_until(crate::fixture::SOON, mixed, logged).await;
    put(&client);
    running.until_counted("with", "delivered", 1.0).await;
    assert_eq!(running.counted("without", "delivered"), 0.0);
    assert!(!running.log().contains("PRIVATE"), "{}", running.log());
}
