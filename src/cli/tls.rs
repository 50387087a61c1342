//! Client TLS flags, the same settings as `targets[].tls` in a file.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;

/// TLS of a server whose URL is `rediss://`. The files are read again at every connect.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArgs {
    /// File with the certificates of trusted authorities [default: those of the system].
    #[arg(long, value_name = "FILE")]
    pub redis_tls_ca_file: Option<PathBuf>,
    /// File with a client certificate, if the server requires one.
    #[arg(long, value_name = "FILE", requires = "redis_tls_key_file")]
    pub redis_tls_cert_file: Option<PathBuf>,
    /// File with the private key of the client certificate.
    #[arg(long, value_name = "FILE", requires = "redis_tls_cert_file")]
    pub redis_tls_key_file: Option<PathBuf>,
    /// Name that the server's certificate must be for [default: the host of the URL].
    #[arg(long, value_name = "NAME")]
    pub redis_tls_server_name: Option<String>,
    /// Accept any certificate, so that any host can pose as the server; logs a warning.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub redis_tls_insecure_skip_verify: bool,
}
