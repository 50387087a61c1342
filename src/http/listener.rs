//! Binds the listening socket. Accepts nothing.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::DEFAULT_PORT;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// It cannot be used at all.
    #[error("cannot listen on {address}: {reason}; choose another with --listen or web.listen")]
    Unusable {
        /// The address asked for.
        address: SocketAddr,
        /// The reason, for people.
        reason: &'static str,
    },
    /// Any other error.
    #[error("cannot listen on {address}; check --listen or web.listen")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

impl ListenError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        let reason = match source.kind() {
            io::ErrorKind::AddrInUse => "address already in use",
            io::ErrorKind::PermissionDenied => "permission denied",
            io::ErrorKind::AddrNotAvailable => "no such address on this machine",
            _ => return Self::Other { address, source },
        };
        Self::Unusable { address, reason }
    }
}

/// Listens on an address, by default on port 10121 of all interfaces. That is in both families where the machine has
/// IPv6, else in IPv4. Must be called within a Tokio runtime.
///
/// # Errors
///
/// The address cannot be listened on.
pub fn bind(listen: Option<SocketAddr>) -> Result<TcpListener, ListenError> {
    match listen {
        Some(address) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            first_of_both_families(address.port(), open)
        }
        Some(address) => open(address).map_err(|error| ListenError::new(address, error)),
        None => first_of_both_families(DEFAULT_PORT, open),
    }
}

fn first_of_both_families<L>(
    port: u16,
    open: impl Fn(SocketAddr) -> io::Result<L>,
) -> Result<L, ListenError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    match open(both) {
        Ok(listener) => Ok(listener),
        // These concern the port, so IPv4 would fail too. Other errors (no such family, no such address, no socket for
        // both) mean that there is no IPv6; which one differs between systems.
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            Err(ListenError::new(both, error))
        }
        Err(_) => open(ipv4).map_err(|error| ListenError::new(ipv4, error)),
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // The default differs between systems (net.ipv6.bindv6only).
        socket.set_only_v6(false)?;
    }
    // Without it a restart fails while connections of the predecessor are in TIME_WAIT. On Windows the option lets
    // processes share a port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_taken_address_is_named_with_what_to_do() {
        let first = bind(Some(address("127.0.0.1:0"))).unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind(Some(taken)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {taken}: address already in use; choose another with --listen or web.listen"
            )
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named() {
        let error = bind(Some(address("192.0.2.1:10121"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot listen on 192.0.2.1:10121: no such address on this machine; choose another with --listen \
             or web.listen"
        );
    }

    #[tokio::test]
    async fn the_unspecified_ipv6_address_takes_both_families_where_there_is_ipv6() {
        let Ok(listener) = bind(Some(address("[::]:0"))) else {
            // Without IPv6 there is nothing to show; the fallback has its own test.
            assert!(std::net::TcpListener::bind("[::1]:0").is_err());
            return;
        };
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "::1"] {
            tokio::net::TcpStream::connect((host, port)).await.unwrap();
        }
    }

    #[test]
    fn without_ipv6_the_default_is_all_of_ipv4() {
        let opened = first_of_both_families(7, |address| match address {
            SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(97)),
            SocketAddr::V4(_) => Ok(address),
        });
        assert_eq!(opened.unwrap(), address("0.0.0.0:7"));
    }

    #[test]
    fn a_taken_port_is_no_reason_to_listen_on_half_of_the_families() {
        let opened = first_of_both_families(7, |address| match address {
            SocketAddr::V6(_) => Err(io::ErrorKind::AddrInUse.into()),
            SocketAddr::V4(_) => Ok(address),
        });
        assert!(
            matches!(opened, Err(ListenError::Unusable { address, reason: "address already in use" }) if address.is_ipv6())
        );
    }
}
