//! Names that come again and again, kept in memory once: a consumer reads many streams under one name, and is
//! reported in every poll.

use std::collections::HashSet;

use redis_stream_core::name::Name;

/// Names that somebody holds, or held not long ago.
#[derive(Debug, Default)]
pub struct Names(HashSet<Name>);

impl Names {
    /// The name of these bytes: the one that is there already, or else a new one.
    pub fn name(&mut self, bytes: &[u8]) -> Name {
        if let Some(name) = self.0.get(bytes) {
            return name.clone();
        }
        let name = Name::from(bytes);
        self.0.insert(name.clone());
        name
    }

    /// Forgets the names that nobody holds any more.
    pub(super) fn forget_unused(&mut self) {
        self.0.retain(|name| name.is_shared());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_for_as_long_as_somebody_holds_it() {
        let mut names = Names::default();
        let (first, second) = (names.name(b"worker-1"), names.name(b"worker-1"));
        assert_eq!(first.as_bytes().as_ptr(), second.as_bytes().as_ptr(), "it is one and the same");
        names.name(b"worker-2");
        names.forget_unused();
        assert_eq!(names.0.len(), 1);
        drop((first, second));
        names.forget_unused();
        assert_eq!(names.0.len(), 0);
    }
}
