//! What the facts mean: how far each group is behind, in entries and in seconds. Pure: no Redis, no clock.
//!
//! The lag of a group depends on the stream and on the group's last-delivered-id alone: it is the number of
//! entries with an ID above it. The server's own `lag` is nil or wrong in ordinary use on every version, so
//! it is never used. One poll goes like this:
//!
//! 1. [`inquiry::Inquiry::open`] sees the [`Snapshot`](crate::facts::Snapshot), brings what is
//!    [remembered](memory) of each stream up to it or forgets it, and [settles](settle) each group that the
//!    facts alone settle.
//! 2. [`inquiry::Inquiry::questions`] says what is still to be asked, within the [budget];
//!    [`inquiry::Inquiry::answer`] takes the answers. This goes on until nothing is left to ask.
//! 3. [`inquiry::Inquiry::close`] is the [`Report`](report::Report).
//!
//! Each group then gets its [status], from a bounded history of it.
//!
//! What is not known at the end is not known in the report: there is no default, and no 0.

mod audit;
pub mod budget;
mod cases;
pub mod counters;
mod derive;
pub mod extent;
pub mod facts;
mod healing;
mod history;
pub mod inquiry;
pub mod loss;
pub mod marks;
pub mod memory;
mod model;
mod pending;
mod plan;
mod properties;
pub mod question;
pub mod report;
pub mod settle;
pub mod status;
pub mod walk;
