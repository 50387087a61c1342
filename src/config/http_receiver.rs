//! Settings that receivers of alerts have in common: URLs, credentials, headers, TLS. No message holds a secret or any part
//! of a URL.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use crate::config::cursor::{Cursor, Section};
use crate::config::{Password, credentials, tls};
use crate::http_url::{HttpUrl, HttpUrlError};
use redis_stream_core::redis_url::CREDENTIALS_TWICE;
use redis_stream_core::secret::Secret;
use redis_stream_core::tls::Tls;

/// Settings of HTTP requests.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpClientConfig {
    /// Credentials; `None` unless configured apart from the URL.
    pub authorization: Option<Authorization>,
    /// TLS settings for `https`.
    pub tls: Tls,
    /// Deadline of one whole request, from resolving the host to the response.
    pub timeout: Duration,
}

impl HttpClientConfig {
    /// Creates settings without credentials, with the authorities of the system.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { authorization: None, tls: Tls::default(), timeout }
    }
}

/// Credentials for a receiver.
#[derive(Clone, Debug, PartialEq)]
pub enum Authorization {
    /// `basic_auth`.
    Basic {
        /// User name without a colon.
        username: String,
        /// Password.
        password: Password,
    },
    /// `bearer_token_file`.
    Bearer(
        /// Token.
        Password,
    ),
}

/// The URL of a receiver, which is a secret, or the file that holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum UrlSource {
    /// In the configuration itself.
    Url(HttpUrl),
    /// In a file, which is read for each request.
    File(Password),
}

const TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// Headers that every request has.
const RESERVED_HEADERS: [&str; 7] =
    ["connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"];

/// Reads a URL that people open: `web.external_url`, `alerts.runbook_url`; empty is none.
pub(super) fn external_url(key: &Cursor<'_>) -> Option<String> {
    let text = key.text()?.value;
    if text.is_empty() {
        return None;
    }
    let url = HttpUrl::parse_base(&text).map_err(|error| key.fault(error)).ok()?;
    if url.credentials.is_some() {
        key.fault("has credentials, which everybody would see; expected none");
    }
    Some(text.trim().trim_end_matches('/').to_owned())
}

pub(super) fn url(key: &Cursor<'_>, parse: fn(&str) -> Result<HttpUrl, HttpUrlError>) -> Option<HttpUrl> {
    parse(&key.text()?.value).map_err(|error| key.fault(error)).ok()
}

/// Reads a URL, or the file with it. The file is read once here, so that an invalid one is a fault now.
pub(super) fn url_source(url_key: &Cursor<'_>, file_key: &Cursor<'_>) -> Option<UrlSource> {
    match (url_key.is_given(), file_key.is_given()) {
        (false, false) => {
            url_key.fault(format_args!("missing; expected a URL here or in {}", file_key.label()));
            None
        }
        (true, _) => {
            file_key.refuse_beside(url_key);
            url(url_key, HttpUrl::parse).map(UrlSource::Url)
        }
        (false, true) => {
            let file = credentials::password_file(file_key)?;
            if let Ok(text) = file.read()
                && let Err(error) = HttpUrl::parse(text.expose())
            {
                file_key.fault(format_args!("in the file: {error}"));
            }
            Some(UrlSource::File(file))
        }
    }
}

/// Reads `basic_auth` or `bearer_token_file`. `url_key` is the key of a URL with credentials.
pub(super) fn authorization(section: &Section<'_>, url_key: Option<&Cursor<'_>>) -> Option<Authorization> {
    let basic_key = section.key("basic_auth");
    let bearer_key = section.key("bearer_token_file");
    for key in [&basic_key, &bearer_key] {
        if let Some(url_key) = url_key.filter(|_| key.is_given()) {
            key.fault(format_args!("{} {CREDENTIALS_TWICE}", url_key.label()));
        }
    }
    bearer_key.refuse_beside(&basic_key);
    let basic = basic_key.given_section(basic_auth);
    basic.or_else(|| Some(Authorization::Bearer(token_file(&bearer_key)?)))
}

/// Reads the file of a token, which becomes a header.
fn token_file(key: &Cursor<'_>) -> Option<Password> {
    let file = credentials::password_file(key)?;
    // An unreadable file is a fault already.
    if let Ok(token) = file.read() {
        let is_line = |token: &str| HeaderValue::try_from(token).is_ok();
        require_line(key, token.expose(), is_line, "a token");
    }
    Some(file)
}

/// Adds a fault if a file's secret is empty, or more than a line of text.
pub(super) fn require_line(
    file_key: &Cursor<'_>,
    secret: &str,
    is_line: impl Fn(&str) -> bool,
    expected: &str,
) {
    if secret.is_empty() {
        file_key.fault(format_args!("an empty file; expected {expected}"));
    } else if !is_line(secret) {
        file_key
            .fault("in the file: a control character, such as the end of a line; expected one line of text");
    }
}

fn basic_auth(section: &Section<'_>) -> Option<Authorization> {
    let username_key = section.key("username");
    let password_key = section.key("password");
    let file_key = section.key("password_file");
    username_key.require("a user");
    let username = username_key.text().map(|text| text.value);
    if username.as_ref().is_some_and(|name| name.contains(':')) {
        username_key.fault("a colon, which separates user and password; expected none");
    }
    let password = secret(&password_key, &file_key, "a password");
    let (username, password) = username.zip(password)?;
    Some(Authorization::Basic { username, password })
}

/// Reads a required secret, which is text or in a file. `expected` names it in messages.
pub(super) fn secret(text_key: &Cursor<'_>, file_key: &Cursor<'_>, expected: &str) -> Option<Password> {
    file_key.refuse_beside(text_key);
    if !file_key.is_given() {
        text_key.require(format_args!("{expected} here or in {}", file_key.label()));
    }
    let text = text_key.filled_text(expected).map(|text| Password::Text(Secret::new(text)));
    text.or_else(|| credentials::password_file(file_key))
}

/// Reads headers to be added to each request.
pub(super) fn headers(key: &Cursor<'_>, authorization: Option<&Authorization>) -> BTreeMap<String, Secret> {
    let mut headers = BTreeMap::new();
    for (name, value_key) in key.entries() {
        let lower = name.to_ascii_lowercase();
        if HeaderName::try_from(&name).is_err() {
            value_key.fault("not the name of a header; expected letters, digits and -");
        } else if RESERVED_HEADERS.contains(&lower.as_str()) {
            value_key.fault("a header that each request has anyhow; expected another");
        } else if lower == "authorization" && authorization.is_some() {
            value_key.fault("there is basic_auth or bearer_token_file too; expected one of them");
        }
        let Some(value) = value_key.text() else { continue };
        if HeaderValue::try_from(&value.value).is_err() {
            value_key.fault("a control character, such as the end of a line; expected one line of text");
        }
        if headers.insert(lower, Secret::new(value.value)).is_some() {
            value_key.fault("there already, in upper or lower case; expected it once");
        }
    }
    headers
}

/// Reads `tls` and `timeout`.
pub(super) fn http(section: &Section<'_>, authorization: Option<Authorization>) -> HttpClientConfig {
    HttpClientConfig {
        authorization,
        tls: section.key("tls").section(tls::read),
        timeout: section.key("timeout").duration(SHORTEST_TIMEOUT).unwrap_or(TIMEOUT),
    }
}
