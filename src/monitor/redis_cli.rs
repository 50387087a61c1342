//! The redis-cli command that reaches a target.

use std::path::Path;
use std::sync::Arc;

use crate::config::Target;
use crate::config::topology::Topology;
use redis_stream_core::redis_url::{Address, Endpoint};
use redis_stream_core::tls::{Tls, Verification};

/// Makes redis-cli prompt for the password, and ignore `REDISCLI_AUTH`.
pub(crate) const ASK_PASSWORD: &str = "--askpass";

/// Returns `redis-cli` and the arguments that reach a target through this node. The password is prompted for and
/// never an argument.
pub(crate) fn words(target: &Target, endpoint: &Endpoint) -> Arc<[String]> {
    let mut words = vec!["redis-cli".to_owned()];
    if matches!(target.topology, Topology::Cluster(_)) {
        // Follows redirects.
        words.push("-c".to_owned());
    }
    match endpoint {
        Endpoint::Tcp(address) => words.extend(to(address)),
        Endpoint::Tls(address) => {
            words.extend(to(address));
            words.extend(secured(&target.tls));
        }
        Endpoint::Unix(path) => words.extend(["-s".to_owned(), text(path)]),
    }
    if target.db != 0 {
        words.extend(["-n".to_owned(), target.db.to_string()]);
    }
    if let Some(username) = &target.username {
        words.extend(["--user".to_owned(), username.clone()]);
    }
    if target.password.is_some() {
        words.push(ASK_PASSWORD.to_owned());
    }
    words.into()
}

fn to(address: &Address) -> [String; 4] {
    ["-h".to_owned(), address.host.clone(), "-p".to_owned(), address.port.to_string()]
}

fn secured(tls: &Tls) -> Vec<String> {
    let mut words = vec!["--tls".to_owned()];
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    if let Some(file) = &tls.ca_file {
        add("--cacert", text(file));
    }
    if let Some(certificate) = &tls.certificate {
        add("--cert", text(&certificate.cert_file));
        add("--key", text(&certificate.key_file));
    }
    if let Some(name) = &tls.server_name {
        add("--sni", name.clone());
    }
    if tls.verification == Verification::Skipped {
        words.push("--insecure".to_owned());
    }
    words
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::from_text;

    fn words_for(target: &str, endpoint: &str) -> String {
        let text = format!("targets: [{{{target}}}]");
        let config = from_text("f", &text, Path::new("/"), &|_| None).unwrap();
        words(&config.targets[0], &redis_stream_core::redis_url::parse(endpoint).unwrap().endpoint).join(" ")
    }

    #[test]
    fn each_way_to_a_server_is_one_that_redis_cli_takes() {
        for (target, endpoint, expected) in [
            (
                "url: 'redis://h/2', username: me, password: p",
                "redis://h",
                "redis-cli -h h -p 6379 -n 2 --user me --askpass",
            ),
            (
                "url: 'rediss://h', tls: {server_name: n}",
                "rediss://h",
                "redis-cli -h h -p 6379 --tls --sni n",
            ),
            ("url: 'unix:///run/r.sock'", "unix:///run/r.sock", "redis-cli -s /run/r.sock"),
            ("topology: cluster, urls: ['redis://a']", "redis://b:7001", "redis-cli -c -h b -p 7001"),
            (
                "topology: sentinel, sentinel: {master_name: m, urls: ['redis://s:26379']}",
                "redis://master",
                "redis-cli -h master -p 6379",
            ),
        ] {
            assert_eq!(words_for(target, endpoint), expected);
        }
    }
}
