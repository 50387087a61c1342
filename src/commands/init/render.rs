//! Writes the configuration: config.example.yaml, with the targets that were found, and comments about them. Passwords are
//! never written.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Survey;
use super::families::{self, AlikeKeys};
use crate::commands::check::describe_problem;
use crate::config::topology::Topology;
use crate::config::{LoginPassword, Password, Poll, Role, Target};
use crate::format::unicode::printable;
use crate::format::units::{count, counted, span};
use redis_stream_core::name::Name;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_core::tls::{Tls, Verification};
use redis_stream_lag::report::{GroupReport, Lag, StreamReport};

const EXAMPLE: &str = include_str!("../../../config.example.yaml");

/// The first lines of the parts of the example that follow its URL.
const SECRETS: &str = "    # Secrets";
const STREAMS: &str = "    # Some streams";
const ALERTS: &str = "#alerts:";

/// The most streams, families, and groups of a stream that are listed; the rest is counted.
const MAX_STREAMS: usize = 20;
const MAX_FAMILIES: usize = 10;
const MAX_GROUPS: usize = 5;

/// Characters that end a path in a URL, or begin an escape.
const NOT_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'?').add(b'#').add(b'%');

/// Returns the file.
pub(super) fn configuration(surveys: &[Survey], poll: &Poll) -> String {
    let mut text = String::from(
        "# Written by `streamgauge init`. `streamgauge check --config FILE` tries it, and\n\
         # `streamgauge serve --config FILE` runs it. config.reference.yaml has all keys.\n",
    );
    for survey in surveys {
        found(&mut text, survey, poll);
    }
    if let Some(interval) = surveys.iter().filter_map(|survey| survey.interval).max() {
        let _ = writeln!(text, "poll: {{interval: {}}}", humantime::format_duration(interval));
    }
    text.push_str("targets:\n");
    for survey in surveys {
        target(&mut text, survey);
    }
    text.push_str(part(ALERTS, None));
    text
}

/// Returns a part of the example, up to another or to its end.
fn part(start: &str, end: Option<&str>) -> &'static str {
    let at = |line: &str| EXAMPLE.find(line).expect("a test looks for it");
    &EXAMPLE[at(start)..end.map_or(EXAMPLE.len(), at)]
}

fn comment(text: &mut String, line: impl Display) {
    let _ = writeln!(text, "# {}", printable(&line.to_string()));
}

/// Describes what was found at a target.
fn found(text: &mut String, survey: &Survey, poll: &Poll) {
    let Survey { target, report, .. } = survey;
    text.push_str("#\n");
    comment(text, format_args!("Found at {}:", target.topology));
    for node in &survey.nodes {
        comment(text, format_args!("  {node}"));
    }
    let (read, unread): (Vec<_>, Vec<_>) = report.streams.iter().partition(|stream| stream.values.is_some());
    let groups = read.iter().map(|stream| stream.groups.len()).sum();
    comment(
        text,
        format_args!(
            "  {} with {}",
            counted(read.len(), "stream", "streams"),
            counted(groups, "group", "groups")
        ),
    );
    for stream in read.iter().take(MAX_STREAMS) {
        comment(text, format_args!("    {}", describe_stream(stream)));
    }
    if read.len() > MAX_STREAMS {
        comment(text, format_args!("    and {} more streams", count((read.len() - MAX_STREAMS) as u64)));
    }
    if !unread.is_empty() {
        let keys = names(unread.iter().map(|stream| &stream.key));
        let reasons: BTreeSet<_> = unread
            .iter()
            .map(|stream| describe_problem(survey.problems.get(&stream.key).copied().flatten()))
            .collect();
        let reasons: Vec<_> = reasons.into_iter().collect();
        comment(text, format_args!("  not read ({}): {keys}", reasons.join(", ")));
    }
    for warning in &survey.warnings {
        comment(text, format_args!("  warning: {warning}"));
    }
    if !survey.missing_permissions.is_empty() {
        let missing = survey.missing_permissions.join(" ");
        comment(text, format_args!("  warning: the user may not run all commands; missing: {missing}"));
    }
    describe_cost(text, survey, poll);
}

fn describe_cost(text: &mut String, survey: &Survey, poll: &Poll) {
    let Some(cost) = survey.cost else { return };
    let fits = match survey.interval {
        None => format!("the interval of {} fits", span(poll.interval)),
        Some(interval) => format!("set to the interval that fits, {}", span(interval)),
    };
    comment(
        text,
        format_args!(
            "  a poll takes {}, {} commands and {} of replies: {fits}",
            span_of_poll(cost.time),
            count(cost.commands),
            ByteSize(cost.reply_bytes)
        ),
    );
}

/// Formats the duration of a poll, which is often a few milliseconds.
fn span_of_poll(time: Duration) -> String {
    if time < Duration::from_secs(1) { format!("{} ms", time.as_millis().max(1)) } else { span(time) }
}

fn describe_stream(stream: &StreamReport) -> String {
    let mut groups: Vec<_> = stream.groups.iter().take(MAX_GROUPS).map(describe_group).collect();
    if stream.groups.len() > MAX_GROUPS {
        groups.push(format!("and {} more", count((stream.groups.len() - MAX_GROUPS) as u64)));
    }
    if groups.is_empty() {
        groups.push("no groups".to_owned());
    }
    format!("{}: {}", stream.key, groups.join(", "))
}

fn describe_group(group: &GroupReport) -> String {
    match group.values.as_ref().map(|values| values.lag) {
        Some(Lag::Exact(lag)) => format!("{} (lag {})", group.name, count(lag)),
        _ => group.name.to_string(),
    }
}

fn names<'a>(all: impl ExactSizeIterator<Item = &'a Name>) -> String {
    let more = all.len().saturating_sub(MAX_GROUPS);
    let mut shown: Vec<_> = all.take(MAX_GROUPS).map(ToString::to_string).collect();
    if more > 0 {
        shown.push(format!("and {} more", count(more as u64)));
    }
    shown.join(", ")
}

/// Writes an item of `targets`.
fn target(text: &mut String, survey: &Survey) {
    let Target { topology, db, role, tls, .. } = &survey.target;
    match topology {
        Topology::Standalone(endpoint) => {
            let _ = writeln!(text, "  - url: {}", quoted(&url(endpoint, *db)));
        }
        Topology::Cluster(seeds) => {
            let urls: Vec<_> = seeds.iter().map(|seed| quoted(&url(seed, 0))).collect();
            let _ = writeln!(text, "  - topology: cluster\n    urls: [{}]", urls.join(", "));
        }
        Topology::Sentinel(sentinel) => {
            let urls: Vec<_> = sentinel.endpoints.iter().map(|it| quoted(&url(it, *db))).collect();
            let _ = writeln!(text, "  - topology: sentinel\n    sentinel:");
            let _ = writeln!(text, "      master_name: {}", quoted(&sentinel.master_name));
            let _ = writeln!(text, "      urls: [{}]", urls.join(", "));
            login(text, "      ", sentinel.username.as_deref(), sentinel.password.as_ref());
        }
    }
    if *role == Role::Replica {
        text.push_str("    role: replica\n");
    }
    let Target { username, password, .. } = &survey.target;
    if password.is_none() {
        text.push_str(part(SECRETS, Some(STREAMS)));
    }
    login(text, "    ", username.as_deref(), password.as_ref());
    tls_settings(text, tls);
    streams(text, survey);
}

/// Writes user and password; a password that was given as text as a variable.
fn login(text: &mut String, indent: &str, username: Option<&str>, password: Option<&LoginPassword>) {
    if let Some(username) = username {
        let _ = writeln!(text, "{indent}username: {}", quoted(username));
    }
    match password.and_then(LoginPassword::configured) {
        Some(Password::Text(_)) => {
            let _ = writeln!(
                text,
                "{indent}# The password is not written here: set the variable, or use password_file.\n\
                 {indent}password: ${{REDIS_PASSWORD}}"
            );
        }
        Some(Password::File(path)) => {
            let _ = writeln!(text, "{indent}password_file: {}", quoted_path(path));
        }
        None => {}
    }
}

fn tls_settings(text: &mut String, tls: &Tls) {
    if *tls == Tls::default() {
        return;
    }
    text.push_str("    tls:\n");
    let certificate = tls.certificate.as_ref();
    let files = [
        ("ca_file", tls.ca_file.as_deref()),
        ("cert_file", certificate.map(|it| it.cert_file.as_path())),
        ("key_file", certificate.map(|it| it.key_file.as_path())),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            let _ = writeln!(text, "      {key}: {}", quoted_path(path));
        }
    }
    if let Some(name) = &tls.server_name {
        let _ = writeln!(text, "      server_name: {}", quoted(name));
    }
    if tls.verification == Verification::Skipped {
        text.push_str("      insecure_skip_verify: true\n");
    }
}

/// Writes the streams that could be selected, as a comment: all are monitored.
fn streams(text: &mut String, survey: &Survey) {
    let read = survey.report.streams.iter().filter(|stream| stream.values.is_some());
    let keys = read.map(|stream| &stream.key);
    let (families, single) = families::of(keys);
    if families.is_empty() || families.len() > MAX_FAMILIES {
        text.push_str(part(STREAMS, Some(ALERTS)));
        return;
    }
    let counts = families.iter().map(|AlikeKeys { glob, keys }| format!("{glob} ({})", count(*keys as u64)));
    let alike = counts.collect::<Vec<_>>().join(", ");
    let left = match single.len() {
        0 => String::new(),
        left => format!("; and {}", counted(left, "other key", "other keys")),
    };
    let item = |glob: String| format!("{{key: {glob}, as: {glob}}}");
    let globs = families.iter().map(|family| item(quoted(&family.glob.to_string())));
    let singles = single.iter().take(MAX_STREAMS - MAX_FAMILIES);
    let singles = singles.map(|key| quoted(&Name::from(families::escaped(key.as_bytes())).to_string()));
    let items: Vec<_> = globs.chain(singles).collect();
    let _ =
        writeln!(text, "    # All streams are monitored. Keys that are alike: {}{left}", printable(&alike));
    text.push_str("    # Some of them instead; the first item that matches a key counts, and `as` makes its streams one family:\n");
    let _ = writeln!(text, "    #streams: [{}]", items.join(", "));
}

/// Returns the URL of a server, without credentials.
fn url(endpoint: &Endpoint, db: u32) -> String {
    let (scheme, db) = match (endpoint, db) {
        (Endpoint::Tcp(_), 0) => ("redis", String::new()),
        (Endpoint::Tls(_), 0) => ("rediss", String::new()),
        (Endpoint::Unix(_), 0) => ("unix", String::new()),
        (Endpoint::Tcp(_), db) => ("redis", format!("/{db}")),
        (Endpoint::Tls(_), db) => ("rediss", format!("/{db}")),
        (Endpoint::Unix(_), db) => ("unix", format!("?db={db}")),
    };
    let address = match endpoint {
        Endpoint::Tcp(address) | Endpoint::Tls(address) => address.to_string(),
        Endpoint::Unix(path) => utf8_percent_encode(&path.to_string_lossy(), NOT_IN_PATH).to_string(),
    };
    format!("{scheme}://{address}{db}")
}

/// Returns a path that does not depend on the folder of the file.
fn quoted_path(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    quoted(&absolute.to_string_lossy())
}

/// Returns a scalar of YAML whose `${` is not replaced by a variable.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, load};
    use redis_stream_core::redis_url;

    #[test]
    fn urls_lead_to_the_same_server_without_credentials() {
        for (given, written) in [
            ("redis://me:secret@cache", "redis://cache:6379"),
            ("rediss://cache:1/2", "rediss://cache:1/2"),
            ("redis://[::1]:7000", "redis://[::1]:7000"),
            ("unix:///run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
            ("unix:///a%20b%25/%23", "unix:///a%20b%25/%23"),
        ] {
            let parsed = redis_url::parse(given).unwrap();
            let text = url(&parsed.endpoint, parsed.db);
            assert_eq!(text, written);
            let again = redis_url::parse(&text).unwrap();
            assert_eq!((again.endpoint, again.db), (parsed.endpoint, parsed.db));
        }
    }

    #[test]
    fn a_scalar_is_what_it_was_after_yaml_and_variables() {
        for text in ["a: b #c", "\"\\\n", "${HOME}", "$", "\u{1f}"] {
            let yaml: String = serde_yaml::from_str(&quoted(text)).unwrap();
            assert_eq!(yaml.replace("$${", "${"), text, "{yaml}");
        }
    }

    #[test]
    fn the_example_has_the_parts_that_are_copied() {
        for (start, end) in [(SECRETS, Some(STREAMS)), (STREAMS, Some(ALERTS)), (ALERTS, None)] {
            assert!(part(start, end).lines().count() >= 2, "{start}");
        }
    }

    #[test]
    fn a_target_is_the_same_when_it_is_read_again() {
        let environment = |name: &str| (name == "REDIS_PASSWORD").then(|| "hunter2".to_owned());
        let read = |text: &str| load::from_text("test", text, Path::new(""), &environment).unwrap();
        for target in [
            "{url: 'redis://[::1]:7000/3', username: 'a \"b\" $${x}', password: hunter2, role: replica}",
            "{url: 'rediss://h', password: hunter2, tls: {server_name: n, insecure_skip_verify: true}}",
            "{url: 'unix:///run/a%20b.sock?db=2'}",
            "{topology: cluster, urls: ['redis://a', 'redis://b:7001'], username: me, password: hunter2}",
            "{topology: sentinel, password: hunter2, sentinel: {master_name: 'my: master', urls: ['redis://s/2'], password: hunter2}}",
        ] {
            let Config { poll, mut targets, .. } = read(&format!("targets: [{target}]"));
            let survey = Survey {
                target: targets.remove(0),
                nodes: Vec::new(),
                warnings: vec!["two\nlines".to_owned()],
                missing_permissions: vec!["+time"],
                report: Arc::default(),
                cost: None,
                problems: BTreeMap::new(),
                interval: Some(Duration::from_secs(15)),
            };
            let text = configuration(std::slice::from_ref(&survey), &poll);
            let again = read(&text);
            assert_eq!(again.targets, [survey.target], "{text}");
            assert_eq!(again.poll.interval, Duration::from_secs(15));
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
