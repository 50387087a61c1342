//! What people see in a terminal: groups as a table, a view of them that is drawn again and again, and pending
//! entries. Pure but for `screen`: everything is made of what JSON holds too.
//!
//! Names from Redis may hold anything. All text goes through [`text::printable`] before it reaches a terminal.
//!
//! The tables are laid out here and not by a crate for tables: where there is little room, columns are left out and
//! names are cut short, the same in the printed table and in the view, which no such crate does. What would be left
//! for one is to pad cells.

pub mod columns;
pub mod draw;
pub mod entries;
pub mod keys;
pub mod layout;
pub mod screen;
pub mod table;
pub mod text;
pub mod view;
