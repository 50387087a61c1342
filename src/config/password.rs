//! Reads passwords from text, or from files at every connect. Nothing here is logged.

use std::io;

use crate::config::{LoginPassword, Password};
use redis_stream_core::file::{FileKind, read_text};
use redis_stream_core::secret::{Secret, redact};

impl Password {
    /// Returns the current password. One trailing line end of a file is removed, since editors and `echo` add one.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not UTF-8. The error names the file and has nothing of its content.
    pub fn read(&self) -> io::Result<Secret> {
        let path = match self {
            Self::Text(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let naming_the_file = |error: io::Error| {
            let name = path.display().to_string();
            io::Error::new(error.kind(), format!("cannot read {}: {error}", redact(&name)))
        };
        let text = read_text(path, FileKind::Secret).map_err(naming_the_file)?;
        Ok(Secret::new(without_line_end(&text)))
    }
}

impl LoginPassword {
    /// Returns the password of the configuration; `None` for a command.
    pub fn configured(&self) -> Option<&Password> {
        match self {
            Self::Configured(password) => Some(password),
            Self::Command(_) => None,
        }
    }

    /// Returns true if another read may give another password.
    pub fn can_change(&self) -> bool {
        !matches!(self, Self::Configured(Password::Text(_)))
    }
}

/// Returns the text without one line end.
pub(super) fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::Password;
    use redis_stream_core::secret::Secret;

    fn read_file_of(content: &[u8]) -> std::io::Result<Secret> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, content).unwrap();
        Password::File(path).read()
    }

    #[test]
    fn one_trailing_line_end_is_not_part_of_the_password() {
        for (content, password) in [
            ("a b", "a b"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            ("hunter2\n\n", "hunter2\n"),
        ] {
            assert_eq!(read_file_of(content.as_bytes()).unwrap().expose(), password);
        }
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let error = Password::File(PathBuf::from("/nowhere/password")).read().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read /nowhere/password: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_file_that_is_not_text_is_an_error_that_shows_nothing_of_it() {
        let error = read_file_of(b"hunter2\xff").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn debug_output_holds_no_password() {
        assert_eq!(format!("{:?}", Password::Text(Secret::new("hunter2"))), "Text([redacted])");
    }
}
