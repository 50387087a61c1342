//! The samples of all groups as they are kept over a restart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// The samples of all groups at some times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::page) struct SavedTier {
    /// Milliseconds since the Unix epoch.
    pub(in crate::page) times: Vec<u64>,
    /// The samples of each group: those that are written out, in base64, and the number of those like the last of them.
    pub(in crate::page) samples: Vec<(String, u32)>,
}

impl SavedTier {
    pub(super) fn samples(bytes: &[u8], run: u32) -> (String, u32) {
        (STANDARD_NO_PAD.encode(bytes), run)
    }

    /// Reads the samples that are written out; nothing if the text is damaged.
    pub(super) fn bytes(text: &str) -> Vec<u8> {
        STANDARD_NO_PAD.decode(text).unwrap_or_default()
    }
}
