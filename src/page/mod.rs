//! Pages for people, and what programs read besides metrics, rendered on the server.

pub mod alerts;
pub mod groups;

/// The page at `/`: what this is, and where the numbers are.
#[must_use]
pub fn landing() -> String {
    include_str!("landing.html").replace("{version}", env!("CARGO_PKG_VERSION"))
}
