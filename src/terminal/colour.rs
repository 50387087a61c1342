//! The colours of severities on a screen.

use ratatui::style::{Color, Style};

use crate::format::severity::Severity;

pub(super) fn colour(severity: Severity) -> Style {
    match severity {
        Severity::Bad => Color::Red.into(),
        Severity::Poor | Severity::Unknown => Color::Yellow.into(),
        Severity::Good => Color::Green.into(),
    }
}
