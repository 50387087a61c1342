//! The pages for people, rendered on the server.
//!
//! Pages are [maud](https://maud.lambda.xyz) templates: the compiler checks them, they escape all text, and they are
//! functions. Names from Redis also go through `label`, since they may be hostile.

mod advice;
mod alert_list;
pub mod assets;
mod cells;
mod chart;
pub mod event_log;
mod events;
pub mod group;
mod held;
pub mod history;
mod label;
mod layout;
mod links;
pub mod model;
pub mod overview;
pub mod saved;
pub mod stream;
mod test_support;
