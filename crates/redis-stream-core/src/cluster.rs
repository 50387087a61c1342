//! Redirects in a cluster: `MOVED` and `ASK`.

use std::net::IpAddr;

use crate::redis_url::{Address, Endpoint};

/// An error reply that names another node to send the command to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The key's hash slot.
    pub slot: u16,
    /// Host and port of the other node, as the server sent them. The host may be empty; see [`endpoint_of`].
    pub node: (String, u16),
    /// The duration of the redirect.
    pub kind: RedirectKind,
}

/// The duration of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectKind {
    /// `MOVED`: for all further commands, since the other node owns the slot.
    Moved,
    /// `ASK`: for this command only, to be sent after `ASKING`, while the slot is being migrated.
    Ask,
}

impl Redirect {
    /// Parses an error reply, given its first word and the rest, such as `MOVED` and `3999 127.0.0.1:6381`. Returns
    /// `None` for other errors.
    #[must_use]
    pub fn parse(code: &str, detail: &str) -> Option<Self> {
        let kind = match code {
            "MOVED" => RedirectKind::Moved,
            "ASK" => RedirectKind::Ask,
            _ => return None,
        };
        let (slot, node) = detail.split_once(' ')?;
        let (host, port) = node.split_whitespace().next()?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self { slot: slot.parse().ok()?, node: (host.to_owned(), port.parse().ok()?), kind })
    }
}

/// Returns the endpoint of a node that `asked` redirects to, with the same transport (TCP or TLS) as `asked`.
///
/// A host that is empty or `?` stands for the host of `asked`: a node that does not know its own name sends it.
#[must_use]
pub fn endpoint_of((host, port): &(String, u16), asked: &Endpoint) -> Endpoint {
    let address = |same: &Address| {
        let is_unknown = host.is_empty() || host == "?";
        Address { host: if is_unknown { same.host.clone() } else { host.clone() }, port: *port }
    };
    match asked {
        Endpoint::Tcp(same) => Endpoint::Tcp(address(same)),
        Endpoint::Tls(same) => Endpoint::Tls(address(same)),
        Endpoint::Unix(_) => Endpoint::Tcp(Address { host: host.clone(), port: *port }),
    }
}

/// Returns true if two endpoints are on one host, so that credentials for the one do not leave it for the other. All
/// loopback addresses are one host; a unix socket is none.
#[must_use]
pub fn are_on_one_host(a: &Endpoint, b: &Endpoint) -> bool {
    let host = |endpoint: &Endpoint| match endpoint {
        Endpoint::Tcp(address) | Endpoint::Tls(address) => {
            let host = address.host.to_ascii_lowercase();
            let is_loopback =
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
            Some(if is_loopback { "localhost".to_owned() } else { host })
        }
        Endpoint::Unix(_) => None,
    };
    host(a).is_some_and(|a| host(b).as_ref() == Some(&a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_parsed_and_other_errors_are_none() {
        let to = |slot, host: &str, port, kind| Some(Redirect { slot, node: (host.to_owned(), port), kind });
        let moved = |detail| Redirect::parse("MOVED", detail);
        assert_eq!(moved("3999 127.0.0.1:6381"), to(3999, "127.0.0.1", 6381, RedirectKind::Moved));
        assert_eq!(moved("3999 [::1]:6381"), to(3999, "::1", 6381, RedirectKind::Moved));
        assert_eq!(moved("3999 :6381"), to(3999, "", 6381, RedirectKind::Moved));
        assert_eq!(Redirect::parse("ASK", "1 h:2"), to(1, "h", 2, RedirectKind::Ask));
        for (code, detail) in [("MOVED", "3999"), ("MOVED", "x h:1"), ("ERR", "1 h:1")] {
            assert_eq!(Redirect::parse(code, detail), None, "{code} {detail}");
        }
    }

    #[test]
    fn a_redirect_keeps_the_transport_of_the_node_that_sent_it() {
        let address = |host: &str, port| Address { host: host.to_owned(), port };
        let node = |host: &str| (host.to_owned(), 2);
        let tls = Endpoint::Tls(address("a", 1));
        assert_eq!(endpoint_of(&node("b"), &tls), Endpoint::Tls(address("b", 2)));
        assert_eq!(endpoint_of(&node("?"), &tls), Endpoint::Tls(address("a", 2)));
        assert_eq!(endpoint_of(&node(""), &Endpoint::Tcp(address("a", 1))), Endpoint::Tcp(address("a", 2)));
        assert_eq!(endpoint_of(&node("b"), &Endpoint::Unix("/s".into())), Endpoint::Tcp(address("b", 2)));
    }

    #[test]
    fn loopback_addresses_are_one_host_and_others_are_compared_by_name() {
        let tcp = |host: &str, port| Endpoint::Tcp(Address { host: host.to_owned(), port });
        let tls = |host: &str, port| Endpoint::Tls(Address { host: host.to_owned(), port });
        for (a, b) in [("h", "H"), ("localhost", "127.0.0.1"), ("::1", "127.0.0.2"), ("10.0.0.1", "10.0.0.1")]
        {
            assert!(
                are_on_one_host(&tcp(a, 1), &tcp(b, 2)) && are_on_one_host(&tls(b, 1), &tls(a, 2)),
                "{a} {b}"
            );
        }
        for (a, b) in [("h", "i"), ("localhost", "10.0.0.1"), ("10.0.0.1", "10.0.0.2")] {
            assert!(!are_on_one_host(&tcp(a, 1), &tcp(b, 1)), "{a} {b}");
        }
        let unix = Endpoint::Unix("/s".into());
        assert!(!are_on_one_host(&unix, &unix) && !are_on_one_host(&unix, &tcp("localhost", 1)));
    }
}
