//! Reads `targets[].allowed_nodes`: the hosts and networks that the servers of a target may name as nodes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::cursor::Cursor;
use crate::config::topology::Topology;
use redis_stream_core::glob::Glob;
use redis_stream_core::redis_url::Endpoint;

const EXPECTED: &str = "a host name, which may contain * and ?, an address, or a network such as 10.0.0.0/8";

/// Hosts and networks to which a target connects, with its user and password.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowedNodes {
    /// For hosts that are names, in lower case.
    names: Vec<Glob>,
    /// For hosts that are addresses.
    networks: Vec<IpNet>,
}

impl AllowedNodes {
    /// Returns true if the host of an endpoint is in the list. A name is compared as it is, not by what it resolves to.
    #[must_use]
    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        let (Endpoint::Tcp(address) | Endpoint::Tls(address)) = endpoint else { return false };
        match address.host.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                self.networks.iter().any(|network| network.contains(&address))
            }
            Err(_) => {
                let name = normalized(&address.host);
                self.names.iter().any(|glob| glob.matches(name.as_bytes()))
            }
        }
    }
}

/// Returns `None` where all nodes are allowed.
pub(super) fn read(list: &Cursor<'_>, topology: Option<&Topology>) -> Option<AllowedNodes> {
    list.require_items("at least one host or network, or no such key to allow all");
    if list.is_given() && matches!(topology, Some(Topology::Standalone(_))) {
        list.fault("goes with topology: cluster or sentinel, whose servers name nodes; expected no such key");
    }
    if !list.is_given() {
        return None;
    }
    let mut allowed = AllowedNodes { names: Vec::new(), networks: Vec::new() };
    for item in list.items().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let written = text.value.trim();
        let network =
            written.parse::<IpNet>().ok().or_else(|| written.parse::<IpAddr>().ok().map(IpNet::from));
        match network {
            Some(network) => allowed.networks.push(canonical(network)),
            None if is_pattern_of_addresses(written) => {
                item.fault("a pattern of addresses; expected a network such as 10.0.0.0/8");
            }
            None if is_pattern_of_names(written) => allowed.names.push(Glob::new(normalized(written))),
            None => item.fault(format_args!("not a host or network; expected {EXPECTED}")),
        }
    }
    Some(allowed)
}

/// Returns a network of IPv4 addresses that are written as IPv6 ones in their own form, in which addresses are compared.
fn canonical(network: IpNet) -> IpNet {
    let prefix_len = network.prefix_len().checked_sub(96);
    let of_v4 = prefix_len.and_then(|len| IpNet::new(network.addr().to_canonical(), len).ok());
    match (network, of_v4) {
        (IpNet::V6(_), Some(of_v4 @ IpNet::V4(_))) => of_v4,
        _ => network,
    }
}

fn normalized(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Names can look like an address in part: `10.0.*` would match `10.0.evil.example`.
fn is_pattern_of_addresses(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_digit() || ".*?".contains(char))
}

fn is_pattern_of_names(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || "-_.*?".contains(char))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load::from_text;
    use redis_stream_core::redis_url::Address;

    fn allowed(list: &str) -> AllowedNodes {
        let yaml = format!("targets: [{{topology: cluster, url: 'redis://seed', allowed_nodes: [{list}]}}]");
        let config = from_text("c.yaml", &yaml, Path::new(""), &|_| None).expect("it is valid");
        config.targets[0].allowed_nodes.clone().expect("it is given")
    }

    #[test]
    fn names_match_globs_and_addresses_match_networks() {
        let list =
            allowed(r#""*.Cache.internal", redis-?, 10.1.0.0/16, 192.0.2.7, "fd00::/8", "::ffff:10.9.0.1""#);
        for (host, is_allowed) in [
            ("a.cache.internal", true),
            ("A.CACHE.INTERNAL.", true),
            ("a.b.cache.internal", true),
            ("cache.internal", false),
            ("a.cache.internal.evil.example", false),
            ("redis-1", true),
            ("redis-12", false),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("::ffff:10.1.0.1", true),
            ("::ffff:10.2.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("10.9.0.1", true),
            ("::ffff:10.9.0.1", true),
            ("10.9.0.2", false),
            ("10.1.evil.example", false),
            ("10.1", false),
            ("167837697", false),
            ("", false),
        ] {
            let address = Address { host: host.to_owned(), port: 1 };
            for endpoint in [Endpoint::Tcp(address.clone()), Endpoint::Tls(address)] {
                assert_eq!(list.contains(&endpoint), is_allowed, "{host}");
            }
        }
        assert!(!list.contains(&Endpoint::Unix("/10.1.0.1".into())));
    }
}
