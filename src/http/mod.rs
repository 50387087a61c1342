//! An HTTP/1 server over a bound listener: sockets, limits, routing by path, and replies.
//!
//! It answers with what a plain function makes of a [request](request::Request), and knows nothing of Redis,
//! targets or metrics: the composition root fills the [router](routes::Router) and counts what is answered.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`listener`] | binds the socket |
//! | [`server`] | accepts connections, ends them at shutdown |
//! | `activity` | what is known of one connection: who waits for whom |
//! | `connection` | one connection: hyper over the transport, one request after the other |
//! | `transport` | the stream under hyper: cuts off who does not read, closes without losing the answer |
//! | [`limits`] | what a client may take |
//! | [`gate`], [`tls`], [`access`] | what a client must pass |
//! | [`routes`], [`request`], [`encoding`] | from a request to the function that answers it |
//! | [`reply`], [`body`] | from that function to the bytes sent |
//!
//! A function in the router runs on the reactor, so it must only read what is already there; what takes
//! longer to render is a [streamed body](body::Body::stream). Authentication is in front of the router, in
//! `connection`; TLS between the socket and `transport`, which takes any stream.

pub mod access;
mod activity;
pub mod body;
mod connection;
pub mod encoding;
pub mod limits;
pub mod listener;
pub mod reply;
pub mod request;
pub mod routes;
pub mod server;
pub mod tls;
mod transport;
