//! A command that prints the password of a login, for servers whose passwords expire: tokens of IAM or Entra ID.

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::config::cursor::Cursor;
use crate::config::password::without_line_end;
use redis_stream_core::program::{ProcessGroup, look_up};
use redis_stream_core::secret::{HIDDEN, Secret, hide_secrets};

/// Longest password, and the most of an error message that is read.
const MAX_BYTES: u64 = 64 * 1024;
/// The most characters of an error message that are shown.
const SHOWN_CHARS: usize = 200;
/// Number of earlier passwords that are still hidden from what servers say.
const EARLIER: usize = 256;

/// Permits for commands, in the whole process: each node of each target needs one when it connects.
static RUNNING: Semaphore = Semaphore::const_new(4);

/// A program with its arguments. Every login runs it and sends what it printed.
#[derive(Clone, Debug)]
pub struct PasswordCommand {
    argv: Vec<String>,
    /// The passwords printed last.
    printed: Arc<Mutex<VecDeque<Secret>>>,
}

impl PartialEq for PasswordCommand {
    fn eq(&self, other: &Self) -> bool {
        self.argv == other.argv
    }
}

impl Eq for PasswordCommand {}

impl PasswordCommand {
    fn new(argv: Vec<String>) -> Self {
        Self { argv, printed: Arc::default() }
    }

    /// Runs the command. Returns what it printed, without one line end. Dropping the future ends the command and all that
    /// it started.
    ///
    /// # Errors
    ///
    /// The command cannot be started, failed, or printed no password. The error has what it wrote to standard error, in
    /// which passwords are hidden, and nothing of its standard output.
    pub async fn run(&self) -> io::Result<Secret> {
        let _permit = RUNNING.acquire().await.map_err(io::Error::other)?;
        let name = &self.argv[0];
        let mut command = Command::new(name);
        command.args(&self.argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let naming = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let mut child = command.spawn().map_err(naming)?;
        let group = ProcessGroup::of(&child);
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (status, output, errors) =
            tokio::try_join!(child.wait(), read(output), read(errors)).map_err(naming)?;
        group.release();
        let fails = |reason: String| Err(io::Error::other(format!("{name} {reason}")));
        let output = String::from_utf8(output);
        let password = output.as_ref().map(|text| without_line_end(text));
        if !status.success() {
            let said = password.map_or_else(|_| String::new(), |printed| said(&errors, printed));
            return fails(format!("ended with {status}{said}"));
        }
        match password {
            Err(_) => fails("printed a password that is not UTF-8".to_owned()),
            Ok("") => fails(format!("printed no password{}", said(&errors, ""))),
            Ok(text) if text.len() as u64 >= MAX_BYTES => {
                fails(format!("printed {MAX_BYTES} bytes or more; expected a password"))
            }
            Ok(text) => {
                let password = Secret::new(text);
                self.note(&password);
                Ok(password)
            }
        }
    }

    /// Hides a password from messages, and forgets one that was printed long before.
    fn note(&self, password: &Secret) {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        password.mark_in_use();
        if printed.contains(password) {
            return;
        }
        printed.push_back(password.clone());
        if printed.len() > EARLIER
            && let Some(expired) = printed.pop_front()
        {
            expired.mark_expired();
        }
    }
}

/// Reads a list of a program and its arguments, and looks the program up. A path is relative to the configuration's folder.
pub(super) fn read_key(key: &Cursor<'_>) -> Option<PasswordCommand> {
    if !key.is_given() {
        return None;
    }
    key.require_items("a program and its arguments");
    let words: Vec<_> = key.items()?.iter().map(|word| Some(word.text()?.value)).collect::<Option<_>>()?;
    let (name, arguments) = words.split_first()?;
    let name = match name.contains('/') {
        true => key.in_folder(name).to_string_lossy().into_owned(),
        false => name.clone(),
    };
    if let Err(fault) = look_up(&name) {
        key.fault(format_args!("{name}: {fault}"));
    }
    Some(PasswordCommand::new([&[name], arguments].concat()))
}

/// Reads to the end. Bytes above the limit are skipped, so that the command can end.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(MAX_BYTES).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// Returns the last line that a command wrote to standard error, for the end of a message, without what it printed.
fn said(errors: &[u8], printed: &str) -> String {
    let text = String::from_utf8_lossy(errors);
    let Some(line) = text.lines().rev().map(str::trim).find(|line| !line.is_empty()) else {
        return String::new();
    };
    let secrets = printed.lines().map(str::trim).filter(|secret| !secret.is_empty());
    let line = secrets.fold(line.to_owned(), |line, secret| line.replace(secret, HIDDEN));
    format!(": {}", hide_secrets(&line.chars().take(SHOWN_CHARS).collect::<String>()))
}
