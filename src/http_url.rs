//! URLs of HTTP servers: `http[s]://[user:password@]host[:port][/path][?query]`. The path of a webhook is often a secret, so
//! messages quote no part of a URL.

use std::fmt;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use url::{Host, ParseError, Url};

use redis_stream_core::redis_url::{Address, has_at_sign_after_authority};
use redis_stream_core::secret::Secret;

/// The form of a URL in messages.
const FORM: &str = "http[s]://[user:password@]host[:port][/path]";

/// The URL of an HTTP server. `Display` and `Debug` show scheme, host and port, and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port; 80 or 443 if the URL has no port.
    pub address: Address,
    /// Path and query as sent, percent-encoded; begins with `/`.
    pub path: Secret,
    /// User and password, decoded; `None` if the URL has none.
    pub credentials: Option<(String, Secret)>,
}

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// A text is not a valid URL. Messages say what was expected.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HttpUrlError {
    /// An `@` behind the host: a user or password was not percent-encoded.
    #[error(
        r##"an "@" behind the host; expected "/", "?" and "#" in a user or password as %2F, %3F and %23, and "@" in a path as %40"##
    )]
    Unencoded,
    /// Not a URL.
    #[error("not a URL; expected {FORM}")]
    Unreadable,
    /// A scheme other than `http` and `https`.
    #[error("not an http:// or https:// URL; expected {FORM}")]
    Scheme,
    /// No host.
    #[error("no host; expected {FORM}")]
    NoHost,
    /// Characters that host names cannot have, probably of a password.
    #[error("the host is not a name or an address; expected {FORM}")]
    Host,
    /// A port that is no number, or too large.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// A fragment (`#`).
    #[error("a fragment (#), which no server is sent; expected {FORM}")]
    Fragment,
    /// A query (`?`) in a URL that paths are added to.
    #[error("a query (?); expected the address of the server alone, with a path where it has one")]
    Query,
    /// A user without a password, or a password without a user.
    #[error("a user without a password, or the reverse; expected both or none")]
    HalfOfCredentials,
    /// Percent-encoded bytes that are not UTF-8.
    #[error("a user or password that is not UTF-8 once decoded")]
    NotUtf8,
}

impl HttpUrl {
    /// Parses a URL that is used as it is.
    ///
    /// # Errors
    ///
    /// The text is not such a URL.
    pub fn parse(text: &str) -> Result<Self, HttpUrlError> {
        let text = text.trim();
        if has_at_sign_after_authority(text) {
            return Err(HttpUrlError::Unencoded);
        }
        let url = Url::parse(text).map_err(|error| match error {
            ParseError::InvalidPort => HttpUrlError::Port,
            ParseError::EmptyHost => HttpUrlError::NoHost,
            _ => HttpUrlError::Unreadable,
        })?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(HttpUrlError::Scheme),
        };
        if url.fragment().is_some() {
            return Err(HttpUrlError::Fragment);
        }
        let path = match url.query() {
            None => url.path().to_owned(),
            Some(query) => format!("{}?{query}", url.path()),
        };
        Ok(Self { scheme, address: address(&url)?, path: Secret::new(path), credentials: credentials(&url)? })
    }

    /// Parses a URL that paths are added to.
    ///
    /// # Errors
    ///
    /// The text is not such a URL.
    pub fn parse_base(text: &str) -> Result<Self, HttpUrlError> {
        let url = Self::parse(text)?;
        if url.path.expose().contains('?') { Err(HttpUrlError::Query) } else { Ok(url) }
    }

    /// Appends `path`, which begins with `/`.
    pub fn below(&self, path: &str) -> Self {
        let path = format!("{}{path}", self.path.expose().trim_end_matches('/'));
        Self { path: Secret::new(path), ..self.clone() }
    }

    /// Returns the value of the header `Host`: without the port if it is the default of the scheme.
    pub fn authority(&self) -> String {
        let shown = self.address.to_string();
        let default = format!(":{}", self.scheme.default_port());
        shown.strip_suffix(&default).map_or(shown.clone(), str::to_owned)
    }
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// `https://host:port`.
impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/[redacted]")
    }
}

fn address(url: &Url) -> Result<Address, HttpUrlError> {
    let host = match url.host() {
        Some(Host::Domain("")) | None => return Err(HttpUrlError::NoHost),
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
    };
    // Logs show the host, which could be a part of a password.
    if !host.chars().all(|char| char.is_ascii_alphanumeric() || "-._:".contains(char)) {
        return Err(HttpUrlError::Host);
    }
    match url.port_or_known_default() {
        Some(0) | None => Err(HttpUrlError::Port),
        Some(port) => Ok(Address { host, port }),
    }
}

fn credentials(url: &Url) -> Result<Option<(String, Secret)>, HttpUrlError> {
    let decode = |text| percent_decode_str(text).decode_utf8().map_err(|_| HttpUrlError::NotUtf8);
    match (url.username(), url.password().unwrap_or_default()) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(HttpUrlError::HalfOfCredentials),
        (user, password) => Ok(Some((decode(user)?.into_owned(), Secret::new(decode(password)?)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls() {
        for (text, shown, authority, path) in [
            ("http://am", "http://am:80", "am", "/"),
            ("http://am:9093", "http://am:9093", "am:9093", "/"),
            ("https://am:443/", "https://am:443", "am", "/"),
            ("https://am/prefix/", "https://am:443", "am", "/prefix/"),
            ("http://[::1]:9093/a%20b", "http://[::1]:9093", "[::1]:9093", "/a%20b"),
            ("http://[::1]", "http://[::1]:80", "[::1]", "/"),
            (
                " https://hooks.example.com/T0/B0?x=1\n",
                "https://hooks.example.com:443",
                "hooks.example.com",
                "/T0/B0?x=1",
            ),
            ("http://am:8080", "http://am:8080", "am:8080", "/"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.authority().as_str(), url.path.expose()),
                (shown, authority, path)
            );
            assert_eq!(url.credentials, None);
        }
    }

    #[test]
    fn credentials_are_decoded_and_not_shown() {
        let url = HttpUrl::parse("https://mo%3An:hunter%2F2@am/hunter2").unwrap();
        assert_eq!(url.credentials, Some(("mo:n".to_owned(), Secret::new("hunter/2"))));
        assert_eq!(format!("{url} {url:?}"), "https://am:443 https://am:443/[redacted]");
    }

    #[test]
    fn paths_are_added_behind_a_prefix() {
        for (base, path) in [
            ("http://am", "/api/v2/alerts"),
            ("http://am/", "/api/v2/alerts"),
            ("http://am/prefix", "/prefix/api/v2/alerts"),
            ("http://am/prefix/", "/prefix/api/v2/alerts"),
        ] {
            assert_eq!(HttpUrl::parse_base(base).unwrap().below("/api/v2/alerts").path.expose(), path);
        }
        assert_eq!(HttpUrl::parse_base("http://am/?x=1"), Err(HttpUrlError::Query));
    }

    #[test]
    fn bad_urls_are_explained_without_quoting_them() {
        for (text, error) in [
            ("", HttpUrlError::Unreadable),
            ("hunter2", HttpUrlError::Unreadable),
            ("hunter2@am:9093", HttpUrlError::Unreadable),
            ("am:9093", HttpUrlError::Scheme),
            ("ftp://hunter2", HttpUrlError::Scheme),
            ("http://", HttpUrlError::NoHost),
            ("http://user:hunter2@", HttpUrlError::NoHost),
            ("http://am:hunter2", HttpUrlError::Port),
            ("http://am:0", HttpUrlError::Port),
            ("http://am:65536", HttpUrlError::Port),
            ("http://am/#hunter2", HttpUrlError::Fragment),
            ("http://user:hunter2/x@am", HttpUrlError::Unencoded),
            ("http://am/hunter2@x", HttpUrlError::Unencoded),
            ("http://hunter2@am", HttpUrlError::HalfOfCredentials),
            ("http://:hunter2@am", HttpUrlError::HalfOfCredentials),
            ("http://u:%ffhunter2@am", HttpUrlError::NotUtf8),
            ("http://hunter2$am", HttpUrlError::Host),
        ] {
            let found = HttpUrl::parse(text).unwrap_err();
            assert_eq!(found, error, "{text}");
            assert!(!format!("{found} {found:?}").contains("hunter2"), "{text}");
        }
    }
}
