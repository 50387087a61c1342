//! TLS towards clients, with certificates made for the test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use streamgauge::config::web::{ClientAuth, TlsServer, TlsVersion};
use streamgauge::http::access::AccessControl;
use streamgauge::http::limits::ServerLimits;
use streamgauge::http::tls::ServerTls;
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::client::{Client, Server, fine, generous, within_deadline};

/// An authority of our own, and a folder for what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, in PEM.
struct Signed {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        authority.put("ca.pem", &authority.issuer.pem());
        authority.show(&authority.sign("localhost"));
        authority
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Signed { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Puts a certificate where the server reads its own.
    fn show(&self, signed: &Signed) {
        self.put("own.pem", &signed.cert);
        self.put("own.key", &signed.key);
    }

    fn settings(&self, client_auth: ClientAuth) -> TlsServer {
        TlsServer {
            cert_file: self.folder.path().join("own.pem"),
            key_file: self.folder.path().join("own.key"),
            client_auth,
            client_ca_file: client_auth.verifies().then(|| self.folder.path().join("ca.pem")),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        }
    }

    /// A client that trusts this authority, and shows a certificate or none.
    fn client(&self, own: Option<&Signed>, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.cert.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

fn serving(settings: TlsServer) -> Server {
    let access = AccessControl { tls: Some(Arc::new(ServerTls::new(settings).unwrap())), users: None };
    Server::behind(access, fine(), generous())
}

/// Sends a request over a new connection, and returns the status.
async fn get(server: &Server, connector: &TlsConnector, name: &'static str) -> Result<u16, String> {
    let name = ServerName::try_from(name).unwrap();
    let connected = within_deadline(connector.connect(name, server.dial().await)).await;
    let mut client = Client::over(connected.map_err(|error| error.to_string())?);
    // In TLS 1.3 a client learns with the first answer that its certificate is not wanted.
    client
        .try_send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .await
        .map_err(|e| e.to_string())?;
    let answer = client.rest().await.map_err(|error| error.to_string())?;
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|code| code.parse().ok());
    status.ok_or_else(|| "closed".to_owned())
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

#[tokio::test]
async fn clients_are_served_in_the_versions_that_are_allowed() {
    let authority = Authority::new();
    for (min, max, by_12, by_13) in [
        (TlsVersion::Tls12, TlsVersion::Tls13, true, true),
        (TlsVersion::Tls12, TlsVersion::Tls12, true, false),
        (TlsVersion::Tls13, TlsVersion::Tls13, false, true),
    ] {
        let settings =
            TlsServer { min_version: min, max_version: max, ..authority.settings(ClientAuth::None) };
        let server = serving(settings);
        for (version, is_served) in [(&TLS12, by_12), (&TLS13, by_13)] {
            let status = get(&server, &authority.client(None, &[version]), "localhost").await;
            assert_eq!(
                status.is_ok_and(|status| status == 200),
                is_served,
                "{version:?} of {min:?} to {max:?}"
            );
        }
    }
}

#[tokio::test]
async fn each_kind_of_client_authentication_lets_in_whom_it_says() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (known, stranger) = (authority.sign("client"), other.sign("client"));
    for (client_auth, without, by_stranger) in [
        (ClientAuth::None, true, true),
        (ClientAuth::Request, true, true),
        (ClientAuth::RequireAny, false, true),
        (ClientAuth::VerifyIfGiven, true, false),
        (ClientAuth::RequireAndVerify, false, false),
    ] {
        let server = serving(authority.settings(client_auth));
        for version in BOTH {
            let cases = [(None, without), (Some(&known), true), (Some(&stranger), by_stranger)];
            for (own, is_served) in cases {
                let status = get(&server, &authority.client(own, &[version]), "localhost").await;
                let case = format!("{client_auth:?} {version:?} {}", own.is_some());
                assert_eq!(
                    status.as_ref().is_ok_and(|status| *status == 200),
                    is_served,
                    "{case}: {status:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart() {
    let authority = Authority::new();
    let server = serving(authority.settings(ClientAuth::None));
    let client = authority.client(None, BOTH);
    assert_eq!(get(&server, &client, "localhost").await, Ok(200));
    authority.show(&authority.sign("other.example.com"));
    within_deadline(async {
        while get(&server, &client, "other.example.com").await != Ok(200) {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(get(&server, &client, "localhost").await.is_err(), "the old one is gone");
}

#[test]
fn files_of_no_use_are_refused_at_the_start() {
    let authority = Authority::new();
    let refused = |change: &dyn Fn(&mut TlsServer)| {
        let mut settings = authority.settings(ClientAuth::RequireAndVerify);
        change(&mut settings);
        ServerTls::new(settings).unwrap_err().to_string()
    };
    let of_another = authority.put("other.key", &authority.sign("other").key);
    let message = refused(&|settings| settings.key_file.clone_from(&of_another));
    assert!(message.contains("cert_file and key_file do not go together"), "{message}");
    let message = refused(&|settings| settings.cert_file = "/nowhere/own.pem".into());
    assert!(message.contains("cannot read /nowhere/own.pem"), "{message}");
    let empty = authority.put("empty.pem", "");
    let message = refused(&|settings| settings.client_ca_file = Some(empty.clone()));
    assert!(message.contains("client_ca_file holds no certificate"), "{message}");
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_loses_its_place() {
    let authority = Authority::new();
    let tls = ServerTls::new(authority.settings(ClientAuth::None)).unwrap();
    let access = AccessControl { tls: Some(Arc::new(tls)), users: None };
    let limits = ServerLimits { connections: 1, handshake: Duration::from_millis(500), ..generous() };
    let server = Server::behind(access, fine(), limits);
    let mut silent = server.connect().await;
    silent.closed().await;
    let mut plain = server.connect().await;
    plain.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let answer = plain.rest().await.unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP/"), "no answer without TLS");
    assert_eq!(get(&server, &authority.client(None, BOTH), "localhost").await, Ok(200));
}
