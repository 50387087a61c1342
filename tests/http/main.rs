//! The HTTP server over real sockets, as a client sees it.

mod client;
mod gate;
mod limits;
mod replies;
mod shutdown;
mod tls;
