//! Names of keys, groups and consumers: bytes, not text.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use crate::escape::{escape, unescape};

/// Name of a key, a group or a consumer. Cheap to clone.
///
/// Its [`Display`](fmt::Display) is the [escaped](crate::escape) text, as names are shown everywhere outside Redis.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Returns the bytes as Redis has them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns true if the name has clones.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Returns the name that is shown as this [text](Self::text).
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        unescape(text).into()
    }

    /// Returns the name as text; see [`escape`](crate::escape).
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        escape(&self.0)
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text(), f)
    }
}
