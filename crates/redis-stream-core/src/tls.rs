//! TLS connections to servers. The configured files are read for each connection, so that certificates can be rotated
//! without a restart; the TLS configuration built from them is reused while they do not change.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::file::{self, FileKind};
use crate::secret::redact;

/// Warning for a server whose certificate is not verified.
pub const SKIPPED: &str =
    "insecure_skip_verify: any host can pose as the server, read the password and change replies";

/// Client TLS settings: trusted authorities, client certificate, server name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificates of trusted authorities; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// Certificate that the client presents; `None` for no client authentication.
    pub certificate: Option<ClientCertificate>,
    /// Name that the server's certificate must be for; `None` for the host of the URL.
    pub server_name: Option<String>,
    /// Verification of the server's certificate.
    pub verification: Verification,
}

/// PEM files of a client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by its chain of issuers.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// Verification of a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// The certificate must be valid, trusted and for the right name.
    #[default]
    Full,
    /// Any certificate is accepted (`insecure_skip_verify`), so the server may be anyone's.
    Skipped,
}

/// An error while securing a connection. Messages contain nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A configured file cannot be read or used.
    #[error("{0}")]
    File(
        /// The file and the reason.
        String,
    ),
    /// The peer was not authenticated, refused the client, or does not speak TLS.
    #[error("{0}")]
    Handshake(
        /// The reason. The same cause always gives the same text, so that it is logged only when it changes.
        String,
    ),
}

/// Secures connections with one set of settings. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsContext {
    settings: Arc<Tls>,
    built: Arc<Mutex<Option<Built>>>,
}

#[derive(Debug)]
struct Built {
    from: TlsFiles,
    config: Arc<ClientConfig>,
}

/// Contents of the configured files.
#[derive(PartialEq, Eq)]
struct TlsFiles {
    authorities: Option<Vec<u8>>,
    /// Certificate and key.
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsFiles([redacted])")
    }
}

impl TlsContext {
    /// Creates a context. The files are read when a connection is made.
    #[must_use]
    pub fn new(settings: Tls) -> Self {
        Self { settings: Arc::new(settings), built: Arc::default() }
    }

    /// Runs the TLS handshake over a connection to `host`.
    ///
    /// # Errors
    ///
    /// A configured file cannot be used, or the handshake fails.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, TlsError> {
        let context = self.clone();
        let config = spawn_blocking(move || context.config()).await;
        let config = config.unwrap_or_else(|panic| Err(panic.to_string())).map_err(TlsError::File)?;
        let name = self.settings.server_name.as_deref().unwrap_or(host).to_owned();
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| TlsError::Handshake(format!("{name:?} is no name of a host")))?;
        let connected = TlsConnector::from(config).connect(server_name, stream).await;
        connected.map_err(|error| TlsError::Handshake(reason(&error, &name)))
    }

    /// Returns the configuration for the present contents of the files, built only if they changed. Blocks on reading
    /// them.
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let from = TlsFiles {
            authorities: self.settings.ca_file.as_deref().map(read).transpose()?,
            certificate: match &self.settings.certificate {
                Some(own) => Some((read(&own.cert_file)?, read(&own.key_file)?)),
                None => None,
            },
        };
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = built.as_ref().filter(|built| built.from == from) {
            return Ok(Arc::clone(&built.config));
        }
        let config = Arc::new(self.build(&from)?);
        *built = Some(Built { from, config: Arc::clone(&config) });
        Ok(config)
    }

    fn build(&self, files: &TlsFiles) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let verified = match self.settings.verification {
            Verification::Full => {
                let roots = Arc::new(self.roots(files.authorities.as_deref())?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider);
                versions.with_webpki_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
            Verification::Skipped => versions
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(SkipServerVerification(provider))),
        };
        let Some((cert, key)) = &files.certificate else { return Ok(verified.with_no_client_auth()) };
        let (chain, key) = certificate(cert, key, "tls.")?;
        let fits = verified.with_client_auth_cert(chain, key);
        fits.map_err(|error| format!("tls.cert_file and tls.key_file do not go together: {error}"))
    }

    /// Returns the trusted authorities, of the file or of the system.
    fn roots(&self, authorities: Option<&[u8]>) -> Result<RootCertStore, String> {
        if let Some(pem) = authorities {
            return self::authorities(pem, "tls.ca_file");
        }
        check_system_file()?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this system has no certificates of authorities; set tls.ca_file".to_owned());
        }
        Ok(roots)
    }
}

/// Checks the file with the authorities of the system that `SSL_CERT_FILE` names. What looks them up would block on a FIFO,
/// and read a device until the memory is full. A file that is missing is left to it.
fn check_system_file() -> Result<(), String> {
    let Some(path) = env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) else { return Ok(()) };
    let path = Path::new(&path);
    match file::read(path, FileKind::SystemAuthorities) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("SSL_CERT_FILE: cannot read {}: {error}", redact(&path.display().to_string())))
        }
        _ => Ok(()),
    }
}

/// Reads a file with certificates or a key.
///
/// # Errors
///
/// A message that names the file, if it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display().to_string();
    file::read(path, FileKind::Certificate).map_err(|error| format!("cannot read {}: {error}", redact(&name)))
}

/// Parses a certificate with its chain, and its key, from PEM. Messages name the settings `cert_file` and `key_file`
/// with `section` before them, such as `tls.`.
///
/// # Errors
///
/// One of them contains no certificate or no key.
pub fn certificate(
    cert: &[u8],
    key: &[u8],
    section: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|error| format!("{section}cert_file holds no certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("{section}key_file holds no private key: {error}"))?;
    Ok((chain, key))
}

/// Parses trusted authorities from PEM. `name` is the name of the file's setting in messages.
///
/// # Errors
///
/// There is no certificate, or an invalid one.
pub fn authorities(pem: &[u8], name: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| format!("{name} holds a certificate that cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{name} holds no certificate"));
    }
    Ok(roots)
}

/// Returns the reason of a failed handshake. Some texts of rustls contain the present time; these are replaced, so that
/// the same cause always gives the same text.
fn reason(error: &io::Error, name: &str) -> String {
    let fault = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(fault)) => fault,
        Some(Error::AlertReceived(alert)) => return alert_text(*alert),
        Some(Error::InvalidMessage(_)) => return "it does not speak TLS".to_owned(),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            return "it closed the connection; does it speak TLS?".to_owned();
        }
        _ => return error.to_string(),
    };
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for {name}")
        }
        // A bad signature: the issuer has the name of a trusted authority, but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of an authority that is not trusted".to_owned()
        }
        CertificateError::Other(source) if source.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority (CA:TRUE), as self-signed ones often are, which is not accepted; \
             issue a certificate for the server, or set tls.insecure_skip_verify"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// Returns an explanation if `error` carries a TLS alert of the peer. With TLS 1.3 a server verifies the client's
/// certificate after the handshake, so its alert arrives while reading or writing.
#[must_use]
pub fn explain_alert(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => Some(alert_text(*alert)),
        _ => None,
    }
}

fn alert_text(alert: AlertDescription) -> String {
    let of_ours = match alert {
        AlertDescription::CertificateRequired => {
            "requires a client certificate (tls.cert_file, tls.key_file)"
        }
        AlertDescription::UnknownCA => {
            "does not trust the authority of the client certificate (tls.cert_file)"
        }
        AlertDescription::CertificateExpired => {
            "refuses the client certificate, which has expired (tls.cert_file)"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "refuses the client certificate (tls.cert_file)",
        // Before TLS 1.3 there is no specific alert for a missing certificate.
        AlertDescription::HandshakeFailure => {
            "refuses the handshake: it may require a client certificate (tls.cert_file, tls.key_file)"
        }
        other => return format!("it refuses TLS: {other:?}"),
    };
    format!("it {of_ours}")
}

/// Accepts any certificate, but verifies that the server has its key.
#[derive(Debug)]
struct SkipServerVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for SkipServerVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
