//! The same configuration from flags in place of a file, or over one. A flag is laid over the key path that
//! it stands for and then read and judged as a key of a file is, except that `${NAME}` is left to the shell.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use crate::config::cursor::{Flag, Tree};
use crate::config::env::Environment;
use crate::config::error::ConfigError;
use crate::config::{Config, load};

/// Flags that go with a configuration file, and over what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `web.listen`.
    pub listen: Option<Flag>,
    /// `poll.interval`. Timeout and stale_after follow it, unless the file sets them.
    pub interval: Option<Flag>,
    /// `poll.shard`.
    pub shard: Option<Flag>,
}

/// A server and what to poll there, given by flags alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `targets[0].url`.
    pub url: Flag,
    /// What else is said of it, with the key below `targets[0]`: `username`, `tls.ca_file`. Paths are relative to the
    /// working directory.
    pub settings: Vec<(&'static str, Flag)>,
    /// `targets[0].streams[].key`. Empty is all streams.
    pub streams: Vec<Flag>,
}

/// A configuration from a file, with flags over it.
///
/// # Errors
///
/// The file cannot be read, or all that is wrong in it and in the flags.
pub fn over_file(
    path: &Path,
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    load::file(path, overrides.laid_over(), environment)
}

/// A configuration from flags alone: one target, and defaults for the rest.
///
/// # Errors
///
/// All that is wrong in the flags.
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

    /// The lists and maps that the flags lie over: one target, with an item for each stream.
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
