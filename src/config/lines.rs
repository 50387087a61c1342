//! Finds the line of a key in a configuration. The parser reports positions only with errors, so the key is found by a
//! visitor that fails there.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::cursor::join;

/// Most bytes that are parsed for the lines of one configuration: each line takes a pass.
const MAX_BYTES: usize = 2 << 20;

/// The text of a configuration, which is parsed again for each line.
pub(super) struct LineFinder<'t> {
    text: &'t str,
    bytes_left: Cell<usize>,
}

impl<'t> LineFinder<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, bytes_left: Cell::new(MAX_BYTES) }
    }

    /// Returns the line, from 1, of a key path; of a missing key, that of the item or map that lacks it. `None` for
    /// the whole file, and where finding it would take too long.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        let mut wanted = path;
        while !wanted.is_empty() {
            self.bytes_left.set(self.bytes_left.get().checked_sub(self.text.len())?);
            if let Some(line) = line_of(self.text, wanted) {
                return Some(line);
            }
            wanted = wanted.rfind(['.', '[']).map_or("", |end| &wanted[..end]);
        }
        None
    }
}

fn line_of(text: &str, wanted: &str) -> Option<usize> {
    let is_found = Cell::new(false);
    let find = Find { wanted, path: String::new(), is_found: &is_found };
    let error = find.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().filter(|_| is_found.get()).map(|location| location.line())
}

/// Walks to the wanted path, and fails there.
struct Find<'w> {
    wanted: &'w str,
    path: String,
    is_found: &'w Cell<bool>,
}

impl Find<'_> {
    fn leads_to_wanted(&self, path: &str) -> bool {
        self.wanted.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(path) = map.next_key_seed(Key(&self))? {
            if self.leads_to_wanted(&path) {
                map.next_value_seed(Find { path, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for at in 0.. {
            let path = format!("{}[{at}]", self.path);
            let next = if path == self.wanted {
                items.next_element_seed(Stop(self.is_found))?
            } else if self.leads_to_wanted(&path) {
                items.next_element_seed(Find { path, ..self })?
            } else {
                items.next_element::<IgnoredAny>()?.map(drop)
            };
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a key, and returns its path.
struct Key<'f, 'w>(&'f Find<'w>);

impl Key<'_, '_> {
    fn path<E: Error>(&self, key: &str) -> Result<String, E> {
        let path = join(&self.0.path, key);
        if path == self.0.wanted {
            self.0.is_found.set(true);
            return Err(E::custom("found"));
        }
        Ok(path)
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<String, E> {
        self.path(&key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<String, E> {
        self.path(&key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<String, E> {
        self.path(&key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<String, E> {
        self.path(&key.to_string())
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        self.path(key)
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        self.path("")
    }
}

/// Fails at any value.
struct Stop<'w>(&'w Cell<bool>);

impl<'de> DeserializeSeed<'de> for Stop<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.set(true);
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Stop<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_own_line_and_a_missing_one_that_of_what_lacks_it() {
        let text = "# First.
poll:
  interval: 5s
targets:
  - url: a
    labels: {team: x, \"a.b\": y}
    streams: [b,
      c]

  - name: d
    streams:
      - key: e
        groups:
          include: [f]
1: g
";
        let finder = LineFinder::new(text);
        for (path, line) in [
            ("poll", Some(2)),
            ("poll.interval", Some(3)),
            ("poll.timeout", Some(2)),
            ("targets", Some(4)),
            ("targets[0]", Some(5)),
            ("targets[0].labels.team", Some(6)),
            ("targets[0].labels.\"a.b\"", Some(6)),
            ("targets[0].streams[0]", Some(7)),
            ("targets[0].streams[1]", Some(8)),
            ("targets[1]", Some(10)),
            ("targets[1].url", Some(10)),
            ("targets[1].streams[0].groups.include[0]", Some(14)),
            ("targets[2]", Some(4)),
            ("1", Some(15)),
            ("web.listen", None),
            ("", None),
        ] {
            assert_eq!(finder.line(path), line, "{path}");
        }
    }

    #[test]
    fn the_lines_of_a_large_file_are_not_all_found() {
        let text = format!("{}a: 1\n", "# comment\n".repeat(150_000));
        let finder = LineFinder::new(&text);
        assert_eq!([finder.line("a"), finder.line("a")], [Some(150_001), None]);
    }
}
