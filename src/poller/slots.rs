//! The hash slots of a cluster and their owners.

use crate::poller::resp::Value;
use redis_stream_core::cluster::Redirect;
use redis_stream_core::name::Name;

const SLOTS: u16 = 16_384;
const UNOWNED: u16 = u16::MAX;

/// Returns the slot of a key: the CRC16 of its hash tag (the text between the first `{` and the next `}`, unless
/// empty), or else of the whole key.
pub(super) fn slot(key: &Name) -> u16 {
    crc16(hashed(key.as_bytes())) % SLOTS
}

/// Returns the CRC16 that Redis Cluster uses (XMODEM).
pub(super) fn crc16(bytes: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(bytes)
}

fn hashed(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let behind = &key[open + 1..];
    match behind.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => &behind[..close],
    }
}

/// A range of slots and the master that owns them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first slot.
    pub first: u16,
    /// The last slot, inclusive.
    pub last: u16,
    /// Host and port of the master; an empty host means the node that was asked.
    pub master: (String, u16),
}

/// The owner of each slot, as a position in the list of nodes.
#[derive(Clone, Debug)]
pub(super) struct Slots(Box<[u16]>);

impl Slots {
    pub(super) fn new() -> Self {
        Self(vec![UNOWNED; usize::from(SLOTS)].into())
    }

    /// Returns the owner of a slot; `None` if it has none.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        Some(self.0[usize::from(slot)]).filter(|owner| *owner != UNOWNED).map(usize::from)
    }

    pub(super) fn assign(&mut self, first: u16, last: u16, owner: usize) {
        let (first, last) = (usize::from(first), usize::from(last.min(SLOTS - 1)));
        let owner = u16::try_from(owner).unwrap_or(UNOWNED);
        for slot in self.0.iter_mut().take(last + 1).skip(first) {
            *slot = owner;
        }
    }
}

/// Returns the redirect of a MOVED or ASK reply.
pub fn redirect(reply: Value<'_>) -> Option<Redirect> {
    let Value::Error(error) = reply else { return None };
    Redirect::parse(error.code(), error.detail())
}

#[cfg(test)]
mod tests {
    use redis_stream_core::cluster::RedirectKind;

    use super::*;
    use crate::poller::resp::{Values, keep_all};

    #[test]
    fn slots_are_those_of_cluster_keyslot() {
        // Error texts of a real server.
        for (key, expected) in [
            ("orders", 105),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("{user1000}.followers", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
            ("", 0),
        ] {
            assert_eq!(slot(&Name::from(key)), expected, "{key}");
        }
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn redirects_are_read_and_other_errors_are_none() {
        let of = |text| {
            let kept = keep_all(format!("-{text}\r\n").as_bytes()).unwrap();
            redirect(Values::all(&kept).next().unwrap())
        };
        let to = |slot, host: &str, port, kind| Some(Redirect { slot, node: (host.to_owned(), port), kind });
        assert_eq!(of("MOVED 3999 127.0.0.1:6381"), to(3999, "127.0.0.1", 6381, RedirectKind::Moved));
        assert_eq!(of("ASK 3999 ::1:6381"), to(3999, "::1", 6381, RedirectKind::Ask));
        assert_eq!(of("MOVED 3999 :6381"), to(3999, "", 6381, RedirectKind::Moved));
        for other in ["MOVED 3999", "MOVED x h:1", "ERR no such key", "CLUSTERDOWN Hash slot not served"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(redirect(Value::Text(b"OK")), None);
    }

    #[test]
    fn each_slot_has_one_owner_or_none() {
        let mut slots = Slots::new();
        assert_eq!(slots.owner(0), None);
        slots.assign(0, 16_383, 1);
        slots.assign(5, 6, 0);
        assert_eq!([0, 5, 6, 7, 16_383].map(|slot| slots.owner(slot)), [1, 0, 0, 1, 1].map(Some));
    }
}
