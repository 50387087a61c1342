//! Fields of generated entries: `name=template`, such as `user={{choice ann bob}}-{{number}}`. Pure.

use std::time::{Duration, UNIX_EPOCH};

use fastrand::Rng;

use crate::error::InvalidConfig;
use redis_stream_core::escape::unescape;
use redis_stream_core::secret::redact;

/// The functions of templates, for messages.
const FUNCTIONS: &str = "{{number}}, {{uuid}}, {{time}}, {{unixtime}} or {{choice A B ...}}";

/// A field of the entries, whose value differs from one to the next.
///
/// | function | value |
/// | --- | --- |
/// | `{{number}}` | number of the entry, from 1 over all streams |
/// | `{{uuid}}` | a random UUID (version 4) |
/// | `{{time}}` | the time, as in `2026-01-31T12:00:00.000Z` |
/// | `{{unixtime}}` | milliseconds since 1970 |
/// | `{{choice A B ...}}` | one of the words, at random |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTemplate {
    name: Vec<u8>,
    parts: Vec<TemplatePart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Number,
    Uuid,
    Time,
    UnixTime,
    Choice(Vec<String>),
}

impl FieldTemplate {
    /// Parses `name=template`. In the name, `\xHH` is a byte.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if there is no name, or for an unknown function.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let shown = redact(text);
        let wrong = |why: &str| Err(InvalidConfig::new(format!("field {shown:?}: {why}")));
        let Some((name, template)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return wrong("expected NAME=TEMPLATE, such as id={{uuid}}");
        };
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(TemplatePart::Text(before.to_owned()));
            }
            let Some((function, after)) = behind.split_once("}}") else {
                return wrong("a {{ without }}");
            };
            let mut words = function.split_whitespace();
            let part = match (words.next(), words.map(str::to_owned).collect::<Vec<_>>()) {
                (Some("number"), none) if none.is_empty() => TemplatePart::Number,
                (Some("uuid"), none) if none.is_empty() => TemplatePart::Uuid,
                (Some("time"), none) if none.is_empty() => TemplatePart::Time,
                (Some("unixtime"), none) if none.is_empty() => TemplatePart::UnixTime,
                (Some("choice"), words) if !words.is_empty() => TemplatePart::Choice(words),
                _ => return wrong(&format!("unknown function, expected {FUNCTIONS}")),
            };
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Text(rest.to_owned()));
        }
        Ok(Self { name: unescape(name), parts })
    }

    /// Returns the field of one entry. `time` is that since the Unix epoch.
    pub(super) fn fill(&self, number: u64, time: Duration, random: &mut Rng) -> (Vec<u8>, Vec<u8>) {
        let mut value = String::new();
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => value.push_str(text),
                TemplatePart::Number => value.push_str(&number.to_string()),
                TemplatePart::Uuid => value.push_str(&uuid(random.u128(..))),
                TemplatePart::Time => {
                    value.push_str(&humantime::format_rfc3339_millis(UNIX_EPOCH + time).to_string());
                }
                TemplatePart::UnixTime => value.push_str(&time.as_millis().to_string()),
                TemplatePart::Choice(words) => value.push_str(&words[random.usize(..words.len())]),
            }
        }
        (self.name.clone(), value.into_bytes())
    }
}

/// Returns a UUID of version 4 made of random bits.
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> (String, String) {
        let time = Duration::from_millis(1_700_000_000_123);
        let (name, value) = FieldTemplate::parse(text).unwrap().fill(7, time, &mut Rng::with_seed(1));
        (String::from_utf8_lossy(&name).into_owned(), String::from_utf8(value).unwrap())
    }

    #[test]
    fn functions_are_filled_and_text_stays() {
        for (template, value) in [
            ("", ""),
            ("plain = {x}", "plain = {x}"),
            ("order-{{number}}/{{ number }}", "order-7/7"),
            ("{{time}}", "2023-11-14T22:13:20.123Z"),
            ("{{unixtime}}", "1700000000123"),
            ("{{choice one}}!", "one!"),
        ] {
            assert_eq!(
                filled(&format!("name={template}")),
                ("name".to_owned(), value.to_owned()),
                "{template}"
            );
        }
        assert_eq!(filled("a\\xff=1").0, "a\u{fffd}");
    }

    #[test]
    fn every_choice_comes() {
        let template = FieldTemplate::parse("user={{choice ann bob cid}}").unwrap();
        let mut random = Rng::with_seed(1);
        let mut seen: Vec<_> = (0..100).map(|n| template.fill(n, Duration::ZERO, &mut random).1).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [b"ann", b"bob", b"cid"]);
    }

    #[test]
    fn a_uuid_has_its_version_and_variant_whatever_the_bits() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = format!("unknown function, expected {FUNCTIONS}");
        for (text, why) in [
            ("name", "expected NAME=TEMPLATE, such as id={{uuid}}"),
            ("=x", "expected NAME=TEMPLATE, such as id={{uuid}}"),
            ("n={{number", "a {{ without }}"),
            ("n={{rand}}", &unknown),
            ("n={{}}", &unknown),
            ("n={{choice}}", &unknown),
            ("n={{number 5}}", &unknown),
        ] {
            let error = FieldTemplate::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("field {text:?}: {why}"));
        }
    }
}
