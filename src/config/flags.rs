//! Reads a configuration from flags, alone or over a file. A flag is read like the key that it stands for, except that
//! `${NAME}` is not substituted: the shell has done so.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use crate::config::cursor::{Flag, Tree};
use crate::config::env::Environment;
use crate::config::error::ConfigError;
use crate::config::{Config, load};

/// Flags that override keys of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `web.listen`.
    pub listen: Option<Flag>,
    /// `poll.interval`. The defaults of `timeout` and `stale_after` follow it.
    pub interval: Option<Flag>,
    /// `poll.shard`.
    pub shard: Option<Flag>,
}

/// A server and its streams, given by flags alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `targets[0].url`.
    pub url: Flag,
    /// Other keys of `targets[0]`, such as `username` and `tls.ca_file`. Paths are relative to the working directory.
    pub settings: Vec<(&'static str, Flag)>,
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
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    load::file(path, overrides.laid_over(), environment)
}

/// Reads a configuration from flags alone: one target, and defaults.
///
/// # Errors
///
/// All faults of the flags.
pub fn alone(server: &Server, overrides: &Overrides) -> Result<Config, ConfigError> {
    let flags = overrides.laid_over().into_iter().chain(server.laid_over()).collect();
    let nothing = |_: &str| None;
    load::read(&server.frame(), Path::new(""), &Tree::new("", flags, &nothing))
}

impl Overrides {
    fn laid_over(&self) -> Vec<(String, &Flag)> {
        named([
            ("web.listen", self.listen.as_ref()),
            ("poll.interval", self.interval.as_ref()),
            ("poll.shard", self.shard.as_ref()),
        ])
    }
}

impl Server {
    fn laid_over(&self) -> Vec<(String, &Flag)> {
        let mut flags = named([("targets[0].url", Some(&self.url))]);
        flags.extend(self.settings.iter().map(|(key, flag)| (format!("targets[0].{key}"), flag)));
        let streams = self.streams.iter().enumerate();
        flags.extend(streams.map(|(at, flag)| (format!("targets[0].streams[{at}].key"), flag)));
        flags
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

fn named<'f, const N: usize>(flags: [(&str, Option<&'f Flag>); N]) -> Vec<(String, &'f Flag)> {
    flags.into_iter().filter_map(|(path, flag)| Some((path.to_owned(), flag?))).collect()
}
