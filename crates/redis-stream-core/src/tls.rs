//! Secure connections to servers: those that are polled, and those that are told of alerts. The files of the
//! configuration are read for each connection, so that certificates may be rotated; what they amount to is kept as
//! long as they do not change.

use std::fs;
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

use crate::secret::quotable;

/// What is said where the certificate of a server is not looked at.
pub const SKIPPED: &str =
    "insecure_skip_verify: anybody may be the server, and read the password and change what is read";

/// How a server is known, and how we are to it. The files are read again when they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that are trusted; `None` is those of the system.
    pub ca_file: Option<PathBuf>,
    /// What we show of ourselves.
    pub certificate: Option<ClientCertificate>,
    /// The name that its certificate must be for; `None` is the host of the URL.
    pub server_name: Option<String>,
    /// Whether its certificate is looked at.
    pub verification: Verification,
}

/// A certificate of our own and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those that lead to its authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Whether the certificate of a server is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// It must be valid, and for the right name.
    #[default]
    Full,
    /// Anybody may be the server: `insecure_skip_verify`.
    Skipped,
}

/// Why a connection could not be made secure. No text holds anything of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file of the configuration is of no use.
    #[error("{0}")]
    File(
        /// Which one, and why.
        String,
    ),
    /// The other side is not who it must be, or does not speak TLS.
    #[error("{0}")]
    Handshake(
        /// What is wrong, the same as long as the cause is the same.
        String,
    ),
}

/// How TLS is spoken with one server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsContext {
    settings: Arc<Tls>,
    built: Arc<Mutex<Option<Built>>>,
}

#[derive(Debug)]
struct Built {
    from: Files,
    config: Arc<ClientConfig>,
}

/// What the files of the configuration hold.
#[derive(PartialEq, Eq)]
struct Files {
    authorities: Option<Vec<u8>>,
    /// Certificate and key.
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files([redacted])")
    }
}

impl TlsContext {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(settings: Tls) -> Self {
        Self { settings: Arc::new(settings), built: Arc::default() }
    }

    /// Makes a connection to `host` secure.
    ///
    /// # Errors
    ///
    /// A file cannot be used, or the other side is not who it must be.
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

    /// The configuration that fits the files as they are now. Reads files.
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let from = Files {
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

    fn build(&self, files: &Files) -> Result<ClientConfig, String> {
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
            Verification::Skipped => {
                versions.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
        };
        let Some((cert, key)) = &files.certificate else { return Ok(verified.with_no_client_auth()) };
        let (chain, key) = certificate(cert, key, "tls.")?;
        let fits = verified.with_client_auth_cert(chain, key);
        fits.map_err(|error| format!("tls.cert_file and tls.key_file do not go together: {error}"))
    }

    /// Whom to trust: those of the file, or those of the system.
    fn roots(&self, authorities: Option<&[u8]>) -> Result<RootCertStore, String> {
        if let Some(pem) = authorities {
            return self::authorities(pem, "tls.ca_file");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this system has no certificates of authorities; set tls.ca_file".to_owned());
        }
        Ok(roots)
    }
}

/// Reads a file of certificates, or with a key.
///
/// # Errors
///
/// It cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display().to_string();
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", quotable(&name)))
}

/// A certificate, with those that lead to its authority, and its key, from PEM. `section` stands before the names of
/// their files in messages: `tls.`, or nothing.
///
/// # Errors
///
/// One of them is not there.
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

/// Whom to trust, from PEM. `name` is that of the file in messages.
///
/// # Errors
///
/// There is none, or one that is of no use.
pub fn authorities(pem: &[u8], name: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| format!("{name} holds a certificate of no use: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{name} holds no certificate"));
    }
    Ok(roots)
}

/// What is wrong, the same as long as the cause is the same: some texts of the library hold the present time.
fn reason(error: &io::Error, name: &str) -> String {
    let fault = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(fault)) => fault,
        Some(Error::AlertReceived(alert)) => return complaint(*alert),
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
        // The second: by one of the same name as an authority that is.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of an authority that is not trusted".to_owned()
        }
        other => other.to_string(),
    }
}

/// What the other side complains of, where a connection that was secured breaks: with TLS 1.3 it looks at our
/// certificate only then.
#[must_use]
pub fn complaint_in(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => Some(complaint(*alert)),
        _ => None,
    }
}

fn complaint(alert: AlertDescription) -> String {
    let of_ours = match alert {
        AlertDescription::CertificateRequired => "wants a certificate of ours (tls.cert_file, tls.key_file)",
        AlertDescription::UnknownCA => "does not trust the authority of our certificate (tls.cert_file)",
        AlertDescription::CertificateExpired => "finds our certificate expired (tls.cert_file)",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "refuses our certificate (tls.cert_file)",
        // Before TLS 1.3 there is no other word for a missing certificate.
        AlertDescription::HandshakeFailure => {
            "refuses the handshake: it may want a certificate of ours (tls.cert_file, tls.key_file)"
        }
        other => return format!("it refuses TLS: {other:?}"),
    };
    format!("it {of_ours}")
}

/// Takes any certificate, if whoever shows it also has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
