//! Writing to where entries go, with an account of what got there.

use std::io::{self, Write};

/// Writes and flushes. Gives the bytes that reached the sink for certain, and how it ended.
pub(super) fn write_out(sink: &mut impl Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut accepted = 0;
    let outcome = loop {
        if accepted == text.len() {
            break Ok(());
        }
        match sink.write(&text[accepted..]) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => accepted += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    match sink.flush() {
        Ok(()) => (accepted, outcome),
        // What a buffer accepted and could not pass on was never written.
        Err(error) => (0, outcome.and(Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then nobody reads it any more.
    struct Pipe(usize);

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = self.0.min(text.len());
            self.0 -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_broken_pipe_took_is_counted() {
        let (accepted, outcome) = write_out(&mut Pipe(7), b"0123456789");
        assert_eq!(accepted, 7);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_a_buffer_could_not_pass_on_does_not_count() {
        let (accepted, outcome) = write_out(&mut io::BufWriter::new(Pipe(0)), b"0123456789");
        assert_eq!(accepted, 0);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
