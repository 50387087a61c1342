//! The lag of a group at an end of the stream, from its first and last ID alone. Exact on every server version, and
//! needs no further command.

use crate::snapshot::StreamInfo;
use redis_stream_core::id::StreamId;

/// Maximum number of orphaned pending entries that are counted.
pub(crate) const MAX_ORPHANS: u32 = 1_000;

/// Returns the lag at `last_delivered` if that is at or beyond an end of the stream, `None` if it is in between.
pub(crate) fn lag_from_bounds(info: &StreamInfo, last_delivered: StreamId) -> Option<u64> {
    let (Some(first), Some(last)) = (info.first, info.last) else { return Some(0) };
    if last_delivered >= last {
        Some(0)
    } else if last_delivered < first {
        Some(info.length)
    } else if last_delivered == first {
        info.length.checked_sub(1)
    } else {
        None
    }
}

/// Returns the oldest entry above `last_delivered` if that is the first entry of the stream.
pub(crate) fn next_entry(info: &StreamInfo, last_delivered: StreamId) -> Option<StreamId> {
    info.first.filter(|first| last_delivered < *first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(length: u64, first: Option<u64>, last: Option<u64>) -> StreamInfo {
        let id = |ms| StreamId::new(ms, 0);
        StreamInfo::of_ids(length, first.map(id), last.map(id), id(20))
    }

    #[test]
    fn the_bounds_give_the_lag_at_an_end_of_the_stream() {
        for (length, first, last, last_delivered, expected) in [
            (0, None, None, 0, Some(0)),
            (0, None, None, 99, Some(0)),
            (10, Some(5), Some(14), 0, Some(10)),
            (10, Some(5), Some(14), 4, Some(10)),
            (10, Some(5), Some(14), 5, Some(9)),
            (10, Some(5), Some(14), 6, None),
            (10, Some(5), Some(14), 13, None),
            (10, Some(5), Some(14), 14, Some(0)),
            (10, Some(5), Some(14), 20, Some(0)),
            (10, Some(5), Some(14), 99, Some(0)),
            (1, Some(5), Some(5), 5, Some(0)),
            (1, Some(5), Some(5), 4, Some(1)),
        ] {
            let lag = lag_from_bounds(&info(length, first, last), StreamId::new(last_delivered, 0));
            assert_eq!(lag, expected, "{length} entries {first:?} to {last:?}, group at {last_delivered}");
        }
    }

    #[test]
    fn the_next_entry_is_the_first_one_for_a_group_before_it() {
        let info = info(10, Some(5), Some(14));
        assert_eq!(next_entry(&info, StreamId::new(4, 9)), Some(StreamId::new(5, 0)));
        assert_eq!(next_entry(&info, StreamId::new(5, 0)), None);
    }
}
