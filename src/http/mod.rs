//! An HTTP/1 server over a bound listener.
//!
//! The program implements [`Routes`](routes::Routes) and counts what is answered; nothing here knows Redis, targets or
//! metrics.
//!
//! | file | contents |
//! | --- | --- |
//! | [`listener`] | binds the socket |
//! | [`server`] | accepts connections, drains them at shutdown |
//! | `connection` | one connection: access control, then one request after the other |
//! | `activity` | progress and idle time of one connection |
//! | `transport` | the stream under hyper: disconnects a client that does not read, closes without losing a reply |
//! | [`limits`] | limits on clients |
//! | [`access`], [`tls`] | access control: users, certificates |
//! | [`routes`], [`request`], [`encoding`] | the interface to the program, and its input |
//! | [`reply`], [`body`] | its output |

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
