//! The streams that the next round of questions has to look at, so that a poll of many rounds does not look at every stream
//! in each of them.

/// The streams that a kind of question may be asked about: those that were not looked at in this poll, and those about which
/// answers have come since. A `usize` is the index of a stream in the poll.
#[derive(Debug, Default)]
pub(crate) struct Worklist {
    /// Streams from this one on were not looked at.
    next: usize,
    /// Streams before it, to be looked at again, from the last to the first.
    again: Vec<usize>,
}

impl Worklist {
    /// Returns the next stream, of so many in the poll. It is looked at once.
    pub(crate) fn next(&mut self, streams: usize) -> Option<usize> {
        self.again.pop().or_else(|| {
            let next = Some(self.next).filter(|next| *next < streams)?;
            self.next += 1;
            Some(next)
        })
    }

    /// Adds streams that may need other questions now, in ascending order.
    pub(crate) fn look_again(&mut self, streams: &[usize]) {
        self.again.extend(streams.iter().filter(|stream| **stream < self.next));
        self.again.sort_unstable_by(|one, other| other.cmp(one));
        self.again.dedup();
    }
}

/// A worklist for each kind of question that a round may leave for the next one.
#[derive(Debug, Default)]
pub(crate) struct Worklists {
    pub(crate) groups: Worklist,
    pub(crate) next_entries: Worklist,
    pub(crate) losses: Worklist,
    pub(crate) look_ups: Worklist,
    pub(crate) census: Worklist,
    /// The streams with counts that are not finished, in ascending order.
    pub(crate) scans: Vec<usize>,
}

impl Worklists {
    /// Adds streams about which answers have come, in ascending order.
    pub(crate) fn look_again(&mut self, streams: &[usize]) {
        let Self { groups, next_entries, losses, look_ups, census, scans: _ } = self;
        for list in [groups, next_entries, losses, look_ups, census] {
            list.look_again(streams);
        }
    }

    /// Removes those of `streams`, in ascending order, whose counts are finished.
    pub(crate) fn retain_scans(&mut self, streams: &[usize], is_unfinished: impl Fn(usize) -> bool) {
        let mut streams = streams.iter().copied().peekable();
        self.scans.retain(|at| {
            while streams.next_if(|other| other < at).is_some() {}
            streams.next_if_eq(at).is_none() || is_unfinished(*at)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_comes_once_and_again_after_an_answer() {
        let mut list = Worklist::default();
        let rest = |list: &mut Worklist| std::iter::from_fn(|| list.next(5)).collect::<Vec<_>>();
        assert_eq!((list.next(5), list.next(5), list.next(5)), (Some(0), Some(1), Some(2)));
        list.look_again(&[0, 2, 4]);
        list.look_again(&[1, 2]);
        assert_eq!(list.next(5), Some(0));
        assert_eq!(rest(&mut list), [1, 2, 3, 4]);
        assert_eq!(list.next(5), None);
        list.look_again(&[4]);
        assert_eq!(rest(&mut list), [4]);
        assert_eq!(Worklist::default().next(0), None);
    }

    #[test]
    fn only_streams_with_an_answer_are_asked_whether_their_counts_are_finished() {
        let mut lists = Worklists { scans: vec![1, 3, 4, 7, 9], ..Worklists::default() };
        lists.retain_scans(&[0, 3, 4, 8, 9], |at| {
            assert!([3, 4, 9].contains(&at), "{at}");
            at == 4
        });
        assert_eq!(lists.scans, [1, 4, 7]);
    }
}
