//! How a person reaches a target by redis-cli.

use std::path::Path;
use std::sync::Arc;

use crate::config::Target;
use crate::server_url::{Address, Place};
use crate::tls::{Tls, Verification};

/// The program and the arguments that lead to a target. A password is asked for, and never among them.
pub(super) fn words(target: &Target) -> Arc<[String]> {
    let mut words = vec!["redis-cli".to_owned()];
    match &target.place {
        Place::Tcp(address) => words.extend(to(address)),
        Place::Tls(address) => {
            words.extend(to(address));
            words.extend(secured(&target.tls));
        }
        Place::Unix(path) => words.extend(["-s".to_owned(), text(path)]),
    }
    if target.db != 0 {
        words.extend(["-n".to_owned(), target.db.to_string()]);
    }
    if let Some(username) = &target.username {
        words.extend(["--user".to_owned(), username.clone()]);
    }
    if target.password.is_some() {
        words.push("--askpass".to_owned());
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
