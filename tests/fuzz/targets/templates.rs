//! Templates: a text, NUL, and the eight bytes of a value.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use streamgauge::alert::template::{Template, format_value};
use streamgauge::config::load::from_text;

use super::{quoted, text};

/// A placeholder: a label, or the value.
static PLACE: LazyLock<Regex> = LazyLock::new(|| {
    let function = r"(humanize|humanizeDuration|humanizePercentage)";
    let value = format!(r"\$value(?:\s*\|\s*{function})?|{function}\s+\$value");
    let text = format!(r"\{{\{{\s*(?:\$labels\.([A-Za-z_][A-Za-z0-9_]*)|{value})\s*\}}\}}");
    Regex::new(&text).expect("it is one")
});

/// The labels of the alert in [`as_an_annotation`].
const LABELS: [&str; 5] = ["target", "db", "stream", "group", "team"];

pub fn run(data: &[u8]) {
    let (source, value) = match data.iter().position(|byte| *byte == 0) {
        None => (text(Some(data)), 1234.5),
        Some(at) => (text(Some(&data[..at])), number(&data[at + 1..])),
    };
    check_the_number(value);
    match Template::parse(&source) {
        Ok(template) => {
            assert_eq!(template.source(), source);
            check_what_is_filled_in(&template, value);
            check_in_the_configuration(&source, Some(&template));
        }
        Err(_) => {
            assert!(source.contains("{{"), "{source:?} has no template in it");
            check_in_the_configuration(&source, None);
        }
    }
}

fn number(bytes: &[u8]) -> f64 {
    let mut all = [0; 8];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    f64::from_le_bytes(all)
}

/// Checks that the text reads back as the same number.
fn check_the_number(value: f64) {
    let shown = format_value(value);
    let read: f64 = shown.parse().unwrap_or_else(|_| panic!("{shown:?} is no number"));
    assert!(read == value || read.is_nan() && value.is_nan(), "{shown:?} of {value:?}");
}

fn check_what_is_filled_in(template: &Template, value: f64) {
    let label = |name: &str| LABELS.into_iter().find(|label| *label == name).map(Cow::Borrowed);
    let replaced = PLACE.replace_all(template.source(), |place: &Captures<'_>| match place.get(1) {
        Some(name) => label(name.as_str()).unwrap_or_default().into_owned(),
        // A function is the same wherever it stands.
        None if place.get(2).or(place.get(3)).is_some() => {
            Template::parse(&place[0]).expect("it is one").fill(label, value)
        }
        None => format_value(value),
    });
    assert_eq!(template.fill(label, value), replaced, "{:?}", template.source());
    let named: Vec<_> = PLACE.captures_iter(template.source()).collect();
    let labels: Vec<_> = named.iter().filter_map(|place| place.get(1)).map(|name| name.as_str()).collect();
    assert_eq!(template.labels().collect::<Vec<_>>(), labels);
    assert_eq!(template.has_value(), named.len() > labels.len());
}

/// As an annotation it is taken where it is a template of labels that the alert has; if not, the fault says which
/// it has.
fn check_in_the_configuration(source: &str, template: Option<&Template>) {
    let written = source.replace("${", "$${");
    if written.replace("$${", "${") != source || source.contains("$$") {
        return;
    }
    let stranger = template.and_then(|template| template.labels().find(|label| !LABELS.contains(label)));
    match (as_an_annotation(&written), template, stranger) {
        (Ok(read), Some(template), None) => assert_eq!(read, *template),
        (Err(faults), Some(_), Some(stranger)) => {
            let fault = format!("the alert has no label {stranger}; expected one of {}", LABELS.join(", "));
            assert!(faults.contains(&fault), "{faults}");
        }
        (Err(faults), None, _) => {
            assert!(faults.contains("expected {{ $labels.NAME }} or {{ $value }}"), "{faults}");
        }
        (read, ..) => panic!("{source:?} became {read:?}"),
    }
}

fn as_an_annotation(written: &str) -> Result<Template, String> {
    let labels = "{url: 'redis://cache', labels: {team: billing}}";
    let rule = format!("{{alert: A, expr: lag > 1, annotations: {{summary: {}}}}}", quoted(written));
    let yaml = format!("{{targets: [{labels}], alerts: {{recommended: false, rules: [{rule}]}}}}");
    let config = from_text("f.yaml", &yaml, Path::new("/nowhere"), &|_| None);
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.alerts.rules[0].annotations["summary"].clone())
}
