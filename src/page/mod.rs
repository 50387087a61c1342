//! Pages for people, and what programs read besides metrics, rendered on the server.
//!
//! Pages are made by [maud](https://maud.lambda.xyz): templates that the compiler checks, that escape all text, and
//! that are functions, so that a badge or a chart is written once; its only dependency at run time is itoa. Names from
//! Redis are hostile and go through `label` besides.
//!
//! | file | what it makes |
//! | --- | --- |
//! | [`view`] | nothing: what the pages are made of |
//! | [`overview`] | the first page |
//! | [`group`] | the page of a group |
//! | [`trail`] | the recent past of groups, for `chart` |
//! | [`assets`] | style sheet, script and icon |

mod alert_list;
pub mod assets;
mod chart;
mod examples;
mod frame;
pub mod group;
mod label;
pub mod overview;
pub mod trail;
pub mod view;
