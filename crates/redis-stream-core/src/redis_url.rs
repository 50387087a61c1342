//! URLs of servers, `redis://`, `rediss://` and `unix://`, read in the same way for the exporter and for the
//! workload. Pure: nothing is resolved or connected here. Messages never quote any part of a URL, since a
//! password with a `/` in it can turn up in every part.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use url::{Host, ParseError, Url};

use crate::secret::Secret;

/// What a URL may look like, as messages say it.
pub const FORM: &str = "redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]";

/// What is wrong where a user or a password is given beside a URL that holds one, after how messages call it.
pub const CREDENTIALS_TWICE: &str = "has credentials too; expected them in one place";

/// What is wrong with a user who has no password.
pub const USER_WITHOUT_PASSWORD: &str = "a user without a password; expected a password too";

/// The port of a server that names none.
const DEFAULT_PORT: u16 = 6379;

/// The port of a sentinel that names none.
pub const SENTINEL_PORT: u16 = 26379;

/// Schemes that others read, and what takes their place here: known, so that they are refused by name.
const ELSEWHERE: [(&str, &str); 11] = [
    ("valkey", "redis://"),
    ("valkeys", "rediss://"),
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

/// What a URL says. `Display` shows no user and no password, `Debug` no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Where the server is.
    pub place: Place,
    /// Database number; 0 where the URL names none.
    pub db: u32,
    /// ACL user; `None` is the default user.
    pub username: Option<String>,
    /// Password; `None` is no authentication, unless a password is given beside the URL.
    pub password: Option<Secret>,
}

/// Where a server listens, and how it is spoken to. `Display` shows host and port, or the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Over TCP, in clear: `redis://`.
    Tcp(Address),
    /// Over TCP, secured by TLS: `rediss://`.
    Tls(Address),
    /// A unix socket, by its path: `unix://`.
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

/// What is wrong with a URL, and what was expected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// A scheme for what is said in another way here.
    #[error("{scheme}:// is not understood; expected {instead}")]
    Elsewhere {
        /// The scheme, from our own list.
        scheme: &'static str,
        /// What takes its place.
        instead: &'static str,
    },
    /// The sign that a user or password was not percent-encoded.
    #[error(
        r##"an "@" behind the host; expected "/", "?" and "#" in a user or password as %2F, %3F and %23"##
    )]
    Unencoded,
    /// It does not read as a URL.
    #[error("not a URL; expected {FORM}")]
    Unreadable,
    /// Another scheme.
    #[error("not the URL of a Redis server; expected {FORM}")]
    Scheme,
    /// Nothing to connect to.
    #[error("no host; expected {FORM}")]
    NoHost,
    /// Characters that no name of a host has: a part of a password, most likely.
    #[error("the host is not a name or an address; expected {FORM}")]
    Host,
    /// Something else in place of the port, or a number too large for one.
    #[error("the port is no number up to 65535")]
    Port,
    /// Port 0.
    #[error("port 0; expected 1 to 65535")]
    PortZero,
    /// Something else in place of the database number.
    #[error("the path is not a database number; expected {FORM}")]
    Path,
    /// A number that no database can have.
    #[error("the database number is too large")]
    Database,
    /// A unix socket on another host, or none at all.
    #[error("unix:// without a path that begins with /; expected {FORM}")]
    Socket,
    /// What follows a `?` or `#`.
    #[error("a query or fragment, which is not understood; expected {FORM}")]
    Query,
    /// Percent-encoded bytes that are not text.
    #[error("a part is not UTF-8 once decoded")]
    NotUtf8,
}

/// Reads a URL.
///
/// # Errors
///
/// What is wrong, and what was expected.
pub fn parse(text: &str) -> Result<ServerUrl, UrlError> {
    parse_with_port(text, DEFAULT_PORT)
}

/// The same, with another port where the URL names none.
///
/// # Errors
///
/// What is wrong, and what was expected.
pub fn parse_with_port(text: &str, default_port: u16) -> Result<ServerUrl, UrlError> {
    let scheme = text.trim_start().split_once(':').map_or("", |(scheme, _)| scheme);
    if let Some((scheme, instead)) =
        ELSEWHERE.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(scheme))
    {
        return Err(UrlError::Elsewhere { scheme, instead });
    }
    let is_unix = scheme.eq_ignore_ascii_case("unix");
    if !is_unix && has_at_sign_behind_the_authority(text) {
        return Err(UrlError::Unencoded);
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::InvalidPort => UrlError::Port,
        ParseError::EmptyHost => UrlError::NoHost,
        _ => UrlError::Unreadable,
    })?;
    match url.scheme() {
        "unix" => socket(&url),
        "redis" => over_tcp(&url, default_port, Place::Tcp),
        "rediss" => over_tcp(&url, default_port, Place::Tls),
        _ => Err(UrlError::Scheme),
    }
}

fn over_tcp(
    url: &Url,
    default_port: u16,
    place: impl FnOnce(Address) -> Place,
) -> Result<ServerUrl, UrlError> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UrlError::Query);
    }
    let password = url.password().filter(|password| !password.is_empty()).map(decode).transpose()?;
    let username = Some(url.username()).filter(|name| !name.is_empty()).map(decode).transpose()?;
    let place = place(address(url, default_port)?);
    Ok(ServerUrl { place, db: db(url.path())?, username, password: password.map(Secret::new) })
}

/// User and password are given beside it: the form has no room for them.
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
    Ok(ServerUrl { place: Place::Unix(decode(url.path())?.into()), db, username: None, password: None })
}

impl ServerUrl {
    /// Whether a user may be given beside the URL: it holds no credentials at all.
    #[must_use]
    pub fn is_open_to_a_username(&self) -> bool {
        self.username.is_none() && self.password.is_none()
    }

    /// Whether a password may be given beside the URL: it holds none.
    #[must_use]
    pub fn is_open_to_a_password(&self) -> bool {
        self.password.is_none()
    }
}

/// `redis://host:port`, with the database where it is not 0.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, before_db) = match self.place {
            Place::Tcp(_) => ("redis", "/"),
            Place::Tls(_) => ("rediss", "/"),
            Place::Unix(_) => ("unix", "?db="),
        };
        write!(f, "{scheme}://{}", self.place)?;
        match self.db {
            0 => Ok(()),
            db => write!(f, "{before_db}{db}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// `host:port`, with brackets around an IPv6 address.
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
        Some(Host::Domain(name)) => name_of_a_host(name)?,
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        None => return Err(UrlError::NoHost),
    };
    match url.port() {
        Some(0) => Err(UrlError::PortZero),
        port => Ok(Address { host, port: port.unwrap_or(default_port) }),
    }
}

/// Hosts are shown in logs and labels, so what cannot be one is not taken for one.
fn name_of_a_host(text: &str) -> Result<String, UrlError> {
    let name = decode(text)?;
    if name.is_empty() {
        return Err(UrlError::NoHost);
    }
    let is_a_name = name.chars().all(|char| char.is_alphanumeric() || "-._".contains(char));
    if is_a_name { Ok(name) } else { Err(UrlError::Host) }
}

fn db(path: &str) -> Result<u32, UrlError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    // `parse` alone would take "+1".
    let digits = path.chars().all(|char| char.is_ascii_digit());
    match path {
        "" => Ok(0),
        number if digits => number.parse().map_err(|_| UrlError::Database),
        _ => Err(UrlError::Path),
    }
}

/// The sign that a password was not encoded: what follows its first `/` was taken for a path.
fn has_at_sign_behind_the_authority(text: &str) -> bool {
    let Some((_, behind_scheme)) = text.split_once("://") else { return false };
    behind_scheme.split_once(['/', '?', '#']).is_some_and(|(_, behind)| behind.contains('@'))
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
            place: Place::Tcp(Address { host: host.to_owned(), port }),
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
            ("VALKEYS://hunter2", "valkeys:// is not understood; expected rediss://".to_owned()),
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
    fn how_a_server_is_spoken_to_is_the_scheme() {
        let place = |text| parse(text).map(|url| (url.place, url.db));
        let address = |port| Address { host: "cache".to_owned(), port };
        assert_eq!(place("rediss://cache:6380/2"), Ok((Place::Tls(address(6380)), 2)));
        assert_eq!(place("REDISS://cache"), Ok((Place::Tls(address(6379)), 0)));
        let socket = |path: &str| Place::Unix(PathBuf::from(path));
        assert_eq!(place("unix:///run/redis.sock"), Ok((socket("/run/redis.sock"), 0)));
        assert_eq!(place("unix:/run/redis.sock?db=3"), Ok((socket("/run/redis.sock"), 3)));
        assert_eq!(place("unix:///run/a%20b@c.sock"), Ok((socket("/run/a b@c.sock"), 0)));
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
    fn credentials_beside_a_url_that_holds_some_are_known() {
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
