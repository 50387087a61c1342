//! `streamgauge healthcheck`: asks a running exporter whether it is healthy, for images without a shell. Where HTTP is
//! not understood it asks over TLS, and takes any certificate: what is asked is no secret, and the answer neither.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli;
use crate::commands::exit_code::UsageError;
use crate::config::DEFAULT_PORT;
use redis_stream_core::secret::redact;
use redis_stream_core::tls::{Tls, TlsContext, Verification};

const LIMIT: Duration = Duration::from_secs(3);

/// Asks `/-/healthy`.
///
/// # Errors
///
/// There is no healthy answer in time.
pub async fn run(args: &cli::Healthcheck) -> anyhow::Result<()> {
    let address = address(args.listen.as_deref())?;
    let status =
        timeout(LIMIT, ask(address)).await.with_context(|| format!("{address} does not answer"))??;
    if status.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    bail!("{address} answers {status}")
}

/// Where the exporter listens, from this machine: an unspecified address means loopback.
fn address(listen: Option<&str>) -> anyhow::Result<SocketAddr> {
    let Some(listen) = listen.filter(|listen| !listen.is_empty()) else {
        return Ok((Ipv4Addr::LOCALHOST, DEFAULT_PORT).into());
    };
    let mut address: SocketAddr = listen.parse().map_err(|_| {
        UsageError(format!(
            "--listen {}: expected an address and a port, as in 127.0.0.1:10121",
            redact(listen)
        ))
    })?;
    if address.ip().is_unspecified() {
        let is_v4 = address.is_ipv4();
        address.set_ip(if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    Ok(address)
}

/// The first line of the answer.
async fn ask(address: SocketAddr) -> anyhow::Result<String> {
    let answer = exchange(connect(address).await?).await;
    match answer {
        Ok(line) if line.starts_with("HTTP/") => Ok(line),
        // A server that speaks TLS answers with an alert, or not at all.
        _ => ask_secure(address).await,
    }
}

async fn ask_secure(address: SocketAddr) -> anyhow::Result<String> {
    let anybody = TlsContext::new(Tls { verification: Verification::Skipped, ..Tls::default() });
    let connected = anybody.connect(connect(address).await?, &address.ip().to_string()).await;
    let stream = connected.with_context(|| format!("{address} answers neither over HTTP nor over TLS"))?;
    let refused =
        || format!("{address} refuses us; where clients must show a certificate, ask at web.probe_listen");
    let answer = exchange(stream).await.with_context(refused)?;
    if answer.is_empty() { bail!(refused()) } else { Ok(answer) }
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(4_096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
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
