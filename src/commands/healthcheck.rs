//! `streamgauge healthcheck`: asks a running exporter whether it is healthy, for images without a shell. If it does not
//! speak HTTP, it is asked over TLS, with any certificate: neither request nor response is a secret.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::timeout;

use crate::cli;
use crate::commands::exit_code::UsageError;
use crate::config::DEFAULT_PORT;
use crate::config::http_receiver::HttpClientConfig;
use crate::http_client::{HttpClient, HttpError, HttpRequest};
use crate::http_url::{HttpUrl, Scheme};
use redis_stream_core::redis_url::Address;
use redis_stream_core::secret::{Secret, redact};
use redis_stream_core::tls::{Tls, Verification};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks `/-/healthy`.
///
/// # Errors
///
/// There is no healthy response in time.
pub async fn run(args: &cli::Healthcheck) -> anyhow::Result<()> {
    let address = address(args.listen.as_deref())?;
    timeout(TIMEOUT, ask(address)).await.with_context(|| format!("{address} does not answer"))?
}

/// Returns the address of the exporter as seen from this machine: loopback for an unspecified one.
fn address(listen: Option<&str>) -> anyhow::Result<SocketAddr> {
    let Some(listen) = listen.filter(|listen| !listen.is_empty()) else {
        return Ok((Ipv4Addr::LOCALHOST, DEFAULT_PORT).into());
    };
    let mut address = listen_address(listen)?;
    if address.ip().is_unspecified() {
        let is_v4 = address.is_ipv4();
        address.set_ip(if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    Ok(address)
}

pub(super) fn listen_address(listen: &str) -> Result<SocketAddr, UsageError> {
    let shown = redact(listen);
    let fault = format!("--listen {shown}: expected an address and a port, as in 127.0.0.1:10121");
    listen.parse().map_err(|_| UsageError(fault))
}

async fn ask(address: SocketAddr) -> anyhow::Result<()> {
    match ask_over(Scheme::Http, address).await {
        // A server that speaks TLS answers with an alert, or closes the connection.
        Err(HttpError::Lost { .. }) => {}
        answer => return Ok(answer?),
    }
    ask_over(Scheme::Https, address).await.map_err(|error| {
        let problem = match &error {
            HttpError::Dial { .. } => format!("{address} answers neither over HTTP nor over TLS"),
            HttpError::Lost { .. } => format!(
                "{address} refuses the connection; if it requires client certificates, use the address of web.probe_listen"
            ),
            _ => return error.into(),
        };
        anyhow::Error::new(error).context(problem)
    })
}

async fn ask_over(scheme: Scheme, address: SocketAddr) -> Result<(), HttpError> {
    let tls = Tls { verification: Verification::Skipped, ..Tls::default() };
    let client = HttpClient::new(HttpClientConfig { tls, ..HttpClientConfig::with_timeout(TIMEOUT) });
    let url = HttpUrl {
        scheme,
        address: Address { host: address.ip().to_string(), port: address.port() },
        path: Secret::new("/-/healthy"),
        credentials: None,
    };
    client.get(HttpRequest { at: Some(address), ..HttpRequest::to(&url) }).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_means_loopback() {
        for (listen, expected) in [
            (None, "127.0.0.1:10121"),
            (Some(""), "127.0.0.1:10121"),
            (Some("[::]:10121"), "[::1]:10121"),
            (Some("0.0.0.0:80"), "127.0.0.1:80"),
            (Some("192.0.2.1:80"), "192.0.2.1:80"),
        ] {
            assert_eq!(address(listen).unwrap().to_string(), expected, "{listen:?}");
        }
        assert!(address(Some("here")).unwrap_err().is::<UsageError>());
    }
}
