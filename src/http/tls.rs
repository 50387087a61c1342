//! TLS for clients. The files are read again when a client connects, at most once a second, so that certificates can be
//! replaced without a restart. Invalid new files change nothing.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use thiserror::Error as ThisError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::config::web::{ClientAuth, TlsServer, TlsVersion};
use redis_stream_core::clock::now;
use redis_stream_core::tls::{self, read};

/// Least time between two looks at the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The files of `web.tls_server_config` cannot be used.
#[derive(Debug, ThisError)]
#[error("web.tls_server_config: {0}")]
pub struct ServerTlsError(String);

/// A TLS acceptor whose certificates can be replaced.
#[derive(Debug)]
pub struct ServerTls {
    settings: TlsServer,
    current: Mutex<Current>,
}

struct Current {
    from: Files,
    config: Arc<ServerConfig>,
    checked_at: Instant,
    /// The current problem with the files; logged when it changes.
    problem: Option<String>,
}

/// The content of the files.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("problem", &self.problem).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file cannot be read or is invalid.
    pub fn new(settings: TlsServer) -> Result<Self, ServerTlsError> {
        let from = Files::read(&settings).map_err(ServerTlsError)?;
        let config = Arc::new(build(&settings, &from).map_err(ServerTlsError)?);
        let current = Current { from, config, checked_at: now(), problem: None };
        Ok(Self { settings, current: Mutex::new(current) })
    }

    /// Returns the settings.
    pub fn settings(&self) -> &TlsServer {
        &self.settings
    }

    /// Performs the handshake.
    pub(crate) async fn accept<S>(self: &Arc<Self>, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config().await).accept(stream).await
    }

    /// Returns the current configuration, at most a second old.
    async fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let now = now();
        let is_due = {
            let mut current = self.current();
            let is_due = now.saturating_duration_since(current.checked_at) >= CHECK_INTERVAL;
            if is_due {
                current.checked_at = now;
            }
            is_due
        };
        if is_due {
            let this = Arc::clone(self);
            // Fails only while the runtime shuts down.
            let _ = spawn_blocking(move || this.reload()).await;
        }
        Arc::clone(&self.current().config)
    }

    /// Reads the files, and uses them if they are valid.
    fn reload(&self) {
        let built = Files::read(&self.settings).and_then(|from| {
            let is_new = self.current().from != from;
            let config = if is_new { Some(build(&self.settings, &from)?) } else { None };
            Ok(config.map(|config| (from, config)))
        });
        let mut current = self.current();
        let problem = match built {
            Ok(None) => None,
            Ok(Some((from, config))) => {
                info!("reloaded the certificates of the HTTP server");
                (current.from, current.config) = (from, Arc::new(config));
                None
            }
            Err(error) => Some(error),
        };
        if let Some(error) = problem.as_ref().filter(|_| problem != current.problem) {
            warn!(error, "cannot use the new files of web.tls_server_config; keeping the old ones");
        }
        current.problem = problem;
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn read(settings: &TlsServer) -> Result<Self, String> {
        Ok(Self {
            cert: read(&settings.cert_file)?,
            key: read(&settings.key_file)?,
            client_ca: settings.client_ca_file.as_deref().map(read).transpose()?,
        })
    }
}

fn build(settings: &TlsServer, files: &Files) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let versions: Vec<&SupportedProtocolVersion> = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (settings.min_version..=settings.max_version).contains(version))
        .map(|(_, version)| version)
        .collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?;
    let builder = match client_verifier(settings.client_auth, files.client_ca.as_deref(), provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = tls::certificate(&files.cert, &files.key, "")?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("cert_file and key_file do not go together: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Returns the verifier of client certificates; `None` if none is requested.
fn client_verifier(
    client_auth: ClientAuth,
    authorities: Option<&[u8]>,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let accept_any = |is_mandatory| -> Option<Arc<dyn ClientCertVerifier>> {
        Some(Arc::new(AcceptAnyCertificate { provider: Arc::clone(&provider), is_mandatory }))
    };
    match client_auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::Request => return Ok(accept_any(false)),
        ClientAuth::RequireAny => return Ok(accept_any(true)),
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {}
    }
    let roots = tls::authorities(authorities.unwrap_or_default(), "client_ca_file")?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder =
        if client_auth == ClientAuth::VerifyIfGiven { builder.allow_unauthenticated() } else { builder };
    builder.build().map(Some).map_err(|error| error.to_string())
}

/// Accepts any certificate whose private key the client has.
#[derive(Debug)]
struct AcceptAnyCertificate {
    provider: Arc<CryptoProvider>,
    is_mandatory: bool,
}

impl ClientCertVerifier for AcceptAnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
