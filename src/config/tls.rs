//! Reads `tls`, the client TLS settings: trusted CAs, server name, client certificate.

use std::path::PathBuf;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::config::cursor::{Cursor, Section};
use redis_stream_core::file::{self, FileKind};
use redis_stream_core::secret::redact;
use redis_stream_core::tls::{ClientCertificate, Tls, Verification};

pub(super) fn read(section: &Section<'_>) -> Tls {
    let ca_key = section.key("ca_file");
    let cert_key = section.key("cert_file");
    let key_key = section.key("key_file");
    for (key, other) in [(&cert_key, &key_key), (&key_key, &cert_key)] {
        if !key.is_given() && other.is_given() {
            key.fault(format_args!("missing; expected it together with {}", other.label()));
        }
    }
    let certificate = pem_file(&cert_key, CERTIFICATE).zip(pem_file(&key_key, PRIVATE_KEY));
    let server_name_key = section.key("server_name");
    let server_name = server_name_key.text().map(|text| text.value);
    if server_name.as_ref().is_some_and(|name| ServerName::try_from(name.as_str()).is_err()) {
        server_name_key.fault("not the name of a host; expected one");
    }
    let is_skipped = section.key("insecure_skip_verify").boolean().unwrap_or(false);
    Tls {
        ca_file: pem_file(&ca_key, CERTIFICATE),
        certificate: certificate.map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file }),
        server_name,
        verification: if is_skipped { Verification::Skipped } else { Verification::Full },
    }
}

/// The content that a PEM file must have, as messages call it, and a check for it.
pub(super) type PemContent = (&'static str, fn(&[u8]) -> bool);

pub(super) const CERTIFICATE: PemContent =
    ("a certificate", |pem| CertificateDer::pem_slice_iter(pem).next().is_some_and(|found| found.is_ok()));
pub(super) const PRIVATE_KEY: PemContent =
    ("a private key", |pem| PrivateKeyDer::from_pem_slice(pem).is_ok());

/// Reads the file once, so that an invalid one is found at the start.
pub(super) fn pem_file(key: &Cursor<'_>, (what, holds): PemContent) -> Option<PathBuf> {
    let path = key.in_folder(&key.text()?.value);
    match file::read(&path, FileKind::Certificate) {
        Ok(pem) if holds(&pem) => {}
        Ok(_) => key.fault(format_args!("no {} in the file; expected PEM", what.trim_start_matches("a "))),
        Err(error) => {
            let name = path.display().to_string();
            key.fault(format_args!("cannot read {}: {error}; expected a readable file", redact(&name)));
        }
    }
    Some(path)
}
