//! Which nodes make up a target: one, for a standalone server. Sentinel and Cluster will find theirs here.

use crate::config::Target;
use crate::server_url::Address;

/// The addresses of the nodes that hold the target's streams.
pub(super) fn nodes(target: &Target) -> Vec<Address> {
    vec![target.address.clone()]
}
