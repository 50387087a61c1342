//! Which content coding a client accepts. Compresses nothing.

/// How a body is coded on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Compressed with gzip.
    Gzip,
}

impl Encoding {
    /// The coding to answer in, from the lines of `Accept-Encoding`: gzip wherever it is accepted. What names
    /// gzip rules over `*`; a weight of 0, or one that is no number, refuses.
    pub fn accepted<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut gzip, mut any) = (None, None);
        for coding in lines.into_iter().flat_map(|line| line.split(',')) {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight(parameters)),
                "*" => any = Some(weight(parameters)),
                _ => {}
            }
        }
        if gzip.or(any).is_some_and(|weight| weight > 0.0) { Self::Gzip } else { Self::Identity }
    }
}

fn weight(parameters: &str) -> f32 {
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value)
    });
    value.map_or(1.0, |value| value.trim().parse().unwrap_or(0.0))
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
