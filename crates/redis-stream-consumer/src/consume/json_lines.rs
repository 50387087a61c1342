//! Entries as JSON [lines](crate::json_line), written by a thread of its own: a sink that nobody reads from
//! holds up nothing else.

use std::io::{self, Write};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use super::handler::{Handler, HandlerError};
use crate::entry::{Entry, GroupMember};
use crate::json_line::LineFormat;
use crate::sink::write_out;

/// Bytes written at once, about.
const CHUNK_BYTES: usize = 64 * 1024;

/// Writes each entry as one line; it is handled once its line is written and flushed.
pub struct JsonLinesWriter {
    format: LineFormat,
    lines: mpsc::Sender<Line>,
}

struct Line {
    text: Vec<u8>,
    written: oneshot::Sender<Result<(), HandlerError>>,
}

impl JsonLinesWriter {
    /// JsonLinesWriter of a consumer's entries. The thread ends with this value, or stays in a write that blocks.
    ///
    /// # Errors
    ///
    /// Where the system starts no thread.
    pub fn new(member: &GroupMember, sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, receiver) = mpsc::channel();
        thread::Builder::new().name("lines".to_owned()).spawn(move || write_all(sink, &receiver))?;
        Ok(Self { format: LineFormat::new(member), lines })
    }
}

impl Handler for JsonLinesWriter {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let mut text = Vec::with_capacity(256);
        self.format.write(entry.id, &entry.fields, &mut text);
        let (written, outcome) = oneshot::channel();
        self.lines.send(Line { text, written }).map_err(|_| HandlerError::Closed)?;
        // The thread that dropped it has ended.
        outcome.await.unwrap_or(Err(HandlerError::Closed))
    }
}

/// Writes lines until there can be no more, several together where they have gathered.
fn write_all(mut sink: impl Write, lines: &mpsc::Receiver<Line>) {
    while let Ok(mut line) = lines.recv() {
        let mut text = Vec::new();
        let mut waiting = Vec::new();
        loop {
            text.append(&mut line.text);
            waiting.push((text.len(), line.written));
            match lines.try_recv() {
                Ok(next) if text.len() < CHUNK_BYTES => line = next,
                Ok(next) => {
                    write_chunk(&mut sink, &mut text, &mut waiting);
                    line = next;
                }
                Err(_) => break,
            }
        }
        write_chunk(&mut sink, &mut text, &mut waiting);
    }
}

fn write_chunk(sink: &mut impl Write, text: &mut Vec<u8>, waiting: &mut Vec<Waiting>) {
    let (accepted, outcome) = write_out(sink, text);
    let error = outcome.err().map(Arc::new);
    for (end, written) in waiting.drain(..) {
        let result = match &error {
            Some(error) if end > accepted => Err(closed(error)),
            _ => Ok(()),
        };
        // Who waited may be gone: the line is written all the same.
        let _ = written.send(result);
    }
    text.clear();
}

/// Where a line ends in its chunk, and who waits for it.
type Waiting = (usize, oneshot::Sender<Result<(), HandlerError>>);

fn closed(error: &io::Error) -> HandlerError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => HandlerError::Closed,
        kind => HandlerError::Broken(io::Error::new(kind, error.to_string())),
    }
}
