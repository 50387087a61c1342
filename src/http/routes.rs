//! Which function answers which request, as data.

use futures_util::future::BoxFuture;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, StatusCode};

use crate::http::reply::Reply;
use crate::http::request::Request;

/// The name under which requests are counted that match no route.
pub const OTHER: &str = "other";

/// Makes a reply that must be waited for.
type Later = dyn Fn(&Request) -> BoxFuture<'static, Reply> + Send + Sync;

/// What makes a reply.
enum Source {
    /// Of what is there already.
    Now(Box<dyn Fn(&Request) -> Reply + Send + Sync>),
    /// Of what must be waited for.
    Later(Box<Later>),
}

struct Route {
    pattern: &'static str,
    method: Method,
    source: Source,
    /// Whether it is answered without authentication.
    is_open: bool,
}

impl Route {
    /// Whether the path is of the pattern. A part `{...}` of a pattern stands for any one part of a path.
    fn leads(&self, path: &str) -> bool {
        let (mut pattern, mut parts) = (self.pattern.split('/'), path.split('/'));
        loop {
            match (pattern.next(), parts.next()) {
                (None, None) => return true,
                (Some(expected), Some(part)) if expected == part || expected.starts_with('{') => {}
                _ => return false,
            }
        }
    }

    /// HEAD is answered by what answers GET: the connection leaves out the body.
    fn answers(&self, method: &Method) -> bool {
        self.method == *method || (self.method == Method::GET && *method == Method::HEAD)
    }
}

/// The routes of a server.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// A router that knows no path.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route for GET, and with it HEAD. The pattern is an exact path, but for parts `{...}`, which stand for
    /// any one part each.
    #[must_use]
    pub fn get(
        self,
        pattern: &'static str,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.route(Method::GET, pattern, reply)
    }

    /// Adds a route for a method. The pattern is as in [`get`](Self::get); several methods may share one.
    #[must_use]
    pub fn route(
        mut self,
        method: Method,
        pattern: &'static str,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let source = Source::Now(Box::new(reply));
        self.routes.push(Route { pattern, method, source, is_open: false });
        self
    }

    /// Adds a route for GET and HEAD that is answered without authentication.
    #[must_use]
    pub fn open(
        mut self,
        pattern: &'static str,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let source = Source::Now(Box::new(reply));
        self.routes.push(Route { pattern, method: Method::GET, source, is_open: true });
        self
    }

    /// Adds a route for POST whose reply takes a while. When the client leaves the future is dropped.
    #[must_use]
    pub fn post_and_wait<F>(
        mut self,
        pattern: &'static str,
        reply: impl Fn(&Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let source = Source::Later(Box::new(move |request| Box::pin(reply(request))));
        self.routes.push(Route { pattern, method: Method::POST, source, is_open: false });
        self
    }

    /// The pattern that a path matches, or [`OTHER`].
    #[must_use]
    pub fn pattern(&self, path: &str) -> &'static str {
        self.routes.iter().find(|route| route.leads(path)).map_or(OTHER, |route| route.pattern)
    }

    /// Whether a path is answered without authentication.
    #[must_use]
    pub fn is_open(&self, path: &str) -> bool {
        let mut here = self.routes.iter().filter(|route| route.leads(path)).peekable();
        here.peek().is_some() && here.all(|route| route.is_open)
    }

    /// The patterns of all routes and [`OTHER`], each once: every name that a request can be counted under.
    #[must_use]
    pub fn patterns(&self) -> Vec<&'static str> {
        let mut patterns: Vec<_> = self.routes.iter().map(|route| route.pattern).chain([OTHER]).collect();
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }

    /// Answers a request, and names the pattern it matched.
    pub async fn answer(&self, request: &Request) -> (&'static str, Reply) {
        let here: Vec<_> = self.routes.iter().filter(|route| route.leads(&request.path)).collect();
        let Some(first) = here.first() else {
            return (OTHER, Reply::text(StatusCode::NOT_FOUND, "not found\n"));
        };
        let reply = match here.iter().find(|route| route.answers(&request.method)).map(|route| &route.source)
        {
            Some(Source::Now(reply)) => reply(request),
            Some(Source::Later(reply)) => reply(request).await,
            None => method_not_allowed(&here),
        };
        (first.pattern, reply)
    }
}

fn method_not_allowed(routes: &[&Route]) -> Reply {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
    let allowed: Vec<_> = known
        .iter()
        .filter(|method| routes.iter().any(|route| route.answers(method)))
        .map(Method::as_str)
        .collect();
    let allowed = HeaderValue::from_str(&allowed.join(", ")).expect("method names are header text");
    Reply::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n").header(ALLOW, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::encoding::Encoding;

    fn request(method: Method, path: &str) -> Request {
        Request { method, path: path.to_owned(), query: Vec::new(), encoding: Encoding::Identity }
    }

    fn router() -> Router {
        let teapot = |_: &Request| Reply::text(StatusCode::IM_A_TEAPOT, "teapot\n");
        let fine = |_: &Request| Reply::text(StatusCode::OK, "fine\n");
        let later = |_: &Request| async { Reply::text(StatusCode::OK, "fine\n") };
        let router = Router::new().get("/", fine).get("/tea", teapot).route(Method::POST, "/tea", fine);
        router.post_and_wait("/-/reload", later).open("/-/healthy", fine).get("/of/{name}/x", fine)
    }

    #[tokio::test]
    async fn a_request_is_answered_by_path_and_method() {
        let cases = [
            (Method::GET, "/", "/", 200, None),
            (Method::HEAD, "/", "/", 200, None),
            (Method::GET, "/tea", "/tea", 418, None),
            (Method::HEAD, "/tea", "/tea", 418, None),
            (Method::POST, "/tea", "/tea", 200, None),
            (Method::POST, "/-/reload", "/-/reload", 200, None),
            (Method::DELETE, "/", "/", 405, Some("GET, HEAD")),
            (Method::OPTIONS, "/tea", "/tea", 405, Some("GET, HEAD, POST")),
            (Method::GET, "/-/reload", "/-/reload", 405, Some("POST")),
            (Method::HEAD, "/-/reload", "/-/reload", 405, Some("POST")),
            (Method::GET, "/tea/", OTHER, 404, None),
            (Method::GET, "", OTHER, 404, None),
            (Method::OPTIONS, "*", OTHER, 404, None),
            (Method::GET, "/of/a%2Fb/x", "/of/{name}/x", 200, None),
            (Method::HEAD, "/of//x", "/of/{name}/x", 200, None),
            (Method::POST, "/of/a/x", "/of/{name}/x", 405, Some("GET, HEAD")),
            (Method::GET, "/of/a/y", OTHER, 404, None),
            (Method::GET, "/of/a/x/", OTHER, 404, None),
            (Method::GET, "/of/x", OTHER, 404, None),
        ];
        for (method, path, route, code, allow) in cases {
            let (answered, reply) = router().answer(&request(method.clone(), path)).await;
            assert_eq!(router().pattern(path), route);
            assert_eq!((answered, reply.status().as_u16()), (route, code), "{method} {path}");
            let sent = reply.headers().iter().find(|(name, _)| *name == ALLOW);
            assert_eq!(sent.map(|(_, value)| value.to_str().unwrap()), allow, "{method} {path}");
        }
    }

    #[test]
    fn every_name_to_count_under_is_known_beforehand() {
        assert_eq!(router().patterns(), ["/", "/-/healthy", "/-/reload", "/of/{name}/x", "/tea", OTHER]);
    }

    #[test]
    fn only_what_is_added_as_such_is_open() {
        for (path, is_open) in [("/-/healthy", true), ("/", false), ("/tea", false), ("/-/healthy/", false)] {
            assert_eq!(router().is_open(path), is_open, "{path}");
        }
    }
}
