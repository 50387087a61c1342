//! How names that are not UTF-8 are written in YAML and in flags: `\xHH` is that byte, as the metrics' labels
//! show it. It is decoded before anything else reads the text, so `\x2a` in a glob is a star like any other,
//! and a backslash followed by `x` and two hex digits is written `\x5cx41`. In a glob, where a backslash
//! escapes too, the key `\x41` itself is matched by `\x5c\x5cx41`.

/// The bytes that `text` stands for. Whatever is no escape stands for itself.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return bytes,
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(digit(*high) << 4 | digit(*low));
                tail
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                tail
            }
        };
    }
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => hex.to_ascii_lowercase() - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use proptest::prop_assert_eq;
    use proptest::sample::select;

    use super::decode;
    use redis_stream_core::glob::Glob;

    #[test]
    fn escapes_stand_for_bytes() {
        for (text, bytes) in [
            ("orders", &b"orders"[..]),
            ("a\\xffb", b"a\xffb"),
            ("\\xFf\\x00", b"\xff\x00"),
            ("\\x5cx41", b"\\x41"),
            ("\\*\\xg0\\x4", b"\\*\\xg0\\x4"),
            ("grün", "grün".as_bytes()),
        ] {
            assert_eq!(decode(text), bytes, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_a_glob_displays_decodes_to_its_pattern(
            special in vec(select(&b"\\x4fg\xff"[..]), 0..12),
            any_bytes in vec(any::<u8>(), 0..12),
        ) {
            for pattern in [special, any_bytes] {
                prop_assert_eq!(decode(&Glob::new(pattern.clone()).to_string()), pattern);
            }
        }
    }
}
