//! Reads the files that a configuration names: at once or not at all, and with a limit of their size.
//!
//! A FIFO or a device would block its reader, or never end. A symbolic link is followed, as Kubernetes mounts secrets as
//! links.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::clock::now;

/// Time for the writer of a pipe to write all of it.
const PIPE_TIME: Duration = Duration::from_secs(5);

/// The content of a file, which limits its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A password, a token or a URL: up to 64 KiB.
    Secret,
    /// Certificates or a key in PEM: up to 1 MiB.
    Certificate,
    /// The certificates of all authorities of a system: up to 16 MiB.
    SystemAuthorities,
    /// A configuration: up to 16 MiB. It may also be a pipe, as in `--config <(render)`, which has 5 seconds to be
    /// written.
    Configuration,
    /// Saved state: up to 64 MiB.
    State,
}

impl FileKind {
    /// Returns the largest size in bytes.
    #[must_use]
    pub fn max_bytes(self) -> u64 {
        match self {
            Self::Secret => 64 << 10,
            Self::Certificate => 1 << 20,
            Self::SystemAuthorities | Self::Configuration => 16 << 20,
            Self::State => 64 << 20,
        }
    }

    fn limit(self) -> String {
        match self.max_bytes() >> 10 {
            kib @ ..1024 => format!("{kib} KiB"),
            kib => format!("{} MiB", kib >> 10),
        }
    }
}

/// Reads a file.
///
/// # Errors
///
/// It cannot be read, is no regular file, or is too large. The error does not name the file, and has nothing of its
/// content.
pub fn read(path: &Path, kind: FileKind) -> io::Result<Vec<u8>> {
    // Before it is opened, since opening a device may have an effect.
    check_type(fs::metadata(path)?.file_type(), kind)?;
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let file_type = file.metadata()?.file_type();
    check_type(file_type, kind)?;
    let mut content = Vec::new();
    let limited = if file_type.is_fifo() {
        let read = PipeReader { file, until: now() + PIPE_TIME }
            .take(kind.max_bytes() + 1)
            .read_to_end(&mut content)?;
        if read == 0 {
            return Err(invalid("nothing was written to the pipe".to_owned()));
        }
        read
    } else {
        file.take(kind.max_bytes() + 1).read_to_end(&mut content)?
    };
    if limited as u64 > kind.max_bytes() {
        return Err(invalid(format!("larger than {}, the limit of such a file", kind.limit())));
    }
    Ok(content)
}

/// Reads a file with text, as [`read`] does.
///
/// # Errors
///
/// Those of [`read`], and that the content is not UTF-8.
pub fn read_text(path: &Path, kind: FileKind) -> io::Result<String> {
    let text = String::from_utf8(read(path, kind)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}

/// Checks that a file may be replaced: that there is none, or a regular one.
///
/// # Errors
///
/// The path leads to something else, such as a device, whose replacement would harm other programs; or its type
/// cannot be read.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) => check_type(metadata.file_type(), FileKind::State),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn check_type(file_type: fs::FileType, kind: FileKind) -> io::Result<()> {
    let found = match file_type {
        _ if file_type.is_file() => return Ok(()),
        _ if file_type.is_fifo() && kind == FileKind::Configuration => return Ok(()),
        _ if file_type.is_dir() => "a directory",
        _ if file_type.is_fifo() => "a FIFO",
        _ if file_type.is_socket() => "a socket",
        _ => "a device",
    };
    Err(invalid(format!("{found}, not a regular file")))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Reads a pipe that does not block, until a deadline.
struct PipeReader {
    file: File,
    until: tokio::time::Instant,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            let left = self.until.saturating_duration_since(now());
            if left.is_zero() {
                let message = format!("not written within {} s", PIPE_TIME.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            // Shorter than a second at times, but never zero.
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()).max(1_000_000) };
            poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&timeout))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn fault(path: &Path, kind: FileKind) -> String {
        read(path, kind).unwrap_err().to_string()
    }

    fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn only_regular_files_and_links_to_them_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "hunter2").unwrap();
        fs::set_permissions(path("file"), Permissions::from_mode(0o400)).unwrap();
        symlink("file", path("link")).unwrap();
        symlink("link", path("link to link")).unwrap();
        fifo(&path("fifo"));
        symlink("fifo", path("link to fifo")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        for name in ["file", "link", "link to link"] {
            assert_eq!(read_text(&path(name), FileKind::Secret).unwrap(), "hunter2");
        }
        for kind in [FileKind::Secret, FileKind::Certificate, FileKind::State] {
            assert_eq!(fault(&path("fifo"), kind), "a FIFO, not a regular file");
            assert_eq!(fault(&path("link to fifo"), kind), "a FIFO, not a regular file");
            assert_eq!(fault(&path("socket"), kind), "a socket, not a regular file");
            assert_eq!(fault(folder.path(), kind), "a directory, not a regular file");
            assert_eq!(fault(Path::new("/dev/zero"), kind), "a device, not a regular file");
        }
        assert_eq!(fault(Path::new("/dev/urandom"), FileKind::Configuration), "a device, not a regular file");
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for kind in [FileKind::Secret, FileKind::Certificate, FileKind::Configuration] {
            let file = File::create(&path).unwrap();
            file.set_len(kind.max_bytes()).unwrap();
            assert_eq!(read(&path, kind).unwrap().len() as u64, kind.max_bytes());
            file.set_len(kind.max_bytes() + 1).unwrap();
            assert_eq!(fault(&path, kind), format!("larger than {}, the limit of such a file", kind.limit()));
        }
    }

    #[test]
    fn a_configuration_may_be_a_pipe_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        fifo(&path);
        assert_eq!(fault(&path, FileKind::Configuration), "nothing was written to the pipe");
        // Open for both directions, so that opening it waits for no reader.
        let mut writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let reader = thread::spawn(move || read_text(&path, FileKind::Configuration));
        // More than a pipe holds, so that the reader has opened it.
        writer.write_all(&[b'x'; 200_000]).unwrap();
        drop(writer);
        assert_eq!(reader.join().unwrap().unwrap().len(), 200_000);
    }
}
