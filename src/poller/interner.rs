//! Keeps each name in memory once: a consumer reads many streams under one name, and is reported in every poll.

use std::collections::HashSet;

use redis_stream_core::name::Name;

/// The names that are in use, or were in use recently.
#[derive(Debug, Default)]
pub struct NameInterner(HashSet<Name>);

impl NameInterner {
    /// Returns the shared name of these bytes.
    pub fn name(&mut self, bytes: &[u8]) -> Name {
        if let Some(name) = self.0.get(bytes) {
            return name.clone();
        }
        let name = Name::from(bytes);
        self.0.insert(name.clone());
        name
    }

    /// Drops the names that are no longer in use.
    pub(super) fn forget_unused(&mut self) {
        self.0.retain(|name| name.is_shared());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_for_as_long_as_somebody_holds_it() {
        let mut names = NameInterner::default();
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
