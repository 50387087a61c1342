//! Negotiates the content coding of a reply.

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not compressed.
    Identity,
    /// Compressed with gzip.
    Gzip,
}

impl Encoding {
    /// Chooses a coding from the lines of `Accept-Encoding`, by RFC 9110 (section 12.5.3): gzip if it is accepted,
    /// unless `identity` has the larger weight. A named coding overrides `*`. A weight of 0 or one that is not valid
    /// refuses a coding. A client that refuses all codings gets `identity`, as the RFC advises.
    pub fn accepted<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut gzip, mut identity, mut any) = (None, None, None);
        for coding in lines.into_iter().flat_map(|line| line.split(',')) {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let named = match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => &mut gzip,
                "identity" => &mut identity,
                "*" => &mut any,
                _ => continue,
            };
            *named = (*named).max(Some(weight(parameters)));
        }
        let gzip = gzip.or(any).unwrap_or(0);
        if gzip > 0 && Some(gzip) >= identity { Self::Gzip } else { Self::Identity }
    }
}

/// Returns the weight of a coding in thousandths; 1,000 by default.
fn weight(parameters: &str) -> u16 {
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
    });
    value.map_or(1_000, |value| thousandths(value).unwrap_or(0))
}

/// Parses a number from 0 to 1 with up to three decimals.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let decimals = format!("{decimals:0<3}").parse().ok()?;
    match (whole, decimals) {
        ("0", decimals) => Some(decimals),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_chosen_only_where_it_is_accepted() {
        use Encoding::{Gzip, Identity};
        let cases: &[(&[&str], Encoding)] = &[
            (&[], Identity),
            (&[""], Identity),
            (&["gzip"], Gzip),
            (&["GZip"], Gzip),
            (&["x-gzip"], Gzip),
            (&["deflate, gzip;q=0.5, br"], Gzip),
            (&["gzip;q=0.001"], Gzip),
            (&["gzip ; Q=1.0"], Gzip),
            (&["gzip;q=0"], Identity),
            (&["gzip;q=0.000"], Identity),
            (&["gzip; q = 0"], Identity),
            (&["gzip;q=often"], Identity),
            (&["gzip;q=-1"], Identity),
            (&["gzip;q=2"], Identity),
            (&["gzip;q=1.001"], Identity),
            (&["gzip;q=0.0001"], Identity),
            (&["gzip;q=inf"], Identity),
            (&["gzip;q=1e-1"], Identity),
            (&["gzip;q=."], Identity),
            (&["gzip;q=1."], Gzip),
            (&["gzip;q=1.000"], Gzip),
            (&["gzip;q=0.5, identity"], Identity),
            (&["gzip;q=0.5, identity;q=0.4"], Gzip),
            (&["gzip;q=0.5, identity;q=0.51"], Identity),
            (&["identity, gzip"], Gzip),
            (&["identity;q=0.5, *;q=0.2"], Identity),
            (&["*;q=0.5, identity;q=0.2"], Gzip),
            (&["gzip;q=0, x-gzip;q=0.2"], Gzip),
            (&["gzip;q=0, identity;q=0"], Identity),
            (&["*"], Gzip),
            (&["*;q=0"], Identity),
            (&["*;q=0, gzip"], Gzip),
            (&["gzip;q=0, *"], Identity),
            (&["*, gzip;q=0"], Identity),
            (&["deflate, br, zstd"], Identity),
            (&["gzipped"], Identity),
            (&["identity;q=0"], Identity),
            (&["br", "gzip"], Gzip),
        ];
        for (lines, expected) in cases {
            assert_eq!(Encoding::accepted(lines.iter().copied()), *expected, "{lines:?}");
        }
    }
}
