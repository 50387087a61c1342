//! A report as Prometheus text, format 0.0.4.
//!
//! The series of streams are written straight into a buffer, from the report: no vectors of gauges live from
//! poll to poll, so what is gone from Redis is gone from `/metrics`. Each family of each target is one
//! [segment], written and compressed once per report; a scrape puts segments together.

pub mod alerts;
pub mod render;
pub mod segment;
pub mod text;
