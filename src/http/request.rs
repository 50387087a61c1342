//! The parts of a request that an answer may depend on. There is no body: request bodies are never read.

use hyper::Method;
use hyper::header::ACCEPT_ENCODING;
use hyper::http::request::Parts;

use crate::http::encoding::Encoding;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, HEAD included.
    pub method: Method,
    /// The path as it was sent, percent-encoding and all: only its parts can be decoded without mistaking an
    /// encoded slash for a separator.
    pub path: String,
    /// The parameters of the query, decoded, in their order. A parameter without `=` has an empty value.
    pub query: Vec<(String, String)>,
    /// The coding to answer in, where the answer comes in several.
    pub encoding: Encoding,
}

impl Request {
    /// Takes what is needed from the head of a request.
    #[must_use]
    pub fn new(head: &Parts) -> Self {
        let accepted = head.headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: pairs(head.uri.query().unwrap_or_default()),
            encoding: Encoding::accepted(accepted),
        }
    }

    /// The values of the query's parameters of this name.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The parts of the path between its slashes, decoded; the first comes after the first slash.
    pub fn path_parts(&self) -> impl Iterator<Item = Vec<u8>> {
        self.path.split('/').skip(1).map(|part| decode(part, Plus::Itself))
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (text(name), text(value))
        })
        .collect()
}

/// One component of a query as browsers read it: bytes that are no UTF-8 become U+FFFD.
fn text(component: &str) -> String {
    String::from_utf8_lossy(&decode(component, Plus::Space)).into_owned()
}

/// What `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    /// In a query, for a space.
    Space,
    /// In a path, for itself.
    Itself,
}

/// Decodes a component; a `%` without two hex digits stands for itself.
fn decode(component: &str, plus: Plus) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(component.len());
    let mut rest = component.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'+', _) if plus == Plus::Space => (b' ', tail),
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (nibble(*high) << 4 | nibble(*low), tail)
            }
            _ => (*first, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    decoded
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
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
