//! The table of values: each metric of streams, groups and consumers with its help, type, unit, labels and alert fact,
//! and the function that reads it from a report. `/metrics`, alert facts, JSON, pages and the terminal read values
//! through it, and `make doc-tables` writes the documentation from it, so a new value is a new row.

pub mod family;
pub mod table;

#[cfg(test)]
mod fold_tests;
