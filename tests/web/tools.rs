//! By the tools that people use: curl and openssl.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::config::ConfigFile;
use crate::support::peers;
use crate::support::program::{Exporter, Streamgauge, listening_address};
use crate::support::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// A folder of certificates: `ca.pem`, `own.pem` with `own.key`, `client.pem` with `client.key`.
struct Certificates {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Or openssl takes what it signs for signed by itself.
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let certificates = Self { folder: tempfile::tempdir().unwrap(), issuer };
        std::fs::write(certificates.path("ca.pem"), certificates.issuer.pem()).unwrap();
        certificates.sign("own", "localhost");
        certificates.sign("client", "somebody");
        certificates
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, file: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    /// The value of `web.tls_server_config`; `rest` is further keys.
    fn config(&self, rest: &str) -> String {
        let [cert, key] = ["own.pem", "own.key"].map(|name| self.path(name).display().to_string());
        format!("{{cert_file: '{cert}', key_file: '{key}'{rest}}}")
    }

    /// Returns the settings that verify clients.
    fn verifying(&self) -> String {
        let ca = self.path("ca.pem").display().to_string();
        format!(", client_ca_file: '{ca}', client_auth_type: RequireAndVerifyClientCert")
    }
}

/// An exporter with this under `web`. Nobody is polled.
async fn serving(web: &str) -> (ConfigFile, Exporter) {
    let file =
        ConfigFile::new(&format!("web: {{{web}}}\ntargets: [{{name: t, url: 'redis://127.0.0.1:1'}}]"));
    let exporter = file.serve().serving().await;
    (file, exporter)
}

/// Returns the output of a program; its standard error if it fails.
async fn run(program: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SOON, command.output()).await.expect("it ends in time").unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(err) }
}

/// The status that curl gets; with further arguments.
async fn status(curl: &Path, url: &str, args: &[&str]) -> Result<String, String> {
    let quiet = [
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
    ];
    run(curl, &[&quiet, args, &[url]].concat()).await
}

#[tokio::test]
async fn curl_is_let_in_with_the_right_password_only() {
    let Some(curl) = peers::find("curl") else { return };
    let hash = bcrypt::hash("a:b\u{e9}", 5).unwrap();
    let (_file, exporter) = serving(&format!("basic_auth_users: {{anna: '{hash}'}}")).await;
    let url = |path: &str| format!("http://{}{path}", exporter.address);
    for (user, expected) in
        [("anna:a:b\u{e9}", "200"), ("anna:a:b", "401"), ("anna:", "401"), ("bert:a:b\u{e9}", "401")]
    {
        for path in ["/metrics", "/", "/api/v1/alerts"] {
            assert_eq!(
                status(&curl, &url(path), &["--user", user]).await.unwrap(),
                expected,
                "{user} {path}"
            );
        }
    }
    for (path, expected) in
        [("/metrics", "401"), ("/nowhere", "401"), ("/-/reload", "401"), ("/-/healthy", "200")]
    {
        assert_eq!(status(&curl, &url(path), &[]).await.unwrap(), expected, "{path}");
    }
    let log = exporter.stderr();
    assert!(!log.contains(&hash) && !log.contains("a:b"), "{log}");
}

#[tokio::test]
async fn with_client_certificates_curl_needs_one_and_probes_have_their_own_address() {
    let Some(curl) = peers::find("curl") else { return };
    let certificates = Certificates::new();
    let tls = certificates.config(&certificates.verifying());
    let (_file, exporter) = serving(&format!("probe_listen: '127.0.0.1:0', tls_server_config: {tls}")).await;
    let port = exporter.address.port();
    let url = format!("https://localhost:{port}/metrics");
    let path = |name: &str| certificates.path(name).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let ours = ["--cacert", ca.as_str(), "--cert", cert.as_str(), "--key", key.as_str()];
    assert_eq!(status(&curl, &url, &ours).await.unwrap(), "200");
    assert!(status(&curl, &url, &ours[..2]).await.is_err(), "no certificate");
    let plain = format!("http://localhost:{port}/metrics");
    assert!(status(&curl, &plain, &[]).await.is_err(), "no TLS");

    let line = wait_for(SOON, "where probes are served", async || {
        let log = exporter.stderr();
        log.lines().find(|line| line.contains("serving probes")).map(str::to_owned).ok_or(log)
    })
    .await;
    let probes = listening_address(&line.replace("serving probes", "listening")).unwrap();
    for (path, expected) in [("/-/healthy", "200"), ("/-/ready", "200"), ("/metrics", "404"), ("/", "404")] {
        wait_until(SOON, path, async || {
            status(&curl, &format!("http://{probes}{path}"), &[]).await.unwrap() == expected
        })
        .await;
    }
    for (address, code) in [(probes, 0), (exporter.address, 1)] {
        let check = Streamgauge::command("healthcheck").args(["--listen", &address.to_string()]);
        let end = check.run().await;
        assert_eq!(end.code, Some(code), "{}", end.stderr);
        assert!(code == 0 || end.stderr.contains("web.probe_listen"), "{}", end.stderr);
    }
}

#[tokio::test]
async fn openssl_sees_the_certificate_of_the_day_and_the_versions_that_are_spoken() {
    let Some(openssl) = peers::find("openssl") else { return };
    let certificates = Certificates::new();
    let (_file, exporter) =
        serving(&format!("tls_server_config: {}", certificates.config(", min_version: TLS13"))).await;
    let address = exporter.address.to_string();
    let ca = certificates.path("ca.pem").display().to_string();
    let connect = async |name: &str, version: &str| {
        let fixed =
            ["s_client", "-connect", address.as_str(), "-CAfile", ca.as_str(), "-verify_return_error"];
        run(&openssl, &[fixed.as_slice(), &["-verify_hostname", name, version]].concat()).await
    };
    assert!(connect("localhost", "-tls1_3").await.unwrap().contains("Verify return code: 0 (ok)"));
    assert!(connect("localhost", "-tls1_2").await.is_err());
    let healthy = Streamgauge::command("healthcheck").args(["--listen", &address]).run().await;
    assert_eq!(healthy.code, Some(0), "over TLS, whatever the certificate: {}", healthy.stderr);

    // A file of no use is told of once, and changes nothing.
    std::fs::write(certificates.path("own.pem"), "no certificate").unwrap();
    let told = || exporter.stderr().matches("keeping the old ones").count();
    wait_until(SOON, "it is told of", async || {
        connect("localhost", "-tls1_3").await.unwrap();
        told() > 0
    })
    .await;
    certificates.sign("own", "other.example.com");
    wait_until(SOON, "the new one is shown", async || {
        let shown = connect("other.example.com", "-tls1_3").await;
        shown.is_ok_and(|text| text.contains("Verify return code: 0 (ok)"))
    })
    .await;
    wait_until(SOON, "that is logged", async || {
        exporter.stderr().contains("reloaded the certificates of the HTTP server")
    })
    .await;
    assert!((1..=2).contains(&told()), "once, or twice if only one of the two new files was there");
}

#[tokio::test]
async fn a_certificate_and_a_key_that_do_not_go_together_are_found_before_anything_is_served() {
    let certificates = Certificates::new();
    std::fs::copy(certificates.path("client.key"), certificates.path("own.key")).unwrap();
    let web = format!("web: {{tls_server_config: {}}}", certificates.config(""));
    let file = ConfigFile::new(&format!("{web}\ntargets: [{{url: 'redis://127.0.0.1:1'}}]"));
    for command in ["check", "serve"] {
        let run = if command == "serve" { file.serve() } else { file.command(command) };
        let end = run.run().await;
        assert_eq!(end.code, Some(2), "{command}: {}", end.stderr);
        let fault = "web.tls_server_config: cert_file and key_file do not go together";
        assert!(end.stderr.contains(fault), "{command}: {}", end.stderr);
    }
}
