//! A report as Prometheus text, format 0.0.4.
//!
//! Series are written from the report into a buffer. No metric vector outlives a poll, so a stream that is deleted in
//! Redis leaves no series. Each family of each target is a [segment], written and compressed when a reader asks for
//! it; a compressed page concatenates segments, which are kept for further readers until the next poll begins.

pub mod alerts;
pub mod render;
pub mod segment;
pub mod text;
