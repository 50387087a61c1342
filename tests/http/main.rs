//! The HTTP server over real sockets, as a client sees it.

mod client;
mod limits;
mod replies;
mod shutdown;
