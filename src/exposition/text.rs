//! Headers, labels and numbers in the text format.

use std::time::Duration;

use crate::values::family::{Family, MetricKind, Number};

/// Text is written in chunks of about this size, which stay in the processor's cache.
pub const CHUNK_BYTES: usize = 32 * 1024;

/// Returns the HELP and TYPE lines of a family. HELP is plain text.
pub fn header(family: &Family) -> String {
    let kind = match family.kind {
        MetricKind::Gauge => "gauge",
        MetricKind::Counter => "counter",
    };
    let Family { name, help, absent, .. } = family;
    let absent = if absent.is_empty() { String::new() } else { format!(" Absent: {absent}.") };
    let text = format!("{help}{absent}").replace('`', "");
    format!("# HELP {name} {text}\n# TYPE {name} {kind}\n")
}

pub fn write_number(number: Number, out: &mut Vec<u8>) {
    match number {
        Number::Count(count) => write_integer(count, out),
        Number::Seconds(duration) => write_seconds(duration, out),
        // The shortest digits that read back as the same number.
        Number::Ratio(number) | Number::PerSecond(number) => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
    }
}

fn write_integer(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends seconds with up to six decimals, without trailing zeros.
fn write_seconds(duration: Duration, out: &mut Vec<u8>) {
    write_integer(duration.as_secs(), out);
    let mut rest = duration.subsec_micros();
    if rest == 0 {
        return;
    }
    out.push(b'.');
    let mut unit = 100_000;
    while rest > 0 {
        out.push(b'0' + u8::try_from(rest / unit).unwrap_or(0));
        rest %= unit;
        unit /= 10;
    }
}

/// Appends `name="value"`, with a comma before it unless it is the first.
pub fn write_label(name: &str, value: &str, out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
    write_pair(name, value, out);
}

/// Appends `,name="value"`: a label that is never the first.
pub fn write_later_label(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b',');
    write_pair(name, value, out);
}

/// Appends `name="value"`.
pub fn write_pair(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    // Most names need no escape; without an early return this check compiles to vector instructions.
    let needs_escape = |found, byte| found | matches!(byte, b'\\' | b'"' | b'\n');
    if value.bytes().fold(false, needs_escape) {
        write_escaped(value, out);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'"');
}

fn write_escaped(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: Number) -> String {
        let mut out = Vec::new();
        write_number(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_exactly() {
        for (number, expected) in [
            (Number::Count(0), "0"),
            (Number::Count(u64::MAX), "18446744073709551615"),
            (Number::Seconds(Duration::ZERO), "0"),
            (Number::Seconds(Duration::from_millis(1_500)), "1.5"),
            (Number::Seconds(Duration::from_micros(12_000_001)), "12.000001"),
            (Number::Seconds(Duration::from_micros(50)), "0.00005"),
            (Number::Seconds(Duration::from_nanos(999)), "0"),
            (Number::Seconds(Duration::from_millis(1_700_000_000_123)), "1700000000.123"),
            (Number::Ratio(0.0), "0"),
            (Number::Ratio(0.25), "0.25"),
            (Number::Ratio(1.0), "1"),
        ] {
            assert_eq!(written(number), expected);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut out = Vec::new();
        write_label("a", "plain", &mut out);
        write_label("b", "q\"b\\n\nx", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"a="plain",b="q\"b\\n\nx""#);
    }
}
