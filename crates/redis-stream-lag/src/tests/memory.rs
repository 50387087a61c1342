//! Holds the sizes of what is kept for each stream and group: the table in `docs/performance.md`.

use crate::census::Census;
use crate::checkpoints::Checkpoint;
use crate::history::TrackedPending;
use crate::open::{GroupState, StreamState};
use crate::report::{
    ConsumerCensus, ConsumerReport, GroupReport, PendingCensus, PendingReport, ReportedStream, StreamReport,
};
use crate::settled::Settled;
use crate::snapshot::{ConsumerInfo, GroupInfo, StreamInfo, StreamReading};
use crate::state::{GroupCache, KnownPending, RareGroup, StreamCache};

/// Size of the count in front of what an `Arc` of triomphe points to.
const COUNT: usize = size_of::<usize>();

/// Each limit is a size class of jemalloc, or a part of one.
#[test]
fn what_is_kept_of_each_stream_and_group_fits_its_size_class() {
    for (what, bytes, most) in [
        ("state of a stream", size_of::<StreamCache>(), 320),
        ("state of a group", size_of::<GroupCache>(), 256),
        ("pending entries of a group", size_of::<KnownPending>(), 80),
        ("oldest pending entry in a history", size_of::<TrackedPending>(), 32),
        ("what few groups have", size_of::<RareGroup>(), 64),
        ("census", size_of::<Census>(), 96),
        ("result of a census", 2 * COUNT + size_of::<PendingCensus>(), 112),
        ("five entries in a census", 5 * size_of::<PendingReport>(), 256),
        ("three consumers in a census", 3 * size_of::<ConsumerCensus>(), 128),
        ("time without derivations", size_of::<Settled>(), 32),
        ("three counted positions", 3 * size_of::<Checkpoint>(), 96),
        ("stream in a report", size_of::<ReportedStream>(), 16),
        ("values of a stream", COUNT + size_of::<StreamReport>(), 224),
        ("two groups in a report", 2 * size_of::<GroupReport>(), 512),
        ("three consumers in a report", 3 * size_of::<ConsumerReport>(), 80),
        ("stream in a reading", size_of::<StreamReading>(), 64),
        ("stream in a reading, with its IDs", size_of::<StreamInfo>(), 192),
        ("two groups in a reading", 2 * size_of::<GroupInfo>(), 160),
        ("three consumers in a reading", 3 * size_of::<ConsumerInfo>(), 96),
        ("stream in a poll", size_of::<StreamState>(), 112),
        ("two groups in a poll", 2 * size_of::<GroupState>(), 96),
    ] {
        assert!(bytes <= most, "{what}: {bytes} bytes, not {most}");
    }
}
