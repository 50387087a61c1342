//! `web.links`: links from pages and alerts to other tools, with placeholders for names.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;

/// Characters that are percent-encoded in a name: all but those that stand for themselves in every part of a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The names of the placeholders, parallel to the fields of [`LinkSubject`].
const PLACEHOLDERS: [&str; 5] = ["target", "db", "stream", "group", "alert"];
/// The index of the placeholder that only alerts fill.
const ALERT: usize = 4;

/// A link to another tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebLink {
    /// Its text.
    pub name: String,
    parts: Vec<LinkPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LinkPart {
    Text(String),
    /// An index in [`PLACEHOLDERS`].
    Placeholder(usize),
}

/// The names that fill the placeholders; `None` for those that the subject does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSubject<'a> {
    /// Name of the target.
    pub target: Option<&'a str>,
    /// `db0`, `db1` and so on.
    pub db: Option<&'a str>,
    /// Key of the stream.
    pub stream: Option<&'a str>,
    /// Name of the group.
    pub group: Option<&'a str>,
    /// Name of the alert.
    pub alert: Option<&'a str>,
}

/// An error in the URL of a link. Its message quotes nothing of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WebLinkError {
    /// Another scheme, or no host.
    #[error("not a URL of a web page; expected http:// or https:// and a host")]
    Url,
    /// A user name or password.
    #[error("a user name or password, which every reader of a page would see; expected a URL without")]
    Credentials,
    /// Blanks or control characters.
    #[error("a blank or a control character; expected it percent-encoded")]
    Characters,
    /// `{{` without `}}`, or an unknown name between them.
    #[error(
        "a placeholder that is not known; expected {{{{target}}}}, {{{{db}}}}, {{{{stream}}}}, {{{{group}}}} or {{{{alert}}}}"
    )]
    Placeholder,
    /// A placeholder in the host.
    #[error("a placeholder in the host; expected it in the path, the query or the fragment")]
    Host,
}

impl WebLink {
    /// Reads a URL with placeholders.
    ///
    /// # Errors
    ///
    /// It is not such a URL.
    pub fn new(name: String, url: &str) -> Result<Self, WebLinkError> {
        let parts = parts(url)?;
        let Some(LinkPart::Text(first)) = parts.first() else { return Err(WebLinkError::Url) };
        let scheme = ["https://", "http://"].iter().find(|scheme| first.starts_with(*scheme));
        let rest = &first[scheme.ok_or(WebLinkError::Url)?.len()..];
        let end = rest.find(['/', '?', '#']);
        let host = &rest[..end.unwrap_or(rest.len())];
        if host.contains('@') {
            return Err(WebLinkError::Credentials);
        }
        if end.is_none() && parts.len() > 1 {
            return Err(WebLinkError::Host);
        }
        if host.is_empty() || host.starts_with(':') {
            return Err(WebLinkError::Url);
        }
        let is_odd = |text: &str| text.chars().any(|c| c.is_whitespace() || c.is_control());
        let has_odd = parts.iter().any(|part| matches!(part, LinkPart::Text(text) if is_odd(text)));
        if has_odd { Err(WebLinkError::Characters) } else { Ok(Self { name, parts }) }
    }

    /// Returns its URL for a subject; `None` if a placeholder stands for something that the subject does not have.
    pub fn url(&self, subject: &LinkSubject<'_>) -> Option<String> {
        let LinkSubject { target, db, stream, group, alert } = *subject;
        let names = [target, db, stream, group, alert];
        let mut url = String::new();
        for part in &self.parts {
            match part {
                LinkPart::Text(text) => url.push_str(text),
                LinkPart::Placeholder(index) => url.extend(utf8_percent_encode(names[*index]?, ESCAPED)),
            }
        }
        Some(url)
    }

    /// Returns true if it is about an alert.
    pub fn is_of_alert(&self) -> bool {
        self.parts.contains(&LinkPart::Placeholder(ALERT))
    }
}

fn parts(url: &str) -> Result<Vec<LinkPart>, WebLinkError> {
    let mut parts = Vec::new();
    let mut rest = url;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, after) = behind.split_once("}}").ok_or(WebLinkError::Placeholder)?;
        let index = PLACEHOLDERS.iter().position(|one| *one == name.trim());
        if !before.is_empty() {
            parts.push(LinkPart::Text(before.to_owned()));
        }
        parts.push(LinkPart::Placeholder(index.ok_or(WebLinkError::Placeholder)?));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(LinkPart::Text(rest.to_owned()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: LinkSubject<'_> = LinkSubject {
        target: Some("shop"),
        db: Some("db0"),
        stream: Some("orders:\u{fc} \"'<x>"),
        group: Some("a/b&c=d?#%"),
        alert: None,
    };

    #[test]
    fn names_are_percent_encoded_and_what_is_missing_makes_no_link() {
        for (url, shown) in [
            ("https://g.example.com", Some("https://g.example.com")),
            (
                "https://g.example.com/d/x?var-stream={{stream}}&var-group={{ group }}#{{target}}-{{db}}",
                Some(
                    "https://g.example.com/d/x?var-stream=orders%3A%C3%BC%20%22%27%3Cx%3E&var-group=a%2Fb%26c%3Dd%3F%23%25#shop-db0",
                ),
            ),
            (
                "http://[::1]:9090/graph?g0.expr=up%7Ba%3D%22{{target}}%22%7D",
                Some("http://[::1]:9090/graph?g0.expr=up%7Ba%3D%22shop%22%7D"),
            ),
            ("https://runbooks.example.com/{{alert}}", None),
        ] {
            let link = WebLink::new("name".to_owned(), url).unwrap();
            assert_eq!(link.url(&SUBJECT).as_deref(), shown, "{url}");
            assert_eq!(link.is_of_alert(), shown.is_none());
        }
        let runbook = WebLink::new(String::new(), "https://r.example.com/{{alert}}.html").unwrap();
        let url = runbook.url(&LinkSubject { alert: Some("LagHigh"), ..LinkSubject::default() });
        assert_eq!(url.as_deref(), Some("https://r.example.com/LagHigh.html"));
    }

    #[test]
    fn what_is_no_harmless_url_is_refused() {
        for (url, error) in [
            ("", WebLinkError::Url),
            ("javascript:alert(1)", WebLinkError::Url),
            ("JAVASCRIPT://x/%0aalert(1)", WebLinkError::Url),
            ("/relative", WebLinkError::Url),
            ("//host/x", WebLinkError::Url),
            ("https://", WebLinkError::Url),
            ("https:///x", WebLinkError::Url),
            ("https://:9090/x", WebLinkError::Url),
            ("{{target}}", WebLinkError::Url),
            ("https://user:secret@host/x", WebLinkError::Credentials),
            ("https://user@host", WebLinkError::Credentials),
            ("https://{{target}}/x", WebLinkError::Host),
            ("https://host{{target}}", WebLinkError::Host),
            ("https://host/{{targets}}", WebLinkError::Placeholder),
            ("https://host/{{target", WebLinkError::Placeholder),
            ("https://host/{{}}", WebLinkError::Placeholder),
            ("https://host/a b", WebLinkError::Characters),
            ("https://host/{{target}}\n", WebLinkError::Characters),
        ] {
            assert_eq!(WebLink::new("n".to_owned(), url), Err(error), "{url}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
