//! `/api/v1/alerts`: pending and firing alerts, in the format of Prometheus.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::alert::active::{Active, ActiveAlert};
use crate::alert::state::Phase;
use crate::alert::template::with_exponent;
use crate::format::units::rfc3339;

/// Writes the alerts of all targets.
///
/// # Errors
///
/// Those of `out`.
pub fn write(targets: &[Arc<Active>], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(br#"{"status":"success","data":{"alerts":["#)?;
    for (at, alert) in targets.iter().flat_map(|active| active.alerts()).enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &to_json(&alert))?;
    }
    out.write_all(b"]}}\n")
}

fn to_json(alert: &ActiveAlert) -> Value {
    let state = &alert.state;
    let phase = if state.phase == Phase::Pending { "pending" } else { "firing" };
    let mut value = json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": phase,
        "activeAt": rfc3339(state.active_at),
        "value": scientific(state.value),
    });
    if let Some(name) = &alert.inhibited_by {
        value["inhibitedBy"] = json!([name]);
    }
    if let Some(since) = state.kept_since {
        value["keepFiringSince"] = rfc3339(since).into();
    }
    value
}

/// Formats a number as Prometheus does here: always with an exponent of at least two digits.
fn scientific(value: f64) -> String {
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => with_exponent(mantissa, exponent.parse().unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_an_exponent() {
        for (value, text) in
            [(0.0, "0e+00"), (1.0, "1e+00"), (1500.0, "1.5e+03"), (0.25, "2.5e-01"), (-1e120, "-1e+120")]
        {
            assert_eq!(scientific(value), text);
        }
    }

    #[test]
    fn no_alert_is_an_empty_list() {
        let mut text = Vec::new();
        write(&[Arc::default()], &mut text).unwrap();
        assert_eq!(text, b"{\"status\":\"success\",\"data\":{\"alerts\":[]}}\n");
    }
}
