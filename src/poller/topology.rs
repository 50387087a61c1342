//! Which nodes make up a target: one, for a standalone server. Sentinel and Cluster will find theirs here.

use crate::config::Target;
use crate::server_url::Place;

/// The places of the nodes that hold the target's streams.
pub(super) fn nodes(target: &Target) -> Vec<Place> {
    vec![target.place.clone()]
}
