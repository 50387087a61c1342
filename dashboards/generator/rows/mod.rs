//! The rows, in the order in which somebody with a problem reads them.

use super::Row;

mod consumers;
mod everything;
mod exporter;
mod families;
mod flow;
mod lag;
mod member;
mod now;
mod pending;
mod retention;

/// All of them.
pub(crate) fn all() -> Vec<Row> {
    vec![
        now::row(),
        lag::row(),
        flow::row(),
        pending::row(),
        retention::row(),
        consumers::row(),
        everything::row(),
        families::row(),
        member::row(),
        exporter::row(),
    ]
}
