//! Charts of the recent past, as SVG: what is known as a line, what lies between bounds as a band, and where nothing
//! was read a gap.

use std::fmt::{self, Write as _};
use std::time::Duration;

use maud::{Markup, html};

use crate::format::units::{count, span};
use crate::page::trail::{Moment, Point};

/// What is drawn: a certain minimum and maximum.
type Value = fn(&Point) -> (u32, u32);

/// Width and height of a chart, in its own units.
#[derive(Clone, Copy)]
struct Size {
    width: f64,
    height: f64,
    /// What is drawn at full height at least.
    least_top: u32,
}

/// It has no scale, so a few entries must not look like thousands.
const SMALL: Size = Size { width: 120.0, height: 26.0, least_top: 10 };
const LARGE: Size = Size { width: 640.0, height: 140.0, least_top: 1 };
/// Above the highest point and below the lowest, so that a line is not cut off.
const MARGIN: f64 = 1.5;

/// A small chart of the lag, for a table.
pub(super) fn small(moments: &[Moment]) -> Markup {
    let drawing = Drawing::of(moments, lag, SMALL);
    html! {
        @if let Some(drawing) = drawing {
            (drawing.svg(&format!("lag {}", drawing.told())))
        } @else {
            span.dim { "no history yet" }
        }
    }
}

/// A chart of the lag, with its scale.
pub(super) fn of_lag(moments: &[Moment]) -> Markup {
    large(moments, "Lag", "entries not delivered yet", lag)
}

/// A chart of the pending entries, with its scale.
pub(super) fn of_pending(moments: &[Moment]) -> Markup {
    large(moments, "Pending", "entries delivered and not acknowledged", |point| {
        (point.messages_pending, point.messages_pending)
    })
}

fn lag(point: &Point) -> (u32, u32) {
    (point.lag_min, point.lag_max)
}

fn large(moments: &[Moment], title: &str, what: &str, value: Value) -> Markup {
    html! {
        figure.chart {
            figcaption { strong { (title) } ": " (what) }
            @if let Some(drawing) = Drawing::of(moments, value, LARGE) {
                div.plot {
                    @if drawing.top > 0 { span.top aria-hidden="true" { (count(drawing.top.into())) } }
                    span.zero aria-hidden="true" { "0" }
                    (drawing.svg(&format!("{title} {}", drawing.told())))
                    span.from aria-hidden="true" { (span(drawing.lasts)) " before" }
                    span.to aria-hidden="true" { "last poll" }
                }
            } @else {
                p.dim { "No history yet: it takes two polls." }
            }
        }
    }
}

/// A place in a drawing, in tenths of its unit: no screen shows more, and thousands of them are on a page.
#[derive(Clone, Copy, Debug)]
struct Tenths(u32);

impl Tenths {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place is within a drawing"
    )]
    fn of(place: f64) -> Self {
        Self((place * 10.0).round() as u32)
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

/// What is to be drawn, with its scale.
struct Drawing {
    size: Size,
    /// Runs without a gap: of each moment the horizontal place, the minimum and the maximum.
    runs: Vec<Vec<(Tenths, u32, u32)>>,
    top: u32,
    first: (u32, u32),
    last: (u32, u32),
    lasts: Duration,
}

impl Drawing {
    /// `None` where there is no time to draw.
    fn of(moments: &[Moment], value: Value, size: Size) -> Option<Self> {
        let (begin, end) = (moments.first()?.at, moments.last()?.at);
        let lasts = end.checked_sub(begin).filter(|lasts| !lasts.is_zero())?;
        let values = |moment: &Moment| moment.point.as_ref().map(value);
        let known: Vec<_> = moments.iter().filter_map(values).collect();
        let mut runs = vec![Vec::new()];
        for moment in moments {
            match values(moment) {
                Some((min, max)) => {
                    let x = Tenths::of((moment.at - begin).div_duration_f64(lasts) * size.width);
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

    /// The same in words.
    fn told(&self) -> String {
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
            // One moment between gaps: a dot, by a line without length and its round ends.
            let (x, min, _) = run[0];
            let _ = write!(line, "M{x} {}h0", self.y(min));
            return;
        };
        // Pairs of numbers after the first are joined by lines.
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

    fn moments(lags: &[Option<(u32, u32)>]) -> Vec<Moment> {
        let point = |(lag_min, lag_max)| Point { lag_min, lag_max, messages_pending: 7 };
        let at = |place: usize| Duration::from_secs(1_700_000_000 + 10 * place as u64);
        lags.iter().enumerate().map(|(place, lag)| Moment { at: at(place), point: lag.map(point) }).collect()
    }

    #[test]
    fn exact_lags_are_a_line_over_an_area() {
        let drawn = small(&moments(&[Some((0, 0)), Some((50, 50)), Some((100, 100))])).into_string();
        insta::assert_snapshot!(drawn, @r#"<svg class="spark" role="img" aria-label="lag over 20 s: first 0, last 100, highest 100" viewBox="0 0 120 26" preserveAspectRatio="none"><path class="area" d="M0 26 0 24.5 60 13 120 1.5 120 26Z"></path><path class="line" d="M0 24.5 60 13 120 1.5" vector-effect="non-scaling-stroke"></path></svg>"#);
    }

    #[test]
    fn bounds_are_a_band_and_what_was_not_read_is_a_gap() {
        let drawn = small(&moments(&[Some((10, 40)), Some((20, 20)), None, Some((40, 40))])).into_string();
        assert!(drawn.contains("lag over 30 s: first 10 to 40, last 40, highest 40"), "{drawn}");
        assert!(drawn.contains(r#"class="band" d="M0 18.8 40 13 40 13 0 1.5Z""#), "{drawn}");
        assert!(drawn.contains("M120 1.5h0"), "a dot: {drawn}");
    }

    #[test]
    fn a_few_entries_do_not_look_like_thousands() {
        let drawn = small(&moments(&[Some((0, 0)), Some((1, 1))])).into_string();
        assert!(drawn.contains("M0 24.5 120 22.2"), "{drawn}");
        let large = of_lag(&moments(&[Some((0, 0)), Some((1, 1))])).into_string();
        assert!(large.contains("M0 138.5 640 1.5"), "it has a scale: {large}");
    }

    #[test]
    fn without_time_there_is_no_chart() {
        for lags in [&[][..], &[Some((1, 1))], &[None, None]] {
            assert_eq!(small(&moments(lags)).into_string(), r#"<span class="dim">no history yet</span>"#);
        }
        assert!(small(&moments(&[Some((0, 0)), Some((0, 0))])).into_string().contains("M0 24.5 120 24.5"));
    }

    #[test]
    fn a_large_chart_has_a_scale() {
        let drawn = of_pending(&moments(&[Some((0, 0)), Some((0, 0))])).into_string();
        assert!(drawn.contains(r#"<span class="top" aria-hidden="true">7</span>"#), "{drawn}");
        assert!(of_lag(&[]).into_string().contains("No history yet"));
    }
}
