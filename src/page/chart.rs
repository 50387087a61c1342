//! Charts of the recent history, as SVG: exact values are a line, bounds are a band, polls that failed are a gap.

use std::fmt::{self, Write as _};
use std::time::Duration;

use maud::{Markup, html};

use crate::format::units::{count, span};
use crate::page::history::{GroupSample, SampledValues};

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

/// Draws a chart of the lag, with a scale.
pub(super) fn of_lag(samples: &[GroupSample]) -> Markup {
    large(samples, "Lag", "entries not delivered yet", lag)
}

/// Draws a chart of the pending entries, with a scale.
pub(super) fn of_pending(samples: &[GroupSample]) -> Markup {
    large(samples, "Pending", "entries delivered and not acknowledged", |point| {
        (point.messages_pending, point.messages_pending)
    })
}

fn lag(point: &SampledValues) -> (u32, u32) {
    (point.lag_min, point.lag_max)
}

fn large(samples: &[GroupSample], title: &str, what: &str, value: ValueRange) -> Markup {
    html! {
        figure.chart {
            figcaption { strong { (title) } ": " (what) }
            @if let Some(drawing) = Drawing::of(samples, value, LARGE) {
                div.plot {
                    @if drawing.top > 0 { span.top aria-hidden="true" { (count(drawing.top.into())) } }
                    span.zero aria-hidden="true" { "0" }
                    (drawing.svg(&format!("{title} {}", drawing.description())))
                    span.from aria-hidden="true" { (span(drawing.lasts)) " before" }
                    span.to aria-hidden="true" { "last poll" }
                }
            } @else {
                p.dim { "No history yet: it takes two polls." }
            }
        }
    }
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
    lasts: Duration,
}

impl Drawing {
    /// Returns `None` if the samples span no time.
    fn of(samples: &[GroupSample], value: ValueRange, size: Size) -> Option<Self> {
        let (begin, end) = (samples.first()?.at, samples.last()?.at);
        let lasts = end.checked_sub(begin).filter(|lasts| !lasts.is_zero())?;
        let values = |sample: &GroupSample| sample.values.as_ref().map(value);
        let known: Vec<_> = samples.iter().filter_map(values).collect();
        let mut runs = vec![Vec::new()];
        for sample in samples {
            match values(sample) {
                Some((min, max)) => {
                    let x = Tenths::of((sample.at - begin).div_duration_f64(lasts) * size.width);
                    runs.last_mut().expect("there is one").push((x, min, max));
                }
                None => runs.push(Vec::new()),
            }
        }
        runs.retain(|run| !run.is_empty());
        let top = known.iter().map(|(_, max)| *max).max()?;
        Some(Self { size, runs, top, first: *known.first()?, last: *known.last()?, lasts })
    }

    fn y(&self, value: u32) -> Tenths {
        let share = f64::from(value) / f64::from(self.top.max(self.size.least_top));
        Tenths::of(self.size.height - MARGIN - share * (self.size.height - 2.0 * MARGIN))
    }

    /// Describes the chart in words.
    fn description(&self) -> String {
        let value = |(min, max): (u32, u32)| match min == max {
            true => count(min.into()),
            false => format!("{} to {}", count(min.into()), count(max.into())),
        };
        let (first, last) = (value(self.first), value(self.last));
        format!("over {}: first {first}, last {last}, highest {}", span(self.lasts), count(self.top.into()))
    }

    fn svg(&self, label: &str) -> Markup {
        let Size { width, height, .. } = self.size;
        let (mut line, mut area, mut band) = (String::new(), String::new(), String::new());
        for run in &self.runs {
            self.draw(run, &mut line, &mut area, &mut band);
        }
        html! {
            svg.spark role="img" aria-label=(label) viewBox=(format!("0 0 {width} {height}"))
                preserveAspectRatio="none" {
                path.area d=(area) {}
                @if !band.is_empty() { path.band d=(band) {} }
                path.line d=(line) vector-effect="non-scaling-stroke" {}
            }
        }
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
        let large = of_lag(&samples(&[Some((0, 0)), Some((1, 1))])).into_string();
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
    fn a_large_chart_has_a_scale() {
        let drawn = of_pending(&samples(&[Some((0, 0)), Some((0, 0))])).into_string();
        assert!(drawn.contains(r#"<span class="top" aria-hidden="true">7</span>"#), "{drawn}");
        assert!(of_lag(&[]).into_string().contains("No history yet"));
    }
}
