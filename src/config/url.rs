//! URLs of servers: `redis://[user[:password]@]host[:port][/db]`. Messages never quote any part of one, since
//! a password with a `/` in it can turn up in every part.

use percent_encoding::percent_decode_str;
use url::{Host, ParseError, Url};

use crate::config::Address;
use crate::config::password::Secret;

/// What a URL may look like, as messages say it.
pub(super) const FORM: &str = "redis://[user[:password]@]host[:port][/db]";

/// The port of a server that names none.
const DEFAULT_PORT: u16 = 6379;

const UNENCODED: &str =
    r##"an "@" behind the host; expected "/", "?" and "#" in a user or password as %2F, %3F and %23"##;

/// What a URL says.
#[derive(Debug, PartialEq)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) db: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

/// Reads a URL.
///
/// # Errors
///
/// What is wrong, and what was expected.
pub(super) fn parse(text: &str) -> Result<Endpoint, String> {
    if let Some(scheme @ ("rediss" | "unix" | "redis+unix")) = text.split(':').next() {
        return Err(format!("{scheme}:// is not supported yet; expected {FORM}"));
    }
    if has_at_sign_behind_the_authority(text) {
        return Err(UNENCODED.to_owned());
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::InvalidPort => "the port is no number up to 65535".to_owned(),
        ParseError::EmptyHost => format!("no host; expected {FORM}"),
        _ => format!("not a URL; expected {FORM}"),
    })?;
    if url.scheme() != "redis" {
        return Err(format!("not a redis:// URL; expected {FORM}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("a query or fragment, which is not understood; expected {FORM}"));
    }
    let password = url.password().filter(|password| !password.is_empty()).map(decode).transpose()?;
    let username = Some(url.username()).filter(|name| !name.is_empty()).map(decode).transpose()?;
    Ok(Endpoint { address: address(&url)?, db: db(&url)?, username, password: password.map(Secret::new) })
}

fn address(url: &Url) -> Result<Address, String> {
    let host = match url.host() {
        Some(Host::Domain(name)) => decode(name)?,
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        None => String::new(),
    };
    if host.is_empty() {
        return Err(format!("no host; expected {FORM}"));
    }
    match url.port() {
        Some(0) => Err("port 0; expected 1 to 65535".to_owned()),
        port => Ok(Address { host, port: port.unwrap_or(DEFAULT_PORT) }),
    }
}

fn db(url: &Url) -> Result<u32, String> {
    let path = url.path().strip_prefix('/').unwrap_or_default();
    // `parse` alone would take "+1".
    let digits = path.chars().all(|char| char.is_ascii_digit());
    match path {
        "" => Ok(0),
        number if digits => number.parse().map_err(|_| "the database number is too large".to_owned()),
        _ => Err(format!("the path is not a database number; expected {FORM}")),
    }
}

/// The sign that a password was not encoded: what follows its first `/` was taken for a path.
fn has_at_sign_behind_the_authority(text: &str) -> bool {
    let Some((_, behind_scheme)) = text.split_once("://") else { return false };
    behind_scheme.split_once(['/', '?', '#']).is_some_and(|(_, behind)| behind.contains('@'))
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "a part is not UTF-8 once decoded")?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, FORM, UNENCODED, parse};
    use crate::config::Address;
    use crate::config::password::Secret;

    fn endpoint(host: &str, port: u16, db: u32, user: Option<&str>, password: Option<&str>) -> Endpoint {
        Endpoint {
            address: Address { host: host.to_owned(), port },
            db,
            username: user.map(str::to_owned),
            password: password.map(Secret::new),
        }
    }

    #[test]
    fn good_urls() {
        for (text, result) in [
            ("redis://cache", endpoint("cache", 6379, 0, None, None)),
            ("redis://cache/", endpoint("cache", 6379, 0, None, None)),
            ("redis://10.0.0.1:6380/15", endpoint("10.0.0.1", 6380, 15, None, None)),
            ("redis://[::1]:6380", endpoint("::1", 6380, 0, None, None)),
            ("redis://:hunter2@cache/1", endpoint("cache", 6379, 1, None, Some("hunter2"))),
            ("redis://monitor@cache", endpoint("cache", 6379, 0, Some("monitor"), None)),
            ("redis://monitor:@cache", endpoint("cache", 6379, 0, Some("monitor"), None)),
            ("redis://mo%3An:p%40%2F%25^@cache", endpoint("cache", 6379, 0, Some("mo:n"), Some("p@/%^"))),
            ("redis://:p@ss@cache", endpoint("cache", 6379, 0, None, Some("p@ss"))),
        ] {
            assert_eq!(parse(text), Ok(result), "{text}");
        }
    }

    #[test]
    fn bad_urls_are_explained_without_quoting_them() {
        let form = format!("; expected {FORM}");
        for (text, message) in [
            ("", format!("not a URL{form}")),
            ("hunter2", format!("not a URL{form}")),
            ("hunter2@cache:6379", format!("not a URL{form}")),
            ("hunter2:6379", format!("not a redis:// URL{form}")),
            ("http://hunter2", format!("not a redis:// URL{form}")),
            ("rediss://hunter2", format!("rediss:// is not supported yet{form}")),
            ("unix:///hunter2.sock", format!("unix:// is not supported yet{form}")),
            ("redis:hunter2", format!("no host{form}")),
            ("redis://", format!("no host{form}")),
            ("redis:///1", format!("no host{form}")),
            ("redis://:hunter2@", format!("no host{form}")),
            ("redis://:hunter2@/1", format!("no host{form}")),
            ("redis://cache:hunter2", "the port is no number up to 65535".to_owned()),
            ("redis://cache:65536", "the port is no number up to 65535".to_owned()),
            ("redis://cache:0", "port 0; expected 1 to 65535".to_owned()),
            ("redis://cache/hunter2", format!("the path is not a database number{form}")),
            ("redis://cache/0/hunter2", format!("the path is not a database number{form}")),
            ("redis://cache/+1", format!("the path is not a database number{form}")),
            ("redis://cache/4294967296", "the database number is too large".to_owned()),
            (
                "redis://cache/0?password=hunter2",
                format!("a query or fragment, which is not understood{form}"),
            ),
            ("redis://cache/0#hunter2", format!("a query or fragment, which is not understood{form}")),
            ("redis://:hunter2/x@cache", UNENCODED.to_owned()),
            ("redis://user:12?hunter2@cache", UNENCODED.to_owned()),
            ("redis://:%ffhunter2@cache", "a part is not UTF-8 once decoded".to_owned()),
            ("redis://hunter2 x", format!("not a URL{form}")),
        ] {
            assert_eq!(parse(text), Err(message), "{text}");
        }
    }
}
