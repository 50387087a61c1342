//! Composition roots, one per subcommand: the only code that knows all layers.

pub mod source;
