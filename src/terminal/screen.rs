//! The terminal itself: a full screen that is restored however the program ends, and its events.

use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::style::Colored;
use ratatui::style::Color;
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use crate::terminal::draw::draw;
use crate::terminal::status_view::StatusView;

/// The time after which the thread that reads events notices that the receiver is gone.
const EVENT_TIMEOUT: Duration = Duration::from_millis(200);

/// The terminal in raw mode, on the alternate screen. Restored on drop, and before the message of a panic.
#[derive(Debug)]
pub struct Screen(DefaultTerminal);

impl Screen {
    /// Switches the terminal to the alternate screen and to raw mode.
    ///
    /// # Errors
    ///
    /// Standard input or output is not a terminal.
    pub fn open() -> io::Result<Self> {
        // Without this check, /dev/tty would be read or drawn on while the other is redirected.
        #[expect(clippy::disallowed_methods, reason = "nothing is written")]
        let is_terminal = io::stdout().is_terminal();
        if !io::stdin().is_terminal() || !is_terminal {
            return Err(io::Error::other("standard input and output must both be one"));
        }
        ratatui::try_init().map(Self)
    }

    /// Draws the view.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn show(&mut self, view: &mut StatusView) -> io::Result<()> {
        let is_plain = Colored::ansi_color_disabled();
        let show = |frame: &mut Frame<'_>| {
            draw(frame, view);
            if is_plain {
                remove_colours(frame);
            }
        };
        self.0.draw(show).map(drop)
    }
}

/// Removes the colours, if `NO_COLOR` is set. The crate crossterm would write an empty sequence for each, which also ends
/// the inverse row of the cursor.
fn remove_colours(frame: &mut Frame<'_>) {
    for cell in &mut frame.buffer_mut().content {
        (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It fails only if the terminal is gone.
        let _ = ratatui::try_restore();
    }
}

/// Reads keys and changes of size on a thread of their own, until the receiver is dropped.
///
/// # Errors
///
/// The thread cannot be started.
pub(crate) fn listen() -> io::Result<mpsc::UnboundedReceiver<Event>> {
    let (sender, events) = mpsc::unbounded_channel();
    thread::Builder::new().name("keys".to_owned()).spawn(move || forward(&sender))?;
    Ok(events)
}

fn forward(sender: &mpsc::UnboundedSender<Event>) {
    while !sender.is_closed() {
        let event = match event::poll(EVENT_TIMEOUT) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        // If the terminal is gone, the receiver ends with the sender.
        let Ok(event) = event else { return };
        if sender.send(event).is_err() {
            return;
        }
    }
}
