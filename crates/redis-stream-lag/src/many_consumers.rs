//! The idle consumers of groups that have too many consumers to be read in every poll. No command lists a part of a
//! group's consumers, so such a group is read whole, one group in a poll, and each once an hour.

use std::time::Duration;

/// Number of consumers above which a group is not read at all: listing as many takes about 5 ms of the server's time.
pub const MAX_LISTED: u64 = 20_000;
/// Time after which a group is read again.
pub(crate) const PERIOD: Duration = Duration::from_secs(60 * 60);
