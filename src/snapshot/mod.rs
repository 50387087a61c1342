//! What a node said, typed, and the questions that can be put to it. Pure: no Redis, no clock.
//!
//! Replies are facts here, not judgements: absent and nil are kept apart where the server does, and nothing
//! is derived. What the facts mean is the business of [`lag`](crate::lag).

pub mod facts;
pub mod id;
pub mod name;
pub mod question;
