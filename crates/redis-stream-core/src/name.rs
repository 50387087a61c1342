//! Names of keys, groups and consumers. Redis does not require them to be UTF-8.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use triomphe::ThinArc;

use crate::escape::{escape, unescape};

/// The name of a key, group or consumer, as bytes. Cheap to clone, and eight bytes large: reports hold it many times.
///
/// [`Display`](fmt::Display) writes the [escaped](crate::escape) text, which is unambiguous and always UTF-8.
#[derive(Clone)]
pub struct Name(ThinArc<(), u8>);

impl Name {
    /// Returns the bytes of the name in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// Returns true if clones of this value exist, which share its bytes.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        ThinArc::strong_count(&self.0) > 1
    }

    /// Returns true if both are clones of one name. It does not look at the bytes, which are rarely in the processor's cache.
    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.0.as_ptr(), other.0.as_ptr())
    }

    /// Creates a name from its [escaped text](Self::text). Text without escapes is used as it is.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        unescape(text).into()
    }

    /// Returns the name as [escaped](crate::escape) text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        escape(self.as_bytes())
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice((), bytes))
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.is_same(other) { Ordering::Equal } else { self.as_bytes().cmp(other.as_bytes()) }
    }
}

/// The same as of its bytes, which [`Borrow`] needs.
impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_name_takes_eight_bytes_and_is_found_by_its_bytes() {
        assert_eq!((size_of::<Name>(), size_of::<Option<Name>>()), (8, 8));
        let names = [&b""[..], b"a", b"a\0", b"a\xff", b"b"].map(Name::from);
        assert!(names.is_sorted() && names[1] != names[2]);
        let places: HashMap<_, _> = names.iter().cloned().zip(0..).collect();
        for (place, name) in names.iter().enumerate() {
            assert_eq!(places.get(name.as_bytes()), Some(&place));
        }
    }

    #[test]
    fn a_clone_shares_the_bytes() {
        let name = Name::from("orders");
        assert!(!name.is_shared());
        let clone = name.clone();
        assert!(name.is_shared() && std::ptr::eq(name.as_bytes(), clone.as_bytes()));
        assert!(name.is_same(&clone) && name == clone && name.cmp(&clone) == Ordering::Equal);
        let other = Name::from("orders");
        assert!(!name.is_same(&other) && name == other && name.cmp(&other) == Ordering::Equal);
        drop(clone);
        assert!(!name.is_shared());
    }
}
