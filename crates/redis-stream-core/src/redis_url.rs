//! Parses the URLs of servers: `redis://` and `valkey://`, `rediss://` and `valkeys://`, and `unix://`. Nothing is
//! resolved or connected here.
//!
//! Messages never quote any part of a URL: a password that contains an unencoded `/` can end up in every part.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use url::{Host, ParseError, Url};

use crate::secret::Secret;

/// The form of a URL, for messages.
pub const FORM: &str = "redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]";

/// Message for a user or password that is given separately although the URL contains one; it follows the URL's name.
pub const CREDENTIALS_TWICE: &str = "has credentials too; expected them in one place";

/// Message for a user without a password.
pub const USER_WITHOUT_PASSWORD: &str = "a user without a password; expected a password too";

/// Port of a server whose URL has none.
const DEFAULT_PORT: u16 = 6379;

/// Port of a sentinel whose URL has none.
pub const SENTINEL_PORT: u16 = 26379;

/// Schemes of other programs, each with what to use instead, for a helpful message.
const FOREIGN_SCHEMES: [(&str, &str); 9] = [
    ("redis+tls", "rediss://"),
    ("redis+unix", "unix://"),
    ("valkey+unix", "unix://"),
    ("redis-sentinel", SENTINEL),
    ("redis+sentinel", SENTINEL),
    ("rediss-sentinel", SENTINEL),
    ("rediss+sentinel", SENTINEL),
    ("redis-cluster", CLUSTER),
    ("redis+cluster", CLUSTER),
];
const SENTINEL: &str = "topology: sentinel, and sentinel.urls, in a configuration file";
const CLUSTER: &str = "topology: cluster, and urls, in a configuration file";

/// A parsed URL. `Display` shows neither user nor password, `Debug` no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Address and transport of the server.
    pub endpoint: Endpoint,
    /// Database number; 0 if the URL has none.
    pub db: u32,
    /// ACL user; `None` for the default user.
    pub username: Option<String>,
    /// Password; `None` if the URL has none.
    pub password: Option<Secret>,
}

/// Address and transport of a server. `Display` shows host and port, or the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP, unencrypted: `redis://`.
    Tcp(Address),
    /// TCP, secured by TLS: `rediss://`.
    Tls(Address),
    /// The path of a unix socket: `unix://`.
    Unix(PathBuf),
}

/// Host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name, IPv4 or IPv6 address (without brackets).
    pub host: String,
    /// TCP port; never 0.
    pub port: u16,
}

/// An error in a URL. Its message states what was expected and quotes nothing of the URL.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// The scheme belongs to another program.
    #[error("{scheme}:// is not understood; expected {instead}")]
    ForeignScheme {
        /// The scheme.
        scheme: &'static str,
        /// The scheme or configuration to use instead.
        instead: &'static str,
    },
    /// There is an `@` after the host, so the user or password was not percent-encoded.
    #[error(
        r##"an "@" behind the host; expected "/", "?" and "#" in a user or password as %2F, %3F and %23"##
    )]
    Unencoded,
    /// The text is not a URL.
    #[error("not a URL; expected {FORM}")]
    Unreadable,
    /// The scheme is not one of a Redis server.
    #[error("not the URL of a Redis server; expected {FORM}")]
    Scheme,
    /// The URL has no host.
    #[error("no host; expected {FORM}")]
    NoHost,
    /// The host contains characters that no host name has; it may be a part of a password.
    #[error("the host is not a name or an address; expected {FORM}")]
    Host,
    /// The port is not a number up to 65535.
    #[error("the port is no number up to 65535")]
    Port,
    /// The port is 0.
    #[error("port 0; expected 1 to 65535")]
    PortZero,
    /// The path is not a database number.
    #[error("the path is not a database number; expected {FORM}")]
    Path,
    /// The database number does not fit into 32 bits.
    #[error("the database number is too large")]
    Database,
    /// A `unix://` URL has a host, or no path.
    #[error("unix:// without a path that begins with /; expected {FORM}")]
    Socket,
    /// The URL has a query or fragment that is not supported.
    #[error("a query or fragment, which is not understood; expected {FORM}")]
    Query,
    /// A percent-encoded part is not UTF-8.
    #[error("a part is not UTF-8 once decoded")]
    NotUtf8,
}

/// Returns HOST and HOST:PORT as a URL, and everything else as it is. A number alone is a port, not a host.
#[must_use]
pub fn with_scheme(text: &str) -> Cow<'_, str> {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = text.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(text, |(host, _)| host);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok() || is_host_name(host) && !is_port(host),
    };
    if is_host { Cow::Owned(format!("redis://{text}")) } else { Cow::Borrowed(text) }
}

/// Parses a URL. The default port is 6379.
///
/// # Errors
///
/// The text is not the URL of a Redis server.
pub fn parse(text: &str) -> Result<ServerUrl, UrlError> {
    parse_with_port(text, DEFAULT_PORT)
}

/// Parses a URL with another default port, such as [`SENTINEL_PORT`].
///
/// # Errors
///
/// The text is not the URL of a Redis server.
pub fn parse_with_port(text: &str, default_port: u16) -> Result<ServerUrl, UrlError> {
    let scheme = text.trim_start().split_once(':').map_or("", |(scheme, _)| scheme);
    if let Some((scheme, instead)) =
        FOREIGN_SCHEMES.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(scheme))
    {
        return Err(UrlError::ForeignScheme { scheme, instead });
    }
    let is_unix = scheme.eq_ignore_ascii_case("unix");
    if !is_unix && has_at_sign_after_authority(text) {
        return Err(UrlError::Unencoded);
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::InvalidPort => UrlError::Port,
        ParseError::EmptyHost => UrlError::NoHost,
        _ => UrlError::Unreadable,
    })?;
    match url.scheme() {
        "unix" => socket(&url),
        "redis" | "valkey" => over_tcp(&url, default_port, Endpoint::Tcp),
        "rediss" | "valkeys" => over_tcp(&url, default_port, Endpoint::Tls),
        _ => Err(UrlError::Scheme),
    }
}

fn over_tcp(
    url: &Url,
    default_port: u16,
    endpoint: impl FnOnce(Address) -> Endpoint,
) -> Result<ServerUrl, UrlError> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UrlError::Query);
    }
    let password = url.password().filter(|password| !password.is_empty()).map(decode).transpose()?;
    let username = Some(url.username()).filter(|name| !name.is_empty()).map(decode).transpose()?;
    let endpoint = endpoint(address(url, default_port)?);
    Ok(ServerUrl { endpoint, db: db(url.path())?, username, password: password.map(Secret::new) })
}

/// A `unix://` URL has no user or password; they are given separately.
fn socket(url: &Url) -> Result<ServerUrl, UrlError> {
    if url.has_host() && url.host_str().is_some_and(|host| !host.is_empty()) || !url.path().starts_with('/') {
        return Err(UrlError::Socket);
    }
    let db = match url.query() {
        None => 0,
        Some(query) => self::db(query.strip_prefix("db=").ok_or(UrlError::Query)?)?,
    };
    if url.path() == "/" {
        return Err(UrlError::Socket);
    }
    if url.fragment().is_some() {
        return Err(UrlError::Query);
    }
    Ok(ServerUrl { endpoint: Endpoint::Unix(decode(url.path())?.into()), db, username: None, password: None })
}

impl ServerUrl {
    /// Returns true if a user may be given separately, because the URL contains neither a user nor a password.
    #[must_use]
    pub fn is_open_to_a_username(&self) -> bool {
        self.username.is_none() && self.password.is_none()
    }

    /// Returns true if a password may be given separately, because the URL contains none.
    #[must_use]
    pub fn is_open_to_a_password(&self) -> bool {
        self.password.is_none()
    }
}

/// Writes the URL without user and password, and with the database only if it is not 0.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, before_db) = match self.endpoint {
            Endpoint::Tcp(_) => ("redis", "/"),
            Endpoint::Tls(_) => ("rediss", "/"),
            Endpoint::Unix(_) => ("unix", "?db="),
        };
        write!(f, "{scheme}://{}", self.endpoint)?;
        match self.db {
            0 => Ok(()),
            db => write!(f, "{before_db}{db}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Writes `host:port`, with brackets around an IPv6 address.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn address(url: &Url, default_port: u16) -> Result<Address, UrlError> {
    let host = match url.host() {
        Some(Host::Domain(name)) => host_name(name)?,
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        None => return Err(UrlError::NoHost),
    };
    match url.port() {
        Some(0) => Err(UrlError::PortZero),
        port => Ok(Address { host, port: port.unwrap_or(default_port) }),
    }
}

/// Hosts appear in logs and labels, so anything that may be a part of a password is rejected.
fn host_name(text: &str) -> Result<String, UrlError> {
    let name = decode(text)?;
    if name.is_empty() {
        return Err(UrlError::NoHost);
    }
    if is_host_name(&name) { Ok(name) } else { Err(UrlError::Host) }
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_alphanumeric() || "-._".contains(char))
}

fn db(path: &str) -> Result<u32, UrlError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    // `parse` alone would accept "+1".
    let digits = path.chars().all(|char| char.is_ascii_digit());
    match path {
        "" => Ok(0),
        number if digits => number.parse().map_err(|_| UrlError::Database),
        _ => Err(UrlError::Path),
    }
}

/// Returns true if there is an `@` after the host: the password contains an unencoded `/`, `?` or `#`, and the URL
/// parser would take the rest of it for a path, query or fragment.
pub fn has_at_sign_after_authority(text: &str) -> bool {
    let Some((_, after_scheme)) = text.split_once("://") else { return false };
    after_scheme.split_once(['/', '?', '#']).is_some_and(|(_, after)| after.contains('@'))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| UrlError::NotUtf8)?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16, db: u32, user: Option<&str>, password: Option<&str>) -> ServerUrl {
        ServerUrl {
            endpoint: Endpoint::Tcp(Address { host: host.to_owned(), port }),
            db,
            username: user.map(str::to_owned),
            password: password.map(Secret::new),
        }
    }

    #[test]
    fn good_urls() {
        for (text, result) in [
            ("redis://cache", server("cache", 6379, 0, None, None)),
            ("redis://cache/", server("cache", 6379, 0, None, None)),
            ("redis://10.0.0.1:6380/15", server("10.0.0.1", 6380, 15, None, None)),
            ("redis://[::1]:6380", server("::1", 6380, 0, None, None)),
            ("redis://:hunter2@cache/1", server("cache", 6379, 1, None, Some("hunter2"))),
            ("redis://monitor@cache", server("cache", 6379, 0, Some("monitor"), None)),
            ("redis://monitor:@cache", server("cache", 6379, 0, Some("monitor"), None)),
            ("redis://mo%3An:p%40%2F%25^@cache", server("cache", 6379, 0, Some("mo:n"), Some("p@/%^"))),
            ("redis://:p@ss@cache", server("cache", 6379, 0, None, Some("p@ss"))),
            ("valkey://cache/2", server("cache", 6379, 2, None, None)),
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
            ("rediss", format!("not a URL{form}")),
            ("hunter2@cache:6379", format!("not a URL{form}")),
            ("hunter2:6379", format!("not the URL of a Redis server{form}")),
            ("http://hunter2", format!("not the URL of a Redis server{form}")),
            ("REDIS+TLS://hunter2", "redis+tls:// is not understood; expected rediss://".to_owned()),
            ("redis-sentinel://hunter2", format!("redis-sentinel:// is not understood; expected {SENTINEL}")),
            ("redis+cluster://hunter2", format!("redis+cluster:// is not understood; expected {CLUSTER}")),
            ("unix://hunter2/redis.sock", format!("unix:// without a path that begins with /{form}")),
            ("unix:hunter2", format!("unix:// without a path that begins with /{form}")),
            ("unix:///", format!("unix:// without a path that begins with /{form}")),
            ("unix://:hunter2@/redis.sock", format!("no host{form}")),
            ("unix:///redis.sock?db=hunter2", format!("the path is not a database number{form}")),
            (
                "unix:///redis.sock?pass=hunter2",
                format!("a query or fragment, which is not understood{form}"),
            ),
            ("redis:hunter2", format!("no host{form}")),
            ("redis://", format!("no host{form}")),
            ("redis:///1", format!("no host{form}")),
            ("redis://:hunter2@", format!("no host{form}")),
            ("redis://:hunter2@/1", format!("no host{form}")),
            ("redis://:hunter2%40cache", format!("no host{form}")),
            ("redis://hunter2%40cache", format!("the host is not a name or an address{form}")),
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
            ("redis://:hunter2/x@cache", UrlError::Unencoded.to_string()),
            ("redis://user:12?hunter2@cache", UrlError::Unencoded.to_string()),
            ("redis://:%ffhunter2@cache", "a part is not UTF-8 once decoded".to_owned()),
            ("redis://hunter2 x", format!("not a URL{form}")),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_host_and_a_port_are_a_url_and_other_texts_stay_as_they_are() {
        for text in
            ["localhost", "localhost:6379", "redis", "my_cache.internal:1", "10.0.0.1", "[::1]", "[::1]:6380"]
        {
            assert_eq!(with_scheme(text), format!("redis://{text}"));
            assert!(parse(&with_scheme(text)).is_ok(), "{text}");
        }
        for text in [
            "",
            "6379",
            ":6379",
            "cache:",
            "cache:hunter2",
            "me@cache",
            "cache/2",
            "::1",
            "[::1",
            "[cache]",
            "a b",
            "redis://cache",
            "unix:///s",
            "/run/redis.sock",
        ] {
            assert_eq!(with_scheme(text), text);
        }
    }

    #[test]
    fn the_scheme_selects_the_transport() {
        let endpoint = |text| parse(text).map(|url| (url.endpoint, url.db));
        let address = |port| Address { host: "cache".to_owned(), port };
        assert_eq!(endpoint("rediss://cache:6380/2"), Ok((Endpoint::Tls(address(6380)), 2)));
        for url in ["REDISS://cache", "valkeys://cache"] {
            assert_eq!(endpoint(url), Ok((Endpoint::Tls(address(6379)), 0)), "{url}");
        }
        let socket = |path: &str| Endpoint::Unix(PathBuf::from(path));
        assert_eq!(endpoint("unix:///run/redis.sock"), Ok((socket("/run/redis.sock"), 0)));
        assert_eq!(endpoint("unix:/run/redis.sock?db=3"), Ok((socket("/run/redis.sock"), 3)));
        assert_eq!(endpoint("unix:///run/a%20b@c.sock"), Ok((socket("/run/a b@c.sock"), 0)));
        for text in ["redis://cache:6379/2", "rediss://cache:6379", "unix:///run/redis.sock?db=3"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_url_is_shown_without_user_and_password() {
        let url = parse("redis://monitor:hunter2@[::1]:6380/3").unwrap();
        assert_eq!(url.to_string(), "redis://[::1]:6380/3");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert_eq!(parse("redis://cache").unwrap().to_string(), "redis://cache:6379");
    }

    #[test]
    fn a_url_accepts_separate_credentials_only_if_it_has_none() {
        for (text, open) in [
            ("redis://cache", (true, true)),
            ("redis://monitor@cache", (false, true)),
            ("redis://:hunter2@cache", (false, false)),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.is_open_to_a_username(), url.is_open_to_a_password()), open, "{text}");
        }
    }
}
