//! TLS and users of the HTTP server, from the configuration.

use std::sync::Arc;

use crate::commands::exit_code::UsageError;
use crate::config::Web;
use crate::http::access::Users;
use crate::http::gate::Gate;
use crate::http::tls::Tls;

/// Creates the access rules at the start.
pub(super) fn gate(web: &Web) -> Result<Gate, UsageError> {
    let tls = web.tls.clone().map(Tls::new).transpose().map_err(|error| UsageError(error.to_string()))?;
    let tls = tls.map(Arc::new);
    Ok(Gate { tls, users: Users::new(web.users.clone()).map(Arc::new) })
}

/// Returns the access rules after a reload. Unchanged parts keep their TLS sessions and their cache of checked passwords.
pub(super) fn gate_after(web: &Web, before: &Web, gate: &Gate) -> Result<Gate, UsageError> {
    let mut after = gate.clone();
    if web.tls != before.tls {
        after.tls = self::gate(web)?.tls;
    }
    if web.users != before.users {
        after.users = Users::new(web.users.clone()).map(Arc::new);
    }
    Ok(after)
}
