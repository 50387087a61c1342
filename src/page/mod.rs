//! The pages for people, rendered on the server.
//!
//! Pages are [maud](https://maud.lambda.xyz) templates: the compiler checks them, they escape all text, and they are
//! functions. Names from Redis also go through `label`, since they may be hostile.

mod alert_list;
pub mod assets;
mod chart;
mod events;
pub mod group;
pub mod history;
mod label;
mod layout;
pub mod model;
pub mod overview;
mod test_support;
