//! What was delivered and not acknowledged.

use crate::generator::panel::Panel;
use crate::generator::query::Subject::Group;
use crate::generator::threshold::{alarm, of_alert};
use crate::generator::{Opens, Row};

/// The row.
pub(crate) fn row() -> Row {
    let panels = vec![
        Panel {
            title: "Pending entries, the most",
            what: "Entries that were delivered to the group and not acknowledged (the PEL).",
            advice: "if it rises without end, consumers do not send XACK, or fail and leave their entries pending. \
                The lag does not include these entries.",
            queries: vec![Group.worst("redis_stream_group_messages_pending")],
            ..Panel::lines()
        },
        Panel {
            title: "A pending entry, untouched for the longest",
            what: "The longest time since any pending entry was last delivered, by the last census; 0 if none is \
                pending. Red where the recommended alert fires.",
            advice: "its consumer is gone or hangs: the group's page and XPENDING show the consumer; XAUTOCLAIM \
                claims the entry for another one. If it is gone from the stream, XACK it.",
            unit: "s",
            steps: alarm(of_alert("RedisStreamPendingStuck")),
            queries: vec![Group.worst("redis_stream_group_pending_max_idle_seconds")],
            ..Panel::lines()
        },
        Panel {
            title: "Age of the oldest pending entry, the highest",
            what: "How long ago the oldest pending entry was added; 0 if none is pending.",
            advice: "old, and delivered many times (next panel): an entry that fails each time. Old, and not \
                delivered again: no consumer has claimed it.",
            unit: "s",
            queries: vec![Group.worst("redis_stream_group_oldest_pending_age_seconds")],
            size: (6, 8),
            ..Panel::lines()
        },
        Panel {
            title: "Deliveries of a pending entry, the most",
            what: "Most deliveries of any pending entry, by the last census. Red where the recommended alert fires.",
            advice: "it is probably an entry that no consumer can process: XRANGE shows its fields. Add it to \
                another stream, then XACK it.",
            steps: alarm(of_alert("RedisStreamPendingRedelivered")),
            queries: vec![Group.worst("redis_stream_group_pending_max_deliveries")],
            nothing: "nothing is pending",
            size: (6, 8),
            ..Panel::lines()
        },
        Panel {
            title: "Pending entries delivered again, the most",
            what: "Pending entries that were delivered more than once, by the last census.",
            advice: "some are normal after a consumer was restarted. If their number keeps growing, consumers fail, \
                or take longer than the idle time after which others claim their entries.",
            queries: vec![Group.worst("redis_stream_group_pending_redelivered")],
            size: (6, 8),
            ..Panel::lines()
        },
        Panel {
            title: "Pending, but trimmed away, the most",
            what: "Pending entries that are no longer in the stream: no consumer can process them any more.",
            advice: "entries are trimmed before they are processed: raise MAXLEN. XAUTOCLAIM (7.0 and later) or \
                XACK removes them from the list.",
            steps: alarm(1.0),
            queries: vec![Group.worst("redis_stream_group_pending_orphaned")],
            size: (6, 8),
            ..Panel::lines()
        },
    ];
    Row { title: "Pending", opens: Opens::AtOnce, panels }
}
