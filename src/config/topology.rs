//! Reads the topology of a target: one server, a master found through Sentinel, or a cluster.

use std::fmt;

use crate::config::LoginPassword;
use crate::config::credentials;
use crate::config::cursor::{Cursor, Section};
use redis_stream_core::redis_url::{self, Endpoint, SENTINEL_PORT, ServerUrl};

/// The topology of a target and its addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Topology {
    /// A single server.
    Standalone(
        /// Its address.
        Endpoint,
    ),
    /// The current master of a Sentinel setup.
    Sentinel(Sentinel),
    /// The masters of a cluster.
    Cluster(
        /// Nodes to discover the others from; at least one.
        Vec<Endpoint>,
    ),
}

/// The sentinels of a master.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentinel {
    /// The name of the master in Sentinel.
    pub master_name: String,
    /// Addresses of sentinels; at least one. TLS is used for the master if it is for them.
    pub endpoints: Vec<Endpoint>,
    /// ACL user of the sentinels; `None` is the default user.
    pub username: Option<String>,
    /// Password of the sentinels; `None` for no authentication.
    pub password: Option<LoginPassword>,
}

/// The values of the key `topology`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Standalone,
    Sentinel,
    Cluster,
}

const KINDS: [(&str, Kind); 3] =
    [("standalone", Kind::Standalone), ("cluster", Kind::Cluster), ("sentinel", Kind::Sentinel)];

/// A topology as far as it is valid.
pub(super) struct TopologySettings {
    pub(super) topology: Option<Topology>,
    pub(super) db: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<LoginPassword>,
}

impl Topology {
    /// Returns true if TLS is used for all servers.
    pub(super) fn is_secured(&self) -> bool {
        let is_secured = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Tls(_));
        match self {
            Self::Standalone(endpoint) => is_secured(endpoint),
            Self::Sentinel(Sentinel { endpoints, .. }) | Self::Cluster(endpoints) => {
                endpoints.iter().all(is_secured)
            }
        }
    }

    /// Returns true if both lead to the same servers: they have an address, a sentinel or a cluster node in common.
    pub fn is_of_same_servers(&self, other: &Self) -> bool {
        let have_one_in_common =
            |these: &[Endpoint], those: &[Endpoint]| these.iter().any(|endpoint| those.contains(endpoint));
        match (self, other) {
            (Self::Standalone(this), Self::Standalone(that)) => this == that,
            (Self::Sentinel(this), Self::Sentinel(that)) => {
                this.master_name == that.master_name && have_one_in_common(&this.endpoints, &that.endpoints)
            }
            (Self::Cluster(these), Self::Cluster(those)) => have_one_in_common(these, those),
            _ => false,
        }
    }

    /// Returns the name of a target without a given one.
    pub(super) fn default_name(&self, db: u32) -> String {
        let name = match self {
            Self::Standalone(endpoint) => endpoint.to_string(),
            Self::Sentinel(sentinel) => sentinel.master_name.clone(),
            Self::Cluster(seeds) => seeds.first().map(ToString::to_string).unwrap_or_default(),
        };
        if db == 0 { name } else { format!("{name}/{db}") }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed =
            |endpoints: &[Endpoint]| endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Standalone(endpoint) => endpoint.fmt(f),
            Self::Sentinel(Sentinel { master_name, endpoints, .. }) => {
                write!(f, "{master_name}, by the sentinels {}", listed(endpoints))
            }
            Self::Cluster(seeds) => write!(f, "the cluster of {}", listed(seeds)),
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> TopologySettings {
    let kind = section.key("topology").choice(&KINDS).unwrap_or(Kind::Standalone);
    let keys @ [url_key, urls_key, sentinel_key] = &["url", "urls", "sentinel"].map(|key| section.key(key));
    let sentinel = sentinel_key.given_section(sentinel);
    let seeds = endpoints(urls_key, redis_url::parse);
    let url = url_key.text().and_then(|text| read_url(url_key, &text.value, redis_url::parse));
    let (username, password) = credentials::read(section, url_key, url.as_ref());
    refuse_others(kind, keys);
    let (topology, db) = match kind {
        Kind::Standalone => {
            let db = url.as_ref().map_or(0, |url| url.db);
            (url.map(|url| Topology::Standalone(url.endpoint)), db)
        }
        Kind::Sentinel => sentinel.map_or((None, 0), |(found, db)| (Some(Topology::Sentinel(found)), db)),
        Kind::Cluster => {
            let seeds = url.map(|url| (vec![url.endpoint], url.db)).or(seeds);
            if seeds.as_ref().is_some_and(|(_, db)| *db != 0) {
                url_key.fault("names a database, but a cluster has only database 0; leave it out");
            }
            (seeds.map(|(endpoints, _)| Topology::Cluster(endpoints)), 0)
        }
    };
    TopologySettings { topology, db, username, password }
}

/// Refuses keys of another topology, and reports missing ones.
fn refuse_others(kind: Kind, [url, urls, sentinel]: &[Cursor<'_>; 3]) {
    let (needed, others): (&[&Cursor<'_>], &[&Cursor<'_>]) = match kind {
        Kind::Standalone => (&[url], &[urls, sentinel]),
        Kind::Sentinel => (&[sentinel], &[url, urls]),
        Kind::Cluster => (&[url, urls], &[sentinel]),
    };
    let (word, _) = KINDS.iter().find(|(_, other)| *other == kind).expect("each kind has a word");
    for other in others.iter().filter(|other| other.is_given()) {
        other
            .fault(format_args!("does not go with topology: {word}; expected {} instead", needed[0].label()));
    }
    match needed.iter().filter(|key| key.is_given()).count() {
        0 if kind == Kind::Cluster => {
            urls.fault(format_args!("missing; expected a list of nodes, each as {}", redis_url::FORM));
        }
        0 if kind == Kind::Sentinel => sentinel.fault("missing; expected master_name and urls"),
        0 => url.fault(format_args!("missing; expected {}", redis_url::FORM)),
        1 => {}
        _ => urls.refuse_beside(url),
    }
}

fn sentinel(section: &Section<'_>) -> Option<(Sentinel, u32)> {
    let name_key = section.key("master_name");
    let urls_key = section.key("urls");
    let master_name = name_key.filled_text("the name that the sentinels know the master by");
    let found = endpoints(&urls_key, |text| redis_url::parse_with_port(text, SENTINEL_PORT));
    let (username, password) = credentials::read(section, &urls_key, None);
    for key in [&name_key, &urls_key] {
        key.require("the name of the master and a list of sentinels");
    }
    let (endpoints, db) = found?;
    Some((Sentinel { master_name: master_name?, endpoints, username, password }, db))
}

/// Reads several addresses with one scheme and database.
fn endpoints(
    list: &Cursor<'_>,
    parse: impl Fn(&str) -> Result<ServerUrl, redis_url::UrlError>,
) -> Option<(Vec<Endpoint>, u32)> {
    list.require_items("at least one");
    let mut endpoints = Vec::new();
    let mut db = None;
    for item in list.items()? {
        let Some(url) = item.text().and_then(|text| read_url(&item, &text.value, &parse)) else { continue };
        if url.username.is_some() || url.password.is_some() {
            item.fault("has credentials; expected them in username and password or password_file");
        }
        if matches!(url.endpoint, Endpoint::Unix(_)) {
            item.fault("a unix socket, which names no other node; expected redis:// or rediss://");
        }
        if *db.get_or_insert(url.db) != url.db {
            item.fault("names another database than those before; expected the same");
        }
        let is_alike =
            |first: &Endpoint| matches!(first, Endpoint::Tls(_)) == matches!(url.endpoint, Endpoint::Tls(_));
        if !endpoints.first().is_none_or(is_alike) {
            item.fault("not the same scheme as those before; expected redis:// or rediss:// for all");
        }
        endpoints.push(url.endpoint);
    }
    (!endpoints.is_empty()).then(|| (endpoints, db.unwrap_or(0)))
}

fn read_url(
    key: &Cursor<'_>,
    text: &str,
    parse: impl Fn(&str) -> Result<ServerUrl, redis_url::UrlError>,
) -> Option<ServerUrl> {
    parse(text).map_err(|error| key.fault(error)).ok()
}
