//! Keys and changes of size, from the terminal to who waits for them.

use std::io;
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

/// How long a thread that nobody listens to goes on.
const PATIENCE: Duration = Duration::from_millis(200);

/// Reads the terminal on a thread of its own, until nobody listens any more.
///
/// # Errors
///
/// There can be no further thread.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Event>> {
    let (sender, events) = mpsc::unbounded_channel();
    thread::Builder::new().name("keys".to_owned()).spawn(move || forward(&sender))?;
    Ok(events)
}

fn forward(sender: &mpsc::UnboundedSender<Event>) {
    while !sender.is_closed() {
        let event = match event::poll(PATIENCE) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        // Where the terminal is gone, the listener's end comes with the sender's.
        let Ok(event) = event else { return };
        if sender.send(event).is_err() {
            return;
        }
    }
}
