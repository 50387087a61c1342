//! Pages for people, rendered on the server.

/// The page at `/`: what this is, and where the numbers are.
#[must_use]
pub fn landing() -> String {
    include_str!("landing.html").replace("{version}", env!("CARGO_PKG_VERSION"))
}
