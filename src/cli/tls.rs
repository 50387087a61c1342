//! How a server is known, and how we are to it, by flags: what `targets[].tls` is in a file.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;

/// TLS with a server whose URL is `rediss://`. The files are read again at every connect.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArgs {
    /// File with the certificates of the authorities that are trusted [default: those of the system].
    #[arg(long, env = "STREAMGAUGE_REDIS_TLS_CA_FILE", value_name = "FILE")]
    pub redis_tls_ca_file: Option<PathBuf>,
    /// File with a certificate of our own, for a server that wants one.
    #[arg(
        long,
        env = "STREAMGAUGE_REDIS_TLS_CERT_FILE",
        value_name = "FILE",
        requires = "redis_tls_key_file"
    )]
    pub redis_tls_cert_file: Option<PathBuf>,
    /// File with its private key.
    #[arg(
        long,
        env = "STREAMGAUGE_REDIS_TLS_KEY_FILE",
        value_name = "FILE",
        requires = "redis_tls_cert_file"
    )]
    pub redis_tls_key_file: Option<PathBuf>,
    /// Name that the server's certificate must be for [default: the host of the URL].
    #[arg(long, env = "STREAMGAUGE_REDIS_TLS_SERVER_NAME", value_name = "NAME")]
    pub redis_tls_server_name: Option<String>,
    /// Take any certificate: anybody may be the server then. A warning says so.
    #[arg(
        long,
        env = "STREAMGAUGE_REDIS_TLS_INSECURE_SKIP_VERIFY",
        value_parser = FalseyValueParser::new()
    )]
    pub redis_tls_insecure_skip_verify: bool,
}
