//! The reply to a request.

use bytes::Bytes;
use hyper::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};

use crate::http::body::{Body, Frames, compressed};
use crate::http::encoding::Encoding;
use crate::http::request::Request;

/// A status, headers and a body. `Content-Length` and `X-Content-Type-Options` are added, and a streamed body is
/// compressed for clients that accept it.
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
    /// The coding of a body that exists in several.
    encoding: Option<Encoding>,
}

impl Reply {
    /// Creates a reply.
    ///
    /// # Panics
    ///
    /// The content type is not a valid header value, which no literal should be.
    pub fn new(status: StatusCode, content_type: &'static str, body: Body) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Self { status, headers, body, encoding: None }
    }

    /// Creates a short reply for people, such as an error.
    pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", Body::Whole(text.into()))
    }

    /// Returns the reply to a path without a route.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }

    /// Returns the reply to a method that a route does not have; `allowed` is a list of those it has.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let reply = Self::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        reply.header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// Creates a reply without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Body::Chunks(Vec::new()), encoding: None }
    }

    /// Adds a header; a name may be added several times.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Declares the coding of a body that exists in several. It is sent unchanged.
    pub fn encoding(self, encoding: Encoding) -> Self {
        Self { encoding: Some(encoding), ..self }
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers set so far.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Creates the response to a request. A streamed body needs a Tokio runtime.
    pub(crate) fn into_response(self, request: &Request) -> Response<Frames> {
        let (body, encoding) = match (self.body, self.encoding) {
            (Body::Stream(render), None) => match request.encoding {
                Encoding::Identity => (Body::Stream(render), Some(Encoding::Identity)),
                Encoding::Gzip => (Body::Stream(compressed(render)), Some(Encoding::Gzip)),
            },
            made => made,
        };
        let frames = match body {
            // Without a length there is nothing to send for HEAD.
            Body::Stream(_) if request.method == Method::HEAD => Frames::default(),
            // For HEAD hyper sends the length of other bodies and omits the bytes.
            body => Frames::new(body),
        };
        let mut response = Response::new(frames);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        if encoding.is_some() {
            // For either coding: caches must know that there are others.
            headers.append(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if encoding == Some(Encoding::Gzip) {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::RequestOrigin;

    fn request(method: Method, encoding: Encoding) -> Request {
        Request {
            method,
            path: "/".to_owned(),
            query: Vec::new(),
            encoding,
            origin: RequestOrigin::default(),
        }
    }

    fn headers(reply: Reply) -> Vec<String> {
        // What is not streamed is as it is, whatever the client takes.
        let response = reply.into_response(&request(Method::GET, Encoding::Gzip));
        response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_reply_in_gzip_says_so_and_that_it_varies() {
        let reply = Reply::new(StatusCode::OK, "text/plain", Body::Chunks(Vec::new()));
        assert_eq!(
            headers(reply.encoding(Encoding::Gzip)),
            [
                "content-type: text/plain",
                "vary: accept-encoding",
                "content-encoding: gzip",
                "x-content-type-options: nosniff",
            ]
        );
    }

    #[test]
    fn a_reply_that_could_be_in_gzip_varies_too() {
        let reply = Reply::empty(StatusCode::OK).encoding(Encoding::Identity);
        assert_eq!(headers(reply), ["vary: accept-encoding", "x-content-type-options: nosniff"]);
    }

    #[test]
    fn a_header_may_come_more_than_once() {
        let cookie = HeaderName::from_static("set-cookie");
        let reply = Reply::empty(StatusCode::OK)
            .header(cookie.clone(), HeaderValue::from_static("a=1"))
            .header(cookie, HeaderValue::from_static("b=2"));
        assert_eq!(headers(reply), ["set-cookie: a=1", "set-cookie: b=2", "x-content-type-options: nosniff"]);
    }

    #[test]
    fn a_streamed_body_is_not_rendered_for_head() {
        for (encoding, coded) in [(Encoding::Identity, None), (Encoding::Gzip, Some("gzip"))] {
            let body = Body::stream(|_| panic!("rendered for HEAD"));
            // Outside of a runtime: to render would panic in itself.
            let response = Reply::new(StatusCode::OK, "text/plain", body)
                .into_response(&request(Method::HEAD, encoding));
            let header = |name: HeaderName| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!((header(CONTENT_ENCODING), header(VARY)), (coded, Some("accept-encoding")));
        }
    }

    #[test]
    fn what_is_short_and_there_already_is_sent_as_it_is() {
        assert_eq!(
            headers(Reply::text(StatusCode::OK, "fine")),
            ["content-type: text/plain; charset=utf-8", "x-content-type-options: nosniff"]
        );
    }
}
