//! Reads the topology of a target: one server, a master found through Sentinel, or a cluster.

use std::fmt;
use std::path::Path;

use crate::config::Password;
use crate::config::credentials;
use crate::config::cursor::{Cursor, Section};
use redis_stream_core::redis_url::{self, Place, SENTINEL_PORT, ServerUrl};

/// The topology of a target and its addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Topology {
    /// A single server.
    Standalone(
        /// Its address.
        Place,
    ),
    /// The current master of a Sentinel setup.
    Sentinel(Sentinel),
    /// The masters of a cluster.
    Cluster(
        /// Nodes to discover the others from; at least one.
        Vec<Place>,
    ),
}

/// The sentinels of a master.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentinel {
    /// The name of the master in Sentinel.
    pub master_name: String,
    /// Addresses of sentinels; at least one. TLS is used for the master if it is for them.
    pub places: Vec<Place>,
    /// ACL user of the sentinels; `None` is the default user.
    pub username: Option<String>,
    /// Password of the sentinels; `None` for no authentication.
    pub password: Option<Password>,
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
pub(super) struct Found {
    pub(super) topology: Option<Topology>,
    pub(super) db: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Password>,
}

impl Topology {
    /// Returns true if TLS is used for all servers.
    pub(super) fn is_secured(&self) -> bool {
        let is_secured = |place: &Place| matches!(place, Place::Tls(_));
        match self {
            Self::Standalone(place) => is_secured(place),
            Self::Sentinel(Sentinel { places, .. }) | Self::Cluster(places) => places.iter().all(is_secured),
        }
    }

    /// Returns true if both lead to the same servers: they have an address, a sentinel or a cluster node in common.
    #[must_use]
    pub fn is_of_same_servers(&self, other: &Self) -> bool {
        let have_one_in_common =
            |these: &[Place], those: &[Place]| these.iter().any(|place| those.contains(place));
        match (self, other) {
            (Self::Standalone(this), Self::Standalone(that)) => this == that,
            (Self::Sentinel(this), Self::Sentinel(that)) => {
                this.master_name == that.master_name && have_one_in_common(&this.places, &that.places)
            }
            (Self::Cluster(these), Self::Cluster(those)) => have_one_in_common(these, those),
            _ => false,
        }
    }

    /// Returns the name of a target without a given one.
    pub(super) fn default_name(&self, db: u32) -> String {
        let name = match self {
            Self::Standalone(place) => place.to_string(),
            Self::Sentinel(sentinel) => sentinel.master_name.clone(),
            Self::Cluster(seeds) => seeds.first().map(ToString::to_string).unwrap_or_default(),
        };
        if db == 0 { name } else { format!("{name}/{db}") }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |places: &[Place]| places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Standalone(place) => place.fmt(f),
            Self::Sentinel(Sentinel { master_name, places, .. }) => {
                write!(f, "{master_name}, by the sentinels {}", listed(places))
            }
            Self::Cluster(seeds) => write!(f, "the cluster of {}", listed(seeds)),
        }
    }
}

pub(super) fn read(section: &Section<'_>, folder: &Path) -> Found {
    let kind = section.key("topology").choice(&KINDS).unwrap_or(Kind::Standalone);
    let keys @ [url_key, urls_key, sentinel_key] = &["url", "urls", "sentinel"].map(|key| section.key(key));
    let sentinel = sentinel_key.section(|section| sentinel(section, folder, sentinel_key));
    let seeds = places(urls_key, redis_url::parse);
    let url = url_key.text().and_then(|text| read_url(url_key, &text.value, redis_url::parse));
    let (username, password) = credentials::read(section, url_key, url.as_ref(), folder);
    refuse_others(kind, keys, url_key);
    let (topology, db) = match kind {
        Kind::Standalone => {
            let db = url.as_ref().map_or(0, |url| url.db);
            (url.map(|url| Topology::Standalone(url.place)), db)
        }
        Kind::Sentinel => sentinel.map_or((None, 0), |(found, db)| (Some(Topology::Sentinel(found)), db)),
        Kind::Cluster => {
            let seeds = url.map(|url| (vec![url.place], url.db)).or(seeds);
            if seeds.as_ref().is_some_and(|(_, db)| *db != 0) {
                url_key.fault("names a database, and a cluster has but one; expected none");
            }
            (seeds.map(|(places, _)| Topology::Cluster(places)), 0)
        }
    };
    Found { topology, db, username, password }
}

/// Refuses keys of another topology, and reports missing ones.
fn refuse_others(kind: Kind, [url, urls, sentinel]: &[Cursor<'_>; 3], place: &Cursor<'_>) {
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
        0 => place.fault(format_args!("missing; expected {}", redis_url::FORM)),
        1 => {}
        _ => urls.fault(format_args!("{} is there too; expected one of them", url.label())),
    }
}

fn sentinel(section: &Section<'_>, folder: &Path, place: &Cursor<'_>) -> Option<(Sentinel, u32)> {
    let name_key = section.key("master_name");
    let urls_key = section.key("urls");
    let master_name = name_key.text().map(|text| text.value);
    let found = places(&urls_key, |text| redis_url::parse_with_port(text, SENTINEL_PORT));
    let (username, password) = credentials::read(section, &urls_key, None, folder);
    if place.is_given() {
        for key in [&name_key, &urls_key].into_iter().filter(|key| !key.is_given()) {
            key.fault("missing; expected the name of the master and a list of sentinels");
        }
    }
    if master_name.as_ref().is_some_and(String::is_empty) {
        name_key.fault("empty; expected the name that the sentinels know the master by");
    }
    let (places, db) = found?;
    Some((Sentinel { master_name: master_name?, places, username, password }, db))
}

/// Reads several addresses with one scheme and database.
fn places(
    list: &Cursor<'_>,
    parse: impl Fn(&str) -> Result<ServerUrl, redis_url::UrlError>,
) -> Option<(Vec<Place>, u32)> {
    if list.is_an_empty_list() {
        list.fault("an empty list; expected at least one");
    }
    let mut places = Vec::new();
    let mut db = None;
    for item in list.items()? {
        let Some(url) = item.text().and_then(|text| read_url(&item, &text.value, &parse)) else { continue };
        if url.username.is_some() || url.password.is_some() {
            item.fault("has credentials; expected them in username and password or password_file");
        }
        if matches!(url.place, Place::Unix(_)) {
            item.fault("a unix socket, which names no other node; expected redis:// or rediss://");
        }
        if *db.get_or_insert(url.db) != url.db {
            item.fault("names another database than those before; expected the same");
        }
        let is_alike = |first: &Place| matches!(first, Place::Tls(_)) == matches!(url.place, Place::Tls(_));
        if !places.first().is_none_or(is_alike) {
            item.fault("not the same scheme as those before; expected redis:// or rediss:// for all");
        }
        places.push(url.place);
    }
    (!places.is_empty()).then(|| (places, db.unwrap_or(0)))
}

fn read_url(
    key: &Cursor<'_>,
    text: &str,
    parse: impl Fn(&str) -> Result<ServerUrl, redis_url::UrlError>,
) -> Option<ServerUrl> {
    parse(text).map_err(|error| key.fault(error)).ok()
}
