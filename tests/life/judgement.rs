//! Compares what was seen of a group with what should be seen, by when.

use crate::story_time::LENGTH;

/// Something that is seen of a group: a condition in the API, or an alert that a receiver was sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    Condition(String),
    Alert(String),
}

/// A time for which something was seen, in minutes of the story.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) begin: f64,
    /// `None` if it was seen until the end.
    pub(crate) end: Option<f64>,
}

/// A sight that is expected: from some minute of `begins` to some minute of `ends`. With `is_required` unset it may also not
/// be seen at all.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) sight: Sight,
    pub(crate) begins: [f64; 2],
    pub(crate) ends: [f64; 2],
    pub(crate) is_required: bool,
}

/// Numbers of sights that were as expected or not, with a line for each that was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) right: usize,
    pub(crate) late: usize,
    pub(crate) false_ones: usize,
    pub(crate) missed: usize,
    pub(crate) notes: Vec<String>,
}

/// Returns an expectation that begins and ends at some minute of these ranges.
pub(crate) fn must(sight: Sight, begins: [f64; 2], ends: [f64; 2]) -> Expected {
    Expected { sight, begins, ends, is_required: true }
}

/// Returns something that may be seen within these minutes, any number of times.
pub(crate) fn may(sight: Sight, minutes: [f64; 2]) -> Expected {
    Expected { sight, begins: minutes, ends: minutes, is_required: false }
}

pub(crate) fn condition(name: &str) -> Sight {
    Sight::Condition(name.to_owned())
}

pub(crate) fn alert(name: &str) -> Sight {
    Sight::Alert(name.to_owned())
}

/// Judges everything that was seen of one group.
pub(crate) fn judge(expected: &[Expected], seen: &[(Sight, Span)]) -> Judgement {
    let mut judgement = Judgement::default();
    let mut is_explained = vec![false; seen.len()];
    for expectation in expected.iter().filter(|expectation| expectation.is_required) {
        let found = seen.iter().enumerate().find(|(at, (sight, span))| {
            !is_explained[*at] && *sight == expectation.sight && expectation.is_begun_by(span)
        });
        let Some((at, (_, span))) = found else {
            judgement.missed += 1;
            judgement.note("missed", &expectation.sight, &format!("expected {}", expectation.text()));
            continue;
        };
        is_explained[at] = true;
        let is_late = span.begin > expectation.begins[1] || span.end.unwrap_or(LENGTH) > expectation.ends[1];
        let is_early = span.end.is_some_and(|end| end < expectation.ends[0]);
        let text = format!("{}, expected {}", span.text(), expectation.text());
        if is_early {
            judgement.false_ones += 1;
            judgement.note("ended too early", &expectation.sight, &text);
        } else if is_late {
            judgement.late += 1;
            judgement.note("late", &expectation.sight, &text);
        } else {
            judgement.right += 1;
        }
    }
    for ((sight, span), _) in seen.iter().zip(is_explained).filter(|(_, explained)| !explained) {
        let is_allowed = expected.iter().any(|allowed| {
            !allowed.is_required
                && allowed.sight == *sight
                && allowed.begins[0] <= span.begin
                && span.end.unwrap_or(LENGTH) <= allowed.ends[1]
        });
        if !is_allowed {
            judgement.false_ones += 1;
            judgement.note("false", sight, &span.text());
        }
    }
    judgement
}

impl Expected {
    fn is_begun_by(&self, span: &Span) -> bool {
        span.begin >= self.begins[0] && span.begin <= self.ends[1]
    }

    fn text(&self) -> String {
        let [begin, end] = [self.begins, self.ends].map(|[from, to]| format!("{from:.1}-{to:.1}"));
        format!("from {begin} to {end}")
    }
}

impl Span {
    fn text(&self) -> String {
        let end = self.end.map_or("the end".to_owned(), |end| format!("{end:.1}"));
        format!("seen from {:.1} to {end}", self.begin)
    }
}

impl Judgement {
    fn note(&mut self, verdict: &str, sight: &Sight, text: &str) {
        let (Sight::Condition(name) | Sight::Alert(name)) = sight;
        self.notes.push(format!("{verdict}: {name}, {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(expected: &[Expected], spans: &[[f64; 2]]) -> [usize; 4] {
        let seen: Vec<_> = spans
            .iter()
            .map(|[begin, end]| (alert("A"), Span { begin: *begin, end: (*end < LENGTH).then_some(*end) }))
            .collect();
        let Judgement { right, late, false_ones, missed, .. } = judge(expected, &seen);
        [right, late, false_ones, missed]
    }

    #[test]
    fn what_is_seen_is_right_late_false_or_missed() {
        let from_10_to_20 = [must(alert("A"), [10.0, 12.0], [20.0, 22.0])];
        assert_eq!(judged(&from_10_to_20, &[[11.0, 21.0]]), [1, 0, 0, 0]);
        assert_eq!(judged(&from_10_to_20, &[[13.0, 21.0]]), [0, 1, 0, 0]);
        assert_eq!(judged(&from_10_to_20, &[[11.0, 60.0]]), [0, 1, 0, 0]);
        assert_eq!(judged(&from_10_to_20, &[]), [0, 0, 0, 1]);
        assert_eq!(judged(&from_10_to_20, &[[9.0, 21.0]]), [0, 0, 1, 1]);
        assert_eq!(judged(&from_10_to_20, &[[11.0, 14.0], [15.0, 21.0]]), [0, 0, 2, 0]);
        assert_eq!(judged(&[], &[[1.0, 2.0]]), [0, 0, 1, 0]);
        assert_eq!(judged(&[may(alert("A"), [0.0, 5.0])], &[[1.0, 2.0], [3.0, 4.0]]), [0, 0, 0, 0]);
        assert_eq!(judged(&[may(alert("A"), [0.0, 5.0])], &[[4.0, 6.0]]), [0, 0, 1, 0]);
        assert_eq!(judged(&[may(alert("B"), [0.0, 5.0])], &[[1.0, 2.0]]), [0, 0, 1, 0]);
    }
}
