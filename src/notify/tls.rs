//! Secure connections to receivers. The files of the configuration are read for each connection, so that
//! certificates may be rotated; what they amount to is kept as long as they do not change.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::notifiers::{Tls, Verification};
use crate::notify::error::NotifyError;
use crate::secret::quotable;

/// How TLS is spoken with one receiver. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct TlsContext {
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
    pub(super) fn new(settings: Tls) -> Self {
        Self { settings: Arc::new(settings), built: Arc::default() }
    }

    /// Makes a connection to `host` secure. `address` is how messages call it.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        address: &str,
    ) -> Result<TlsStream<TcpStream>, NotifyError> {
        let context = self.clone();
        let config = spawn_blocking(move || context.config()).await;
        let config = config.unwrap_or_else(|panic| Err(panic.to_string()));
        let config = config.map_err(|detail| NotifyError::File { detail })?;
        let name = self.settings.server_name.as_deref().unwrap_or(host).to_owned();
        let not_secure = |detail| NotifyError::Tls { address: address.to_owned(), detail };
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| not_secure(format!("{name:?} is no name of a host")))?;
        let connected = TlsConnector::from(config).connect(server_name, stream).await;
        connected.map_err(|error| not_secure(reason(&error, &name)))
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
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
        let chain = chain.map_err(|error| format!("tls.cert_file holds no certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("tls.key_file holds no private key: {error}"))?;
        let fits = verified.with_client_auth_cert(chain, key);
        fits.map_err(|error| format!("tls.cert_file and tls.key_file do not go together: {error}"))
    }

    /// Whom to trust: those of the file, or those of the system.
    fn roots(&self, authorities: Option<&[u8]>) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let added = certificate
                        .map_err(|error| error.to_string())
                        .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
                    added.map_err(|error| format!("tls.ca_file holds a certificate of no use: {error}"))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        match (roots.is_empty(), authorities) {
            (false, _) => Ok(roots),
            (true, Some(_)) => Err("tls.ca_file holds no certificate".to_owned()),
            (true, None) => Err("this system has no certificates of authorities; set tls.ca_file".to_owned()),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display().to_string();
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", quotable(&name)))
}

/// What is wrong, the same as long as the cause is the same: some texts of the library hold the present time.
fn reason(error: &io::Error, name: &str) -> String {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(fault)) = of_tls else { return error.to_string() };
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
