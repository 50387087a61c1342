//! Reads `targets`: servers, credentials, labels, streams and limits, and checks them against each other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::cursor::{Cursor, Section, Text};
use crate::config::status_window::Windows;
use crate::config::topology::{Topology, TopologySettings};
use crate::config::{Limits, LoginPassword, Role, StreamRule, Target, allowed_nodes, tls, topology};
use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;

/// More would take tens of seconds to start and to stop.
const MAX_TARGETS: usize = 10_000;

/// A shorter one could end between two polls.
const SHORTEST_LOGIN: Duration = Duration::from_secs(5);

const LIMITS: Limits = Limits { streams: 10_000, groups_per_stream: 1000, consumers_per_group: 100 };

const ROLES: [(&str, Role); 3] = [("master", Role::Master), ("replica", Role::Replica), ("any", Role::Any)];

/// Labels that our series, or alerts and histograms of Prometheus, have.
const RESERVED_LABELS: [&str; 14] = [
    "target",
    "db",
    "stream",
    "group",
    "consumer",
    "status",
    "alertname",
    "alertstate",
    "le",
    "node",
    "result",
    "reason",
    "what",
    "command",
];

/// A target as far as it is valid, with the cursors that faults between targets are recorded at.
struct TargetDraft<'t> {
    name_key: Cursor<'t>,
    labels_key: Cursor<'t>,
    /// The given name, or the default if the URL is valid.
    name: Option<Text>,
    labels: BTreeMap<String, String>,
    /// `None` if the URL is invalid.
    target: Option<Target>,
}

/// Reads the valid targets.
pub(super) fn read_all(list: &Cursor<'_>, windows: &Windows) -> Vec<Target> {
    if !list.is_given() {
        list.fault("missing; expected a list of at least one target");
        return Vec::new();
    }
    list.require_items("at least one target");
    let items = list.items().unwrap_or_default();
    if items.len() > MAX_TARGETS {
        list.fault(format_args!(
            "{} targets; expected {MAX_TARGETS} at most, and further ones in another streamgauge",
            items.len()
        ));
        return Vec::new();
    }
    let items = items.into_iter();
    let drafts: Vec<_> = items.map(|item| item.section(|section| read(section, windows))).collect();
    refuse_duplicate_names(&drafts);
    refuse_different_labels(&drafts);
    drafts.into_iter().filter_map(|draft| draft.target).collect()
}

fn read<'t>(section: &Section<'t>, windows: &Windows) -> TargetDraft<'t> {
    let name_key = section.key("name");
    let given_name = name_key.text();
    if given_name.as_ref().is_some_and(|name| name.value.is_empty()) {
        name_key.fault("empty; expected a name");
    }
    let TopologySettings { topology, db, username, password } = topology::read(section);
    let allowed_nodes = allowed_nodes::read(&section.key("allowed_nodes"), topology.as_ref());
    let lifetime_key = section.key("login_lifetime");
    let login_lifetime = lifetime_key.duration(SHORTEST_LOGIN);
    if lifetime_key.is_given() && !password.as_ref().is_some_and(LoginPassword::can_change) {
        lifetime_key.fault("goes with password_command or password_file; expected one of them too");
    }
    let tls_key = section.key("tls");
    let tls = tls_key.section(tls::read);
    if topology.as_ref().is_some_and(|topology| !topology.is_secured()) {
        let expected = "goes with rediss://; expected that in the URL";
        tls_key.flags_below().for_each(|flag| flag.fault(expected));
        if tls_key.is_given() {
            tls_key.fault(format_args!("{expected}, or no such key"));
        }
    }
    let role_key = section.key("role");
    let role = role_key.choice(&ROLES).unwrap_or(Role::Master);
    if role != Role::Master && matches!(topology, Some(Topology::Sentinel(_) | Topology::Cluster(_))) {
        role_key.fault("goes with topology: standalone; the others poll masters. Expected master");
    }
    let labels_key = section.key("labels");
    let labels = labels_key.labels(&RESERVED_LABELS);
    let streams = streams(&section.key("streams"), windows);
    let limits = section.key("limits").section(limits);

    let default_name = || {
        let value = topology.as_ref().filter(|_| !name_key.is_given())?.default_name(db);
        Some(Text { written: value.clone(), value })
    };
    let name = given_name.or_else(default_name);
    let target = topology.zip(name.as_ref()).map(|(topology, name)| Target {
        name: name.value.clone(),
        topology,
        allowed_nodes,
        tls,
        db,
        username,
        password,
        login_lifetime,
        role,
        labels: labels.clone(),
        streams,
        limits,
    });
    TargetDraft { name_key, labels_key, name, labels, target }
}

fn streams(list: &Cursor<'_>, windows: &Windows) -> Vec<StreamRule> {
    if !list.is_given() {
        return vec![every_group(Glob::new("*"), windows)];
    }
    if list.is_text() {
        return list.glob().map(|key| every_group(key, windows)).into_iter().collect();
    }
    list.require_items("at least one item, or no such key for all streams");
    let rule = |item: Cursor<'_>| match item.is_text() {
        true => every_group(item.glob().unwrap_or_else(|| Glob::new("*")), windows),
        false => item.section(|section| stream(section, windows)),
    };
    list.items().into_iter().flatten().map(rule).collect()
}

fn every_group(key: Glob, windows: &Windows) -> StreamRule {
    StreamRule {
        key,
        exclude: Vec::new(),
        include_groups: vec![Glob::new("*")],
        exclude_groups: Vec::new(),
        consumers: true,
        window: windows.default(),
        family: None,
    }
}

fn stream(section: &Section<'_>, windows: &Windows) -> StreamRule {
    let key = section.key("key");
    key.require("a key or glob");
    let (include_groups, exclude_groups) = section.key("groups").section(groups);
    StreamRule {
        key: key.glob().unwrap_or_else(|| Glob::new("*")),
        exclude: section.key("exclude").globs().unwrap_or_default(),
        include_groups,
        exclude_groups,
        consumers: section.key("consumers").boolean().unwrap_or(true),
        window: windows.of(&section.key("window")),
        family: section
            .key("as")
            .filled_text("a name for all streams of the item")
            .map(|name| Name::from_text(&name)),
    }
}

fn groups(section: &Section<'_>) -> (Vec<Glob>, Vec<Glob>) {
    let include_key = section.key("include");
    let include = include_key.globs();
    include_key.require_items("at least one name or glob");
    (include.unwrap_or_else(|| vec![Glob::new("*")]), section.key("exclude").globs().unwrap_or_default())
}

fn limits(section: &Section<'_>) -> Limits {
    let limit = |name, default| match section.key(name).number(1..=u32::MAX) {
        Some(limit) => limit as usize,
        None => default,
    };
    Limits {
        streams: limit("streams", LIMITS.streams),
        groups_per_stream: limit("groups_per_stream", LIMITS.groups_per_stream),
        consumers_per_group: limit("consumers_per_group", LIMITS.consumers_per_group),
    }
}

fn refuse_duplicate_names(drafts: &[TargetDraft<'_>]) {
    for (at, draft) in drafts.iter().enumerate() {
        let Some(name) = &draft.name else { continue };
        let same =
            |other: &TargetDraft<'_>| other.name.as_ref().is_some_and(|other| other.value == name.value);
        if let Some(first) = drafts[..at].iter().position(same) {
            draft.name_key.fault(format_args!(
                "{:?} is the name of targets[{first}] too; expected a name of its own",
                name.written
            ));
        }
    }
}

/// Refuses targets with different label names: their series could not be aggregated or joined.
fn refuse_different_labels(drafts: &[TargetDraft<'_>]) {
    let Some((first, others)) = drafts.split_first() else { return };
    for draft in others {
        if !draft.labels.keys().eq(first.labels.keys()) {
            let names: Vec<_> = first.labels.keys().map(String::as_str).collect();
            let expected = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            draft.labels_key.fault(format_args!(
                "not the same names as in {}; expected {expected}",
                first.labels_key.label()
            ));
        }
    }
}
