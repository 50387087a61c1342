//! The terminal as a whole screen: taken over, and given back as it was however the program ends.

use std::io::{self, IsTerminal as _};

use ratatui::DefaultTerminal;

use crate::terminal::draw::draw;
use crate::terminal::view::View;

/// A screen that is taken over. It is given back when this is dropped, and before the message of a panic.
#[derive(Debug)]
pub struct Screen(DefaultTerminal);

impl Screen {
    /// Takes over the terminal: the other screen, raw keys.
    ///
    /// # Errors
    ///
    /// There is no terminal.
    pub fn open() -> io::Result<Self> {
        // One that is behind neither would be found all the same, and keys and pictures would part ways.
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(io::Error::other("standard input and output must both be one"));
        }
        ratatui::try_init().map(Self)
    }

    /// Shows the view as it is now.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn show(&mut self, view: &mut View) -> io::Result<()> {
        self.0.draw(|frame| draw(frame, view)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where it fails there is no terminal left to mend.
        let _ = ratatui::try_restore();
    }
}
