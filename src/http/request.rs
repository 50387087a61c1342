//! The parts of a request that a reply may depend on. Request bodies are never read.

use hyper::Method;
use hyper::header::{ACCEPT_ENCODING, HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use url::{Host, Url, form_urlencoded};

use crate::http::encoding::Encoding;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, HEAD included.
    pub method: Method,
    /// The path, still percent-encoded: an encoded slash is no separator.
    pub path: String,
    /// The decoded parameters of the query, in their order. A parameter without `=` has an empty value.
    pub query: Vec<(String, String)>,
    /// The preferred content coding, for replies that come in several.
    pub encoding: Encoding,
    /// The headers of a browser about the page that sent it.
    pub origin: RequestOrigin,
}

/// The headers of a browser about the page that sent a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestOrigin {
    /// Host and port that the client believes to have connected to.
    host: Option<String>,
    /// `Origin`.
    origin: Option<String>,
    /// `Sec-Fetch-Site`.
    site: Option<String>,
}

/// Domains that are not public, so that no foreign page can be loaded from there.
const PRIVATE_DOMAINS: [&str; 6] = ["home.arpa", "internal", "lan", "local", "localhost", "svc"];

impl RequestOrigin {
    fn new(head: &Parts) -> Self {
        let header =
            |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let authority = head.uri.authority().map(ToString::to_string);
        Self {
            host: authority.or_else(|| header(HOST)),
            origin: header(ORIGIN),
            site: header(SEC_FETCH_SITE),
        }
    }

    /// Returns true if a page of another site may have sent the request. `external_url` is the URL of this server.
    ///
    /// A page may also make its own host name resolve to this server. So a host name in a public domain is that of
    /// another site unless it is in `external_url`.
    #[must_use]
    pub fn is_foreign(&self, external_url: Option<&str>) -> bool {
        let own = external_url.and_then(|url| Url::parse(url).ok());
        let host = self.host.as_deref().and_then(|host| Url::parse(&format!("http://{host}")).ok());
        let is_cross_site = self.site.as_deref().is_some_and(|site| !["same-origin", "none"].contains(&site));
        let is_other_origin = self.origin.as_deref().is_some_and(|origin| {
            let Ok(origin) = Url::parse(origin) else { return true };
            let is_own = own.as_ref().is_some_and(|own| own.origin() == origin.origin());
            !is_own
                && host.as_ref().is_none_or(|host| {
                    host.host() != origin.host() || port_of(host, &origin) != origin.port_or_known_default()
                })
        });
        let is_other_host = match &self.host {
            None => false,
            Some(_) => !host.as_ref().is_some_and(|host| {
                is_private(host) || own.as_ref().is_some_and(|own| own.host() == host.host())
            }),
        };
        is_cross_site || is_other_origin || is_other_host
    }
}

/// Returns the port of a host, which has the scheme of `origin`.
fn port_of(host: &Url, origin: &Url) -> Option<u16> {
    host.port().or_else(|| {
        if origin.port().is_none() { origin.port_or_known_default() } else { host.port_or_known_default() }
    })
}

fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            !name.contains('.')
                || PRIVATE_DOMAINS
                    .iter()
                    .any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
        }
        None => false,
    }
}

impl Request {
    /// Reads a request's head.
    pub fn new(head: &Parts) -> Self {
        let accepted = head.headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        let query = head.uri.query().unwrap_or_default();
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            encoding: Encoding::accepted(accepted),
            origin: RequestOrigin::new(head),
        }
    }

    /// Returns the values of a query parameter.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the decoded segments of the path, from the one after the first slash.
    pub fn path_parts(&self) -> impl Iterator<Item = Vec<u8>> {
        self.path.split('/').skip(1).map(|part| percent_decode_str(part).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> Request {
        Request::new(&hyper::Request::get(uri).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_query_is_decoded_into_pairs() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("/", &[]),
            ("/?", &[]),
            ("/?a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
            ("/?&a&&b=", &[("a", ""), ("b", "")]),
            ("/?a=b=c", &[("a", "b=c")]),
            ("/?a=x+y%20z%2b", &[("a", "x y z+")]),
            ("/?a%3D=%26", &[("a=", "&")]),
            ("/?a=%c3%A9%ff", &[("a", "\u{e9}\u{fffd}")]),
            ("/?a=%&b=%4&c=%zz%", &[("a", "%"), ("b", "%4"), ("c", "%zz%")]),
        ];
        for (uri, expected) in cases {
            let query = request(uri).query;
            let query: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(query, *expected, "{uri}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_foreign() {
        let external = Some("https://gauge.example.com/streams");
        for (headers, is_foreign) in [
            (&[][..], false),
            (&[("host", "127.0.0.1:10121")], false),
            (&[("host", "[::1]:10121")], false),
            (&[("host", "streamgauge:10121")], false),
            (&[("host", "streamgauge.monitoring.svc.cluster.local")], false),
            (&[("host", "streamgauge.monitoring.svc:10121")], false),
            (&[("host", "gauge.example.com")], false),
            (&[("host", "evil.example:10121")], true),
            (&[("host", "evilsvc.example")], true),
            (&[("host", "not a host")], true),
            (&[("host", "127.0.0.1:10121"), ("origin", "http://127.0.0.1:10121")], false),
            (&[("host", "localhost"), ("origin", "http://localhost")], false),
            (&[("host", "localhost"), ("origin", "https://localhost")], false),
            (&[("host", "localhost:10121"), ("origin", "http://localhost")], true),
            (&[("host", "127.0.0.1:10121"), ("origin", "http://127.0.0.1:8080")], true),
            (&[("host", "127.0.0.1:10121"), ("origin", "http://evil.example")], true),
            (&[("host", "evil.example"), ("origin", "http://evil.example")], true),
            (&[("host", "10.0.0.1"), ("origin", "https://gauge.example.com")], false),
            (&[("host", "127.0.0.1"), ("origin", "null")], true),
            (&[("host", "127.0.0.1"), ("sec-fetch-site", "cross-site")], true),
            (&[("host", "127.0.0.1"), ("sec-fetch-site", "same-site")], true),
            (&[("host", "127.0.0.1"), ("sec-fetch-site", "same-origin")], false),
        ] {
            let builder = headers
                .iter()
                .fold(hyper::Request::post("/"), |builder, (name, value)| builder.header(*name, *value));
            let origin = Request::new(&builder.body(()).unwrap().into_parts().0).origin;
            assert_eq!(origin.is_foreign(external), is_foreign, "{headers:?}");
        }
    }

    #[test]
    fn a_parameter_may_come_more_than_once() {
        let request = request("/api?target=a&stream=s&target=b");
        assert_eq!(request.parameters("target").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(request.parameters("group").next(), None);
    }

    #[test]
    fn the_path_keeps_its_encoding_and_its_parts_are_decoded() {
        let request = request("/groups/a%2Fb/%ff+%/?x=1");
        assert_eq!(request.path, "/groups/a%2Fb/%ff+%/");
        let parts: [&[u8]; 4] = [b"groups", b"a/b", b"\xff+%", b""];
        assert_eq!(request.path_parts().collect::<Vec<_>>(), parts);
    }
}
