//! A report as Prometheus text, format 0.0.4.
//!
//! Series are written from the report into a buffer. No metric vector outlives a poll, so a stream that is deleted in
//! Redis leaves no series. Each family of each target is a [segment], written and compressed when the first reader of a
//! report asks for it, and kept until the next poll begins; a scrape concatenates segments.

pub mod alerts;
mod reader_cache;
pub mod render;
pub mod segment;
pub mod text;
