//! Names of keys, groups and consumers. Redis does not require them to be UTF-8.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use crate::escape::{escape, unescape};

/// The name of a key, group or consumer, as bytes. Cheap to clone.
///
/// [`Display`](fmt::Display) writes the [escaped](crate::escape) text, which is unambiguous and always UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Returns the bytes of the name in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns true if clones of this value exist, which share its bytes.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Creates a name from its [escaped text](Self::text). Text without escapes is used as it is.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        unescape(text).into()
    }

    /// Returns the name as [escaped](crate::escape) text.
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
