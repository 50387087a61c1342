//! The parts of a request that a reply may depend on. Request bodies are never read.

use hyper::Method;
use hyper::header::ACCEPT_ENCODING;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::http::encoding::Encoding;

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
