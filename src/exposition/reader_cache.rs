//! What the first reader of a page makes, for further readers.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A value that is made when it is first asked for. While the cache is closed it keeps nothing: each reader makes the
/// value for itself.
#[derive(Debug)]
pub(super) struct ReaderCache<T>(Mutex<Option<Arc<OnceLock<Arc<T>>>>>);

impl<T> Default for ReaderCache<T> {
    /// Creates an open cache.
    fn default() -> Self {
        Self(Mutex::new(Some(Arc::default())))
    }
}

impl<T> ReaderCache<T> {
    /// Returns the value. Readers that ask at the same time wait for the one that makes it.
    pub(super) fn get_or_make(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let shared = self.lock().clone();
        match shared {
            Some(shared) => Arc::clone(shared.get_or_init(|| Arc::new(make()))),
            None => Arc::new(make()),
        }
    }

    /// Keeps the next value that is made. Does nothing if the cache is open.
    pub(super) fn open(&self) {
        self.lock().get_or_insert_default();
    }

    /// Drops the value, unless a reader has it, and keeps none.
    pub(super) fn close(&self) {
        let closed = self.lock().take();
        // Not while it is locked: to drop a large value takes time.
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<OnceLock<Arc<T>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shared_while_the_cache_is_open() {
        let (cache, mut made) = (ReaderCache::default(), 0);
        let mut get = |cache: &ReaderCache<u32>| {
            *cache.get_or_make(|| {
                made += 1;
                made
            })
        };
        assert_eq!([get(&cache), get(&cache)], [1, 1]);
        cache.close();
        assert_eq!([get(&cache), get(&cache)], [2, 3], "each reader makes its own");
        cache.open();
        assert_eq!([get(&cache), get(&cache)], [4, 4]);
        cache.open();
        assert_eq!(get(&cache), 4, "an open cache keeps its value");
    }

    #[test]
    fn a_closed_cache_leaves_the_value_to_the_readers_that_have_it() {
        let cache = ReaderCache::default();
        let value = cache.get_or_make(|| "page".to_owned());
        let weak = Arc::downgrade(&value);
        cache.close();
        assert_eq!(*value, "page");
        drop(value);
        assert!(weak.upgrade().is_none(), "it takes no memory once no reader has it");
    }
}
