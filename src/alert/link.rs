//! Where people find what an alert is about: the path of a page of the exporter itself.
//!
//! A part of a path is a name as text, percent-encoded. So a link can be made from the labels of an alert alone, and
//! what it leads to can be found from the link alone.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a part of a path may hold as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');
/// The longest path that a link may have: servers and proxies refuse a request whose head is over some KiB.
const MAX_PATH_BYTES: usize = 8 * 1024;

/// The path of a group's page, without a slash before it. `None` where the names are too long for a link.
#[must_use]
pub fn group_path(target: &str, db: &str, stream: &str, group: &str) -> Option<String> {
    let parts = [target, db, stream, group].map(part);
    let path = format!("groups/{}", parts.join("/"));
    (path.len() <= MAX_PATH_BYTES).then_some(path)
}

/// The page about the subject of an alert below `external_url`: that of its group, or the first page, where the rest
/// is to be found.
#[must_use]
pub fn of_alert(external_url: &str, labels: &BTreeMap<String, String>) -> String {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let path = || group_path(label("target")?, label("db")?, label("stream")?, label("group")?);
    match path() {
        Some(path) => format!("{}/{path}", external_url.trim_end_matches('/')),
        None => external_url.to_owned(),
    }
}

/// A name as one part of a path. Browsers would take `.` and `..` for the way up, however they are percent-encoded:
/// there the first dot is written as names write bytes.
fn part(name: &str) -> String {
    let is_way_up = name == "." || name == "..";
    let name = if is_way_up { name.replacen('.', "\\x2e", 1) } else { name.to_owned() };
    utf8_percent_encode(&name, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::name::Name;

    #[test]
    fn each_name_is_one_part_of_a_path() {
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
    fn an_alert_leads_to_its_group_and_any_other_to_the_first_page() {
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
