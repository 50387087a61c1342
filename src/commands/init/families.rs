//! Families of keys: those that begin alike, or that differ in a number at the end.

use std::collections::BTreeMap;

use redis_stream_core::name::Name;

/// The fewest keys of a family.
const LEAST: usize = 3;

/// A glob for a family, and the number of keys that it was found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AlikeKeys {
    pub(super) glob: Name,
    pub(super) keys: usize,
}

/// Returns the families of these keys, and the keys that belong to none.
pub(super) fn of<'a>(keys: impl Iterator<Item = &'a Name>) -> (Vec<AlikeKeys>, Vec<&'a Name>) {
    let mut groups = BTreeMap::<_, Vec<&Name>>::new();
    let mut single = Vec::new();
    for key in keys {
        match glob(key.as_bytes()) {
            Some(glob) => groups.entry(glob).or_default().push(key),
            None => single.push(key),
        }
    }
    let mut families = Vec::new();
    for (glob, keys) in groups {
        if keys.len() < LEAST {
            single.extend(keys);
        } else {
            families.push(AlikeKeys { glob: glob.into(), keys: keys.len() });
        }
    }
    single.sort_unstable();
    (families, single)
}

/// Returns a glob for keys like this one; `None` if nothing in it suggests one.
fn glob(key: &[u8]) -> Option<Vec<u8>> {
    // A hash tag at the start differs, and what follows it is alike.
    if key.starts_with(b"{") {
        let end = key.iter().position(|byte| *byte == b'}')?;
        return Some([&b"{*"[..], &escaped(&key[end..])].concat());
    }
    if let Some(at) = key.iter().position(|byte| b":./".contains(byte)).filter(|at| at + 1 < key.len()) {
        return Some([&escaped(&key[..=at])[..], b"*"].concat());
    }
    let digits = key.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    (1..key.len()).contains(&digits).then(|| [&escaped(&key[..key.len() - digits])[..], b"[0-9]*"].concat())
}

/// Returns a glob that matches exactly these bytes.
pub(super) fn escaped(bytes: &[u8]) -> Vec<u8> {
    let byte = |byte: &u8| match byte {
        b'*' | b'?' | b'[' | b']' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    };
    bytes.iter().flat_map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::glob::Glob;

    #[test]
    fn families_are_of_three_keys_that_are_alike() {
        for (keys, families, single) in [
            (&["orders:1", "orders:2", "orders:eu"][..], &[("orders:*", 3)][..], &[][..]),
            (&["orders:1", "orders:2"], &[], &["orders:1", "orders:2"]),
            (&["job1", "job20", "job3", "jobs"], &[("job[0-9]*", 3)], &["jobs"]),
            (&["a.x", "a.y", "a.z", "b"], &[("a.*", 3)], &["b"]),
            (&["{1}:x", "{2}:x", "{3}:x", "{3}:y"], &[("{*}:x", 3)], &["{3}:y"]),
            (&["a*:1", "a*:2", "a*:3"], &[(r"a\*:*", 3)], &[]),
            (&["orders", "mail:", "12", "{open"], &[], &["12", "mail:", "orders", "{open"]),
            (&[], &[], &[]),
        ] {
            let keys: Vec<_> = keys.iter().map(|key| Name::from(*key)).collect();
            let (found, left) = of(keys.iter());
            let found: Vec<_> = found.iter().map(|family| (family.glob.to_string(), family.keys)).collect();
            let families: Vec<_> = families.iter().map(|(glob, keys)| ((*glob).to_owned(), *keys)).collect();
            assert_eq!(found, families, "{keys:?}");
            assert_eq!(left.iter().map(ToString::to_string).collect::<Vec<_>>(), single, "{keys:?}");
        }
    }

    #[test]
    fn the_globs_match_their_keys_and_escaped_names_only_themselves() {
        for key in [&b"a[1]:x"[..], b"\\:*", b"q?9", b"{a*}[", b"\xff:1"] {
            let glob = glob(key).expect("it is like others");
            assert!(Glob::new(glob.clone()).matches(key), "{}", Name::from(glob));
            assert_eq!(Glob::new(escaped(key)).literal().as_deref(), Some(key));
        }
    }
}
