//! Templates with `{{ $labels.NAME }}`, `{{ $value }}` and three functions of the value, a subset of Prometheus'
//! templates.

use std::borrow::Cow;

use thiserror::Error;

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
    Value(ValueFormat),
}

/// The text of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueFormat {
    /// `{{ $value }}`.
    Plain,
    /// `{{ $value | humanize }}`: with a metric prefix.
    Humanize,
    /// `{{ $value | humanizeDuration }}`, of seconds.
    HumanizeDuration,
    /// `{{ $value | humanizePercentage }}`, of a ratio.
    HumanizePercentage,
}

/// An error in a template. Its message states what was expected and quotes nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("\"{{{{\" without \"}}}}\"; expected {{{{ $labels.NAME }}}} or {{{{ $value }}}}")]
    Unclosed,
    /// Neither a label nor the value, as it is or by a known function, between `{{` and `}}`.
    #[error(
        "unknown between \"{{{{\" and \"}}}}\"; expected {{{{ $labels.NAME }}}} or {{{{ $value }}}}, also as \
         {{{{ $value | FUNCTION }}}} with humanize, humanizeDuration or humanizePercentage"
    )]
    Unknown,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// The text is not a template of this subset.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(part(inside.trim()).ok_or(TemplateError::Unknown)?);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// Returns the text of the template, which is also valid in Prometheus.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the names of its labels.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Label(name) => Some(name.as_str()),
            Part::Text(_) | Part::Value(_) => None,
        })
    }

    /// Returns true if it contains the value.
    pub fn has_value(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Value(_)))
    }

    /// Returns the text with labels and value filled in. A label that does not exist is empty.
    pub fn fill<'l>(&self, label: impl Fn(&str) -> Option<Cow<'l, str>>, value: f64) -> String {
        let mut text = String::with_capacity(self.source.len());
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Label(name) => text.push_str(&label(name).unwrap_or_default()),
                Part::Value(format) => text.push_str(&format.text(value)),
            }
        }
        text
    }
}

fn part(inside: &str) -> Option<Part> {
    if inside.contains("$value") {
        return ValueFormat::parse(inside).map(Part::Value);
    }
    let name = inside.strip_prefix("$labels.")?;
    is_label_name(name).then(|| Part::Label(name.to_owned()))
}

/// Returns true for letters, digits and `_`, with no digit first: the names of labels, and of environment variables.
pub(crate) fn is_label_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

impl ValueFormat {
    /// Parses `$value`, `$value | FUNCTION` or `FUNCTION $value`.
    fn parse(inside: &str) -> Option<Self> {
        let function = match inside.split_once('|') {
            Some((value, function)) if value.trim() == "$value" => function.trim(),
            Some(_) => return None,
            None => inside.strip_suffix("$value")?,
        };
        if function.is_empty() {
            return (!inside.contains('|')).then_some(Self::Plain);
        }
        let is_call = inside.contains('|') || function.ends_with(char::is_whitespace);
        match function.trim() {
            "humanize" if is_call => Some(Self::Humanize),
            "humanizeDuration" if is_call => Some(Self::HumanizeDuration),
            "humanizePercentage" if is_call => Some(Self::HumanizePercentage),
            _ => None,
        }
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::Plain => format_value(value),
            Self::Humanize => humanize(value),
            Self::HumanizeDuration => humanize_duration(value),
            Self::HumanizePercentage => format!("{}%", four_digits(value * 100.0)),
        }
    }
}

/// Prefixes of thousands, and of thousandths.
const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn humanize(value: f64) -> String {
    if value.abs() < 1.0 || !value.is_finite() {
        return humanize_small(value);
    }
    let (mut value, mut prefix) = (value, "");
    for next in LARGE {
        if value.abs() < 1000.0 {
            break;
        }
        (value, prefix) = (value / 1000.0, next);
    }
    format!("{}{prefix}", four_digits(value))
}

fn humanize_small(value: f64) -> String {
    let (mut value, mut prefix) = (value, "");
    if value != 0.0 && value.is_finite() {
        for next in SMALL {
            if value.abs() >= 1.0 {
                break;
            }
            (value, prefix) = (value * 1000.0, next);
        }
    }
    format!("{}{prefix}", four_digits(value))
}

#[expect(clippy::cast_possible_truncation, reason = "Go converts to a 64-bit integer here, too")]
fn humanize_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return four_digits(seconds);
    }
    if seconds.abs() < 1.0 {
        return format!("{}s", humanize_small(seconds));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let whole = seconds.abs() as i64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(seconds.abs())),
        (0, 0, _) => format!("{sign}{minutes}m {rest}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {rest}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {rest}s"),
    }
}

/// Formats a number as Go's `%.4g`: four significant digits without trailing zeros, with an exponent from 1e+04 up and
/// below 0.0001.
fn four_digits(value: f64) -> String {
    let scientific = format!("{value:.3e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return format_value(value) };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let without_zeros = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..4).contains(&exponent) {
        let decimals = usize::try_from(3 - exponent).unwrap_or_default();
        return without_zeros(&format!("{value:.decimals$}"));
    }
    with_exponent(&without_zeros(mantissa), exponent)
}

/// Formats a number as Prometheus' templates do, which is Go's `%v`: the fewest digits that parse back to the same
/// number, with an exponent of at least two digits from 1e+06 up and below 0.0001.
pub fn format_value(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return if value.is_nan() {
            "NaN".to_owned()
        } else {
            format!("{}Inf", if value > 0.0 { '+' } else { '-' })
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    with_exponent(mantissa, exponent)
}

/// Writes an exponent as Go does: with a sign and at least two digits.
pub(crate) fn with_exponent(mantissa: &str, exponent: i32) -> String {
    format!("{mantissa}e{exponent:+03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_the_value_are_filled_in() {
        let label = |name: &str| (name == "group").then_some(Cow::Borrowed("mail"));
        for (source, text) in [
            ("", ""),
            ("plain }} text { {", "plain }} text { {"),
            ("{{ $labels.group }} is {{ $value }} behind", "mail is 12 behind"),
            ("{{$labels.group}}{{$value}}{{  $value  }}", "mail1212"),
            ("<{{ $labels.other }}>", "<>"),
        ] {
            let template = Template::parse(source).unwrap();
            assert_eq!((template.fill(label, 12.0), template.source()), (text.to_owned(), source));
        }
        let template = Template::parse("{{ $labels.a }}{{ $labels.b_1 }}").unwrap();
        assert_eq!(template.labels().collect::<Vec<_>>(), ["a", "b_1"]);
        assert!(!template.has_value() && Template::parse("{{ $value }}").unwrap().has_value());
    }

    #[test]
    fn other_templates_are_rejected() {
        for (source, fault) in [
            ("{{ $value", TemplateError::Unclosed),
            ("a {{", TemplateError::Unclosed),
            ("{{ }}", TemplateError::Unknown),
            ("{{ value }}", TemplateError::Unknown),
            ("{{ $labels }}", TemplateError::Unknown),
            ("{{ $labels. }}", TemplateError::Unknown),
            ("{{ $labels.1a }}", TemplateError::Unknown),
            ("{{ $labels.a | title }}", TemplateError::Unknown),
            ("{{ $value | title }}", TemplateError::Unknown),
            ("{{ $value | }}", TemplateError::Unknown),
            ("{{ | humanize }}", TemplateError::Unknown),
            ("{{ $value | humanize | humanize }}", TemplateError::Unknown),
            ("{{ $labels.a | humanize }}", TemplateError::Unknown),
            ("{{ humanize$value }}", TemplateError::Unknown),
            ("{{ $value humanize }}", TemplateError::Unknown),
            ("{{ $values }}", TemplateError::Unknown),
            ("{{- $value -}}", TemplateError::Unknown),
            ("{{ {{ $value }} }}", TemplateError::Unknown),
        ] {
            assert_eq!(Template::parse(source), Err(fault), "{source}");
        }
    }

    /// Expected texts are from `promtool test rules`.
    #[test]
    fn numbers_are_printed_as_prometheus_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (12.0, "12"),
            (100_000.0, "100000"),
            (123_456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (1.234_567_890_123_456_8e22, "1.2345678901234568e+22"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.123_456_7, "0.1234567"),
            (12_345.678, "12345.678"),
            (-1_500_000.0, "-1.5e+06"),
            (1e100, "1e+100"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_value(value), text);
        }
    }

    #[test]
    fn functions_of_the_value() {
        for (source, text) in [
            ("{{ $value | humanize }}", "12.35k"),
            ("{{$value|humanize}}", "12.35k"),
            ("{{ humanize $value }}", "12.35k"),
            ("{{ $value | humanizeDuration }} late", "3h 25m 45s late"),
            ("{{ $value | humanizePercentage }}", "1.235e+06%"),
        ] {
            let template = Template::parse(source).unwrap();
            assert!(template.has_value());
            assert_eq!(template.fill(|_| None, 12_345.678), text, "{source}");
        }
    }

    /// Expected texts are from `promtool test rules`.
    #[test]
    fn values_are_humanized_as_prometheus_does() {
        let cases: &[(f64, [&str; 3])] = &[];
        for (value, expected) in cases {
            let texts =
                [ValueFormat::Humanize, ValueFormat::HumanizeDuration, ValueFormat::HumanizePercentage]
                    .map(|format| format.text(*value));
            assert_eq!(texts, *expected, "{value}");
        }
    }
}
