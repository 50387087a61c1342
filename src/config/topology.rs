//! How a target is run: one server, a master that sentinels know, or a cluster; and where it is found.

use std::fmt;
use std::path::Path;

use crate::config::Password;
use crate::config::credentials;
use crate::config::cursor::{Cursor, Section};
use redis_stream_core::redis_url::{self, Place, SENTINEL_PORT, ServerUrl};

/// How a target is run, and where it is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Topology {
    /// One server.
    Standalone(
        /// Where it listens.
        Place,
    ),
    /// The master that sentinels name.
    Sentinel(Sentinel),
    /// The masters of a cluster.
    Cluster(
        /// Nodes that tell of all the others; at least one.
        Vec<Place>,
    ),
}

/// The sentinels that know a master.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentinel {
    /// What they call the master.
    pub master_name: String,
    /// Where they listen; at least one. The master is spoken to as they are: over TLS or in clear.
    pub places: Vec<Place>,
    /// ACL user on the sentinels; `None` is the default user.
    pub username: Option<String>,
    /// Password on the sentinels; `None` is no authentication.
    pub password: Option<Password>,
}

/// What `topology` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Standalone,
    Sentinel,
    Cluster,
}

const KINDS: [(&str, Kind); 3] =
    [("standalone", Kind::Standalone), ("cluster", Kind::Cluster), ("sentinel", Kind::Sentinel)];

/// Where a target is, as far as it could be read.
pub(super) struct Found {
    /// `None` where it could not be read.
    pub(super) topology: Option<Topology>,
    /// Database number.
    pub(super) db: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Password>,
}

impl Topology {
    /// Whether all of it is spoken to over TLS.
    pub(super) fn is_secured(&self) -> bool {
        let is_secured = |place: &Place| matches!(place, Place::Tls(_));
        match self {
            Self::Standalone(place) => is_secured(place),
            Self::Sentinel(Sentinel { places, .. }) | Self::Cluster(places) => places.iter().all(is_secured),
        }
    }

    /// Whether both lead to the same servers: those at one place, or those that a sentinel or a node in common tells of.
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

    /// The name of a target that has no other.
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

/// Reads where a target is, and who we are there.
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

/// What goes with another topology, and what is missing.
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

/// Several places, all spoken to in the same way, and the database that they name.
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
