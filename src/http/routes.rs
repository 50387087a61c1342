//! The interface between the server and the program: what answers its requests.

use crate::http::reply::Reply;
use crate::http::request::Request;

/// The route of all paths that have none of their own.
pub const OTHER: &str = "other";

/// Answers the requests of a server.
pub trait Routes: Send + Sync + 'static {
    /// Returns the route of a path. Routes label metrics, so their number is fixed.
    fn route(&self, path: &str) -> &'static str;

    /// Returns true if requests for a route need no authentication, whatever their method.
    fn is_open(&self, route: &str) -> bool;

    /// Answers a request. HEAD is answered like GET, the connection leaves out the body. The future is dropped when the
    /// client disconnects, and runs on the reactor: a reply that takes long to render is a streamed body.
    fn reply(&self, route: &'static str, request: &Request) -> impl Future<Output = Reply> + Send;
}
