//! Charts of the recent history, as SVG: exact values are a line, bounds are a band, polls that failed are a gap.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use maud::{Markup, html};

use crate::format::units::{clock_seconds, count, span};
use crate::page::events::Event;
use crate::page::history::{GroupSample, SampledValues};
use crate::page::label;

/// Returns the certain minimum and maximum to draw.
type ValueRange = fn(&SampledValues) -> (u32, u32);

/// The size of a chart, in its own units.
#[derive(Clone, Copy)]
struct Size {
    width: f64,
    height: f64,
    /// The least value at full height.
    least_top: u32,
}

/// A small chart has no scale, so a few entries must not look like thousands.
const SMALL: Size = Size { width: 120.0, height: 26.0, least_top: 10 };
const LARGE: Size = Size { width: 640.0, height: 140.0, least_top: 1 };
/// Keeps the line from being cut off at the top and bottom.
const MARGIN: f64 = 1.5;

/// Samples of a small chart at most.
pub(super) const SMALL_SAMPLES: usize = 60;
/// Samples of a large chart at most.
pub(super) const LARGE_SAMPLES: usize = 180;

/// Draws a small chart of the lag, for a table.
pub(super) fn small(samples: &[GroupSample]) -> Markup {
    let drawing = Drawing::of(samples, lag, SMALL);
    html! {
        @if let Some(drawing) = drawing {
            (drawing.svg(&format!("lag {}", drawing.description())))
        } @else {
            span.dim { "no history yet" }
        }
    }
}

/// Draws a chart of the lag and one of the pending entries over the same time, with its clock times below, and marks for
/// events. Each sample has its values as a tooltip.
pub(super) fn of_group(samples: &[GroupSample], marks: &[Event]) -> Markup {
    let (Some(begin), Some(end)) = (samples.first(), samples.last()) else { return no_history() };
    let (begin, end) = (begin.at, end.at);
    let charts: Option<Vec<_>> =
        CHARTS.iter().map(|chart| Some((chart, Drawing::of(samples, chart.value, LARGE)?))).collect();
    let Some(charts) = charts else { return no_history() };
    let marks = marks_within(marks, (begin, end));
    html! {
        figure.chart {
            @for (chart, drawing) in &charts {
                div.plot {
                    div.name { strong { (chart.title) } ": " (chart.what) }
                    div.scale aria-hidden="true" {
                        span { @if drawing.top > 0 { (count(drawing.top.into())) } }
                        span { "0" }
                    }
                    (drawing.large_svg(chart, samples, &marks))
                }
            }
            (axis(begin, end))
            (marks_caption(&marks))
        }
    }
}

fn marks_within(marks: &[Event], (begin, end): (Duration, Duration)) -> Vec<&Event> {
    marks.iter().filter(|mark| (begin..=end).contains(&mark.at)).collect()
}

/// Renders the lines that mark events.
fn mark_lines(marks: &[&Event], x: impl Fn(Duration) -> Tenths) -> Markup {
    html! {
        @for mark in marks {
            path.mark d=(format!("M{} 0V{}", x(mark.at), LARGE.height)) vector-effect="non-scaling-stroke" {
                title { (clock_seconds(mark.at)) " UTC: " (mark.text) }
            }
        }
    }
}

fn marks_caption(marks: &[&Event]) -> Markup {
    html! {
        @if !marks.is_empty() {
            figcaption.dim { span.mark aria-hidden="true" {} " marks the events below." }
        }
    }
}

/// The samples of a group in a chart of several.
pub(super) struct Series<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) samples: Vec<GroupSample>,
}

/// Draws the lags of several groups on one axis, with marks for events.
pub(super) fn of_stream(series: &[Series<'_>], marks: &[Event]) -> Markup {
    let begin = series.iter().filter_map(|series| series.samples.first()).map(|sample| sample.at).min();
    let end = series.iter().filter_map(|series| series.samples.last()).map(|sample| sample.at).max();
    let Some((begin, end)) = begin.zip(end) else { return no_history() };
    let mut drawn: Vec<_> = series
        .iter()
        .filter_map(|series| Some((series, Drawing::within(&series.samples, lag, LARGE, (begin, end))?)))
        .collect();
    let top = drawn.iter().map(|(_, drawing)| drawing.top).max();
    let Some(top) = top else { return no_history() };
    for (_, drawing) in &mut drawn {
        drawing.top = top;
    }
    let Size { width, height, .. } = LARGE;
    let marks = marks_within(marks, (begin, end));
    let x = |at| Tenths::of(horizontal(at, begin, end - begin, LARGE));
    let words: Vec<_> = drawn
        .iter()
        .map(|(series, drawing)| format!("{} last {}", series.name, range(drawing.last)))
        .collect();
    html! {
        figure.chart {
            div.plot {
                div.scale aria-hidden="true" { span { @if top > 0 { (count(top.into())) } } span { "0" } }
                svg.spark role="img" aria-label={ "Lag of each group: " (words.join(", ")) }
                    viewBox=(format!("0 0 {width} {height}")) preserveAspectRatio="none" {
                    path.grid d=(grid(LARGE)) vector-effect="non-scaling-stroke" {}
                    @for (number, (series, drawing)) in drawn.iter().enumerate() {
                        g class={ "line-" (number) } { (drawing.line()) title { (series.name) } }
                    }
                    (mark_lines(&marks, x))
                }
            }
            (axis(begin, end))
            (marks_caption(&marks))
            figcaption {
                ul.lines { @for (number, (series, drawing)) in drawn.iter().enumerate() {
                    li {
                        span class={ "key line-" (number) } aria-hidden="true" {} " "
                        (label::short(&series.name)) " " span.dim { (range(drawing.last)) }
                    }
                } }
            }
        }
    }
}

fn grid(Size { width, height, .. }: Size) -> String {
    let mut grid = format!("M0 {} H{width}", Tenths::of(height / 2.0));
    for part in 1..PARTS {
        let _ = write!(grid, "M{} 0V{height}", Tenths::of(width * f64::from(part) / f64::from(PARTS)));
    }
    grid
}

fn no_history() -> Markup {
    html! { p.dim { "No history yet: it takes two polls." } }
}

/// A chart with a scale.
struct Chart {
    title: &'static str,
    what: &'static str,
    value: ValueRange,
}

const CHARTS: [Chart; 2] = [
    Chart { title: "Lag", what: "entries not delivered yet", value: lag },
    Chart {
        title: "Pending",
        what: "entries delivered and not acknowledged",
        value: |point| (point.messages_pending, point.messages_pending),
    },
];

fn lag(point: &SampledValues) -> (u32, u32) {
    (point.lag_min, point.lag_max)
}

/// Parts into which the grid divides the time.
const PARTS: u32 = 3;

/// Renders the clock times at the lines of the grid.
fn axis(begin: Duration, end: Duration) -> Markup {
    let at = |part: u32| begin + (end - begin) * part / PARTS;
    html! {
        div.axis aria-hidden="true" {
            @for part in 0..PARTS {
                div {
                    span class=[(part > 0).then_some("middle")] { (clock_seconds(at(part))) }
                    @if part == PARTS - 1 { span { (clock_seconds(end)) " UTC" } }
                }
            }
        }
    }
}

/// Formats a value, or its bounds.
fn range((min, max): (u32, u32)) -> String {
    match min == max {
        true => count(min.into()),
        false => format!("{} to {}", count(min.into()), count(max.into())),
    }
}

/// The part of the width that is nearest to a sample.
struct Strip {
    from: Tenths,
    width: Tenths,
}

fn strips(samples: &[GroupSample], x: &impl Fn(Duration) -> Tenths) -> Vec<Strip> {
    let middle = |pair: &[GroupSample]| x((pair[0].at + pair[1].at) / 2);
    let (first, last) = (samples.first(), samples.last());
    let bounds: Vec<_> = first
        .map(|sample| x(sample.at))
        .into_iter()
        .chain(samples.windows(2).map(middle))
        .chain(last.map(|sample| x(sample.at)))
        .collect();
    let strip = |pair: &[Tenths]| Strip { from: pair[0], width: Tenths(pair[1].0.saturating_sub(pair[0].0)) };
    bounds.windows(2).map(strip).collect()
}

fn horizontal(at: Duration, begin: Duration, lasts: Duration, size: Size) -> f64 {
    at.saturating_sub(begin).div_duration_f64(lasts) * size.width
}

/// A coordinate in tenths of a unit: a screen shows no more, and a page has thousands of coordinates.
#[derive(Clone, Copy, Debug)]
struct Tenths(u32);

impl Tenths {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a coordinate is within a drawing"
    )]
    fn of(coordinate: f64) -> Self {
        Self((coordinate * 10.0).round() as u32)
    }
}

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => whole.fmt(f),
            (whole, tenths) => write!(f, "{whole}.{tenths}"),
        }
    }
}

/// The coordinates of a chart.
struct Drawing {
    size: Size,
    /// Runs without a gap: the horizontal coordinate, the minimum and the maximum of each sample.
    runs: Vec<Vec<(Tenths, u32, u32)>>,
    top: u32,
    first: (u32, u32),
    last: (u32, u32),
    begin: Duration,
    lasts: Duration,
}

impl Drawing {
    /// Returns `None` if the samples span no time.
    fn of(samples: &[GroupSample], value: ValueRange, size: Size) -> Option<Self> {
        Self::within(samples, value, size, (samples.first()?.at, samples.last()?.at))
    }

    /// Draws over the time between two moments, instead of the time that the samples span.
    fn within(
        samples: &[GroupSample],
        value: ValueRange,
        size: Size,
        (begin, end): (Duration, Duration),
    ) -> Option<Self> {
        let lasts = end.checked_sub(begin).filter(|lasts| !lasts.is_zero())?;
        let values = |sample: &GroupSample| sample.values.as_ref().map(value);
        let known: Vec<_> = samples.iter().filter_map(values).collect();
        let mut runs = vec![Vec::new()];
        for sample in samples {
            match values(sample) {
                Some((min, max)) => {
                    let x = Tenths::of(horizontal(sample.at, begin, lasts, size));
                    runs.last_mut().expect("there is one").push((x, min, max));
                }
                None => runs.push(Vec::new()),
            }
        }
        runs.retain(|run| !run.is_empty());
        let top = known.iter().map(|(_, max)| *max).max()?;
        Some(Self { size, runs, top, first: *known.first()?, last: *known.last()?, begin, lasts })
    }

    fn y(&self, value: u32) -> Tenths {
        let share = f64::from(value) / f64::from(self.top.max(self.size.least_top));
        Tenths::of(self.size.height - MARGIN - share * (self.size.height - 2.0 * MARGIN))
    }

    /// Describes the chart in words.
    fn description(&self) -> String {
        let (first, last) = (range(self.first), range(self.last));
        format!("over {}: first {first}, last {last}, highest {}", span(self.lasts), count(self.top.into()))
    }

    fn svg(&self, label: &str) -> Markup {
        self.around(label, &self.curve())
    }

    fn around(&self, label: &str, content: &Markup) -> Markup {
        let Size { width, height, .. } = self.size;
        html! {
            svg.spark role="img" aria-label=(label) viewBox=(format!("0 0 {width} {height}"))
                preserveAspectRatio="none" { (content) }
        }
    }

    /// Renders the line alone.
    fn line(&self) -> Markup {
        let (mut line, mut area, mut band) = (String::new(), String::new(), String::new());
        for run in &self.runs {
            self.draw(run, &mut line, &mut area, &mut band);
        }
        html! { path.line d=(line) vector-effect="non-scaling-stroke" {} }
    }

    fn curve(&self) -> Markup {
        let (mut line, mut area, mut band) = (String::new(), String::new(), String::new());
        for run in &self.runs {
            self.draw(run, &mut line, &mut area, &mut band);
        }
        html! {
            path.area d=(area) {}
            @if !band.is_empty() { path.band d=(band) {} }
            path.line d=(line) vector-effect="non-scaling-stroke" {}
        }
    }

    /// Draws the chart with a grid, marks, and a tooltip for each sample.
    fn large_svg(&self, chart: &Chart, samples: &[GroupSample], marks: &[&Event]) -> Markup {
        let height = self.size.height;
        let x = |at| Tenths::of(horizontal(at, self.begin, self.lasts, self.size));
        let content = html! {
            path.grid d=(grid(self.size)) vector-effect="non-scaling-stroke" {}
            (self.curve())
            @for (sample, Strip { from, width }) in samples.iter().zip(strips(samples, &x)) {
                @if let Some(values) = &sample.values {
                    rect.at x=(from) y="0" width=(width) height=(height) {
                        title { (clock_seconds(sample.at)) " UTC: " (range((chart.value)(values))) }
                    }
                }
            }
            (mark_lines(marks, x))
        };
        self.around(&format!("{} {}", chart.title, self.description()), &content)
    }

    fn draw(&self, run: &[(Tenths, u32, u32)], line: &mut String, area: &mut String, band: &mut String) {
        let [(from, ..), .., (to, ..)] = run else {
            // A single sample is a dot: a line without length, with round ends.
            let (x, min, _) = run[0];
            let _ = write!(line, "M{x} {}h0", self.y(min));
            return;
        };
        // In a path, numbers after M are points joined by lines.
        let mut minima = String::with_capacity(run.len() * 11);
        for (x, min, _) in run {
            let _ = write!(minima, " {x} {}", self.y(*min));
        }
        let (base, minima) = (self.size.height, minima.trim_start());
        let _ = write!(line, "M{minima}");
        let _ = write!(area, "M{from} {base} {minima} {to} {base}Z");
        if run.iter().any(|(_, min, max)| min != max) {
            let _ = write!(band, "M{minima}");
            for (x, _, max) in run.iter().rev() {
                let _ = write!(band, " {x} {}", self.y(*max));
            }
            band.push('Z');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(lags: &[Option<(u32, u32)>]) -> Vec<GroupSample> {
        let values = |(lag_min, lag_max)| SampledValues { lag_min, lag_max, messages_pending: 7 };
        let at = |index: usize| Duration::from_secs(1_700_000_000 + 10 * index as u64);
        let sample =
            |(index, lag): (usize, &Option<_>)| GroupSample { at: at(index), values: lag.map(values) };
        lags.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn exact_lags_are_a_line_over_an_area() {
        let drawn = small(&samples(&[Some((0, 0)), Some((50, 50)), Some((100, 100))])).into_string();
        insta::assert_snapshot!(drawn, @r#"<svg class="spark" role="img" aria-label="lag over 20 s: first 0, last 100, highest 100" viewBox="0 0 120 26" preserveAspectRatio="none"><path class="area" d="M0 26 0 24.5 60 13 120 1.5 120 26Z"></path><path class="line" d="M0 24.5 60 13 120 1.5" vector-effect="non-scaling-stroke"></path></svg>"#);
    }

    #[test]
    fn bounds_are_a_band_and_what_was_not_read_is_a_gap() {
        let drawn = small(&samples(&[Some((10, 40)), Some((20, 20)), None, Some((40, 40))])).into_string();
        assert!(drawn.contains("lag over 30 s: first 10 to 40, last 40, highest 40"), "{drawn}");
        assert!(drawn.contains(r#"class="band" d="M0 18.8 40 13 40 13 0 1.5Z""#), "{drawn}");
        assert!(drawn.contains("M120 1.5h0"), "a dot: {drawn}");
    }

    #[test]
    fn a_few_entries_do_not_look_like_thousands() {
        let drawn = small(&samples(&[Some((0, 0)), Some((1, 1))])).into_string();
        assert!(drawn.contains("M0 24.5 120 22.2"), "{drawn}");
        let large = of_group(&samples(&[Some((0, 0)), Some((1, 1))]), &[]).into_string();
        assert!(large.contains("M0 138.5 640 1.5"), "it has a scale: {large}");
    }

    #[test]
    fn without_time_there_is_no_chart() {
        for lags in [&[][..], &[Some((1, 1))], &[None, None]] {
            assert_eq!(small(&samples(lags)).into_string(), r#"<span class="dim">no history yet</span>"#);
        }
        assert!(small(&samples(&[Some((0, 0)), Some((0, 0))])).into_string().contains("M0 24.5 120 24.5"));
    }

    #[test]
    fn large_charts_have_a_scale_and_one_axis_of_clock_times() {
        let drawn =
            of_group(&samples(&[Some((0, 0)), None, Some((40, 50)), Some((0, 0))]), &[]).into_string();
        assert!(drawn.contains("<span>7</span><span>0</span>"), "{drawn}");
        let axis = concat!(
            r#"<div><span>22:13:20</span></div><div><span class="middle">22:13:30</span></div>"#,
            r#"<div><span class="middle">22:13:40</span><span>22:13:50 UTC</span></div>"#,
        );
        assert_eq!(drawn.matches(axis).count(), 1, "{drawn}");
        assert!(drawn.contains("<title>22:13:40 UTC: 40 to 50</title>"), "{drawn}");
        assert!(!drawn.contains("<title>22:13:30"), "what was not read has no value: {drawn}");
        assert!(!drawn.contains("marks the events"), "{drawn}");
        assert!(of_group(&[], &[]).into_string().contains("No history yet"));
        assert!(of_group(&samples(&[None, None]), &[]).into_string().contains("No history yet"));
    }

    #[test]
    fn events_are_marked_where_the_charts_have_their_time() {
        let event = |seconds: u64, text: &str| Event {
            at: Duration::from_secs(1_700_000_000 + seconds),
            severity: crate::format::severity::Severity::Bad,
            text: text.to_owned(),
        };
        let marks = [event(15, "the group became stalled"), event(900, "later")];
        let drawn = of_group(&samples(&[Some((0, 0)), Some((9, 9)), Some((9, 9))]), &marks).into_string();
        let mark = r#"<path class="mark" d="M480 0V140" vector-effect="non-scaling-stroke"><title>22:13:35 UTC: the group became stalled</title></path>"#;
        assert_eq!(drawn.matches(mark).count(), 2, "{drawn}");
        assert!(!drawn.contains("later") && drawn.contains("marks the events below"), "{drawn}");
    }
}
