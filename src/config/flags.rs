//! Reads a configuration from flags, alone or over a file. A flag is read like the key that it stands for, except that
//! `${NAME}` is not substituted: the shell has done so.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use crate::config::cursor::{Flag, Tree};
use crate::config::env::Environment;
use crate::config::error::ConfigError;
use crate::config::{Config, load};

/// Keys with the flags that are laid over them.
pub type KeyedFlags = Vec<(&'static str, Flag)>;

/// A server and its streams, given by flags alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `targets[0].url`.
    pub url: Flag,
    /// Other keys of `targets[0]`, such as `username` and `tls.ca_file`. Paths are relative to the working directory.
    pub settings: KeyedFlags,
    /// `targets[0].streams[].key`; empty for all streams.
    pub streams: Vec<Flag>,
}

/// Reads a file with flags over it.
///
/// # Errors
///
/// The file cannot be read, or all faults of file and flags.
pub fn over_file(
    path: &Path,
    overrides: &KeyedFlags,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    load::file(path, laid_over("", overrides).collect(), environment)
}

/// Reads a configuration from flags alone: one target, and defaults.
///
/// # Errors
///
/// All faults of the flags.
pub fn alone(server: &Server, overrides: &KeyedFlags) -> Result<Config, ConfigError> {
    let flags = laid_over("", overrides).chain(server.laid_over()).collect();
    let nothing = |_: &str| None;
    load::read(&server.frame(), &Tree::new("", Path::new(""), flags, &nothing))
}

impl Server {
    fn laid_over(&self) -> impl Iterator<Item = (String, &Flag)> {
        let streams = self.streams.iter().enumerate();
        let streams = streams.map(|(at, flag)| (format!("targets[0].streams[{at}].key"), flag));
        let url = ("targets[0].url".to_owned(), &self.url);
        std::iter::once(url).chain(laid_over("targets[0].", &self.settings)).chain(streams)
    }

    /// Returns the lists and maps that the flags lie over: one target, with an item for each stream.
    fn frame(&self) -> Value {
        let empty = || Value::Mapping(Mapping::new());
        let map = |key: &str, list| Value::Mapping(Mapping::from_iter([(key.into(), Value::Sequence(list))]));
        let target = match self.streams.len() {
            0 => empty(),
            count => map("streams", std::iter::repeat_with(empty).take(count).collect()),
        };
        map("targets", vec![target])
    }
}

fn laid_over<'f>(above: &str, flags: &'f KeyedFlags) -> impl Iterator<Item = (String, &'f Flag)> {
    flags.iter().map(move |(key, flag)| (format!("{above}{key}"), flag))
}
