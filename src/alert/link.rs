//! Links from an alert to the exporter's page about its subject.
//!
//! Each segment of the path is a name as escaped text, percent-encoded. So a link needs only the labels of an alert,
//! and the page needs only the link.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that are percent-encoded in a segment.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');
/// Maximum length of a link's path: servers and proxies reject requests with a head of more than a few KiB.
const MAX_PATH_BYTES: usize = 8 * 1024;

/// Returns the path of a group's page, without a leading slash; `None` if the names are too long for a link.
pub fn group_path(target: &str, db: &str, stream: &str, group: &str) -> Option<String> {
    let segments = [target, db, stream, group].map(segment);
    let path = format!("groups/{}", segments.join("/"));
    (path.len() <= MAX_PATH_BYTES).then_some(path)
}

/// Returns the path of a stream's page, without a leading slash; `None` if the names are too long for a link.
pub fn stream_path(target: &str, db: &str, stream: &str) -> Option<String> {
    let path = format!("streams/{}", [target, db, stream].map(segment).join("/"));
    (path.len() <= MAX_PATH_BYTES).then_some(path)
}

/// Returns the URL of the page for an alert's subject: the page of its group, or the overview at `external_url` for
/// other subjects.
pub fn of_alert(external_url: &str, labels: &BTreeMap<String, String>) -> String {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let path = || group_path(label("target")?, label("db")?, label("stream")?, label("group")?);
    match path() {
        Some(path) => format!("{}/{path}", external_url.trim_end_matches('/')),
        None => external_url.to_owned(),
    }
}

/// Encodes a name as a path segment. Browsers resolve `.` and `..` as relative segments even if they are
/// percent-encoded, so their first dot is escaped like a byte of a name.
fn segment(name: &str) -> String {
    let is_relative = name == "." || name == "..";
    let name = if is_relative { name.replacen('.', "\\x2e", 1) } else { name.to_owned() };
    utf8_percent_encode(&name, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::name::Name;

    #[test]
    fn each_name_is_one_segment_of_a_path() {
        for (stream, group, path) in [
            ("orders", "mail", "groups/t/db0/orders/mail"),
            ("orders:eu", "a/b", "groups/t/db0/orders:eu/a%2Fb"),
            ("a b", "<script>", "groups/t/db0/a%20b/%3Cscript%3E"),
            ("\u{fc}", "a\\xff?#%", "groups/t/db0/%C3%BC/a%5Cxff%3F%23%25"),
            ("", "..", "groups/t/db0//%5Cx2e."),
            (".", "...", "groups/t/db0/%5Cx2e/..."),
        ] {
            assert_eq!(group_path("t", "db0", stream, group).as_deref(), Some(path));
        }
    }

    #[test]
    fn dots_that_are_escaped_are_the_same_name() {
        assert_eq!(Name::from_text("\\x2e."), Name::from(".."));
        assert_eq!(Name::from_text("\\x2e"), Name::from("."));
    }

    #[test]
    fn names_that_are_too_long_have_no_link() {
        let name = "n".repeat(8_000);
        assert!(group_path("t", "db0", &name, "g").is_some());
        assert_eq!(group_path("t", "db0", &name, &name), None);
        assert_eq!(group_path("t", "db0", &"\u{fc}".repeat(3_000), "g"), None);
    }

    #[test]
    fn an_alert_links_to_its_group_or_else_to_the_overview() {
        let labels = |names: &[(&str, &str)]| {
            names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let group = labels(&[("target", "t"), ("db", "db0"), ("stream", "s"), ("group", "g")]);
        let stream = labels(&[("target", "t"), ("db", "db0"), ("stream", "s")]);
        for url in ["https://gauge.example.com/x", "https://gauge.example.com/x/"] {
            assert_eq!(of_alert(url, &group), "https://gauge.example.com/x/groups/t/db0/s/g");
            assert_eq!(of_alert(url, &stream), url);
        }
    }
}
