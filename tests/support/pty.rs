//! Runs a program on a pseudo-terminal and interprets its output with the crate vt100, so that tests see the screen as
//! a user does. The terminal controls the program's session, so that the program gets SIGWINCH when it is resized.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Termios, Winsize, tcgetattr, tcsetwinsize};

use super::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

/// The program's output, as bytes and as a screen.
struct Written {
    bytes: Vec<u8>,
    parser: vt100::Parser,
}

/// A terminal with a program on it, which is killed on drop.
pub struct Terminal {
    child: Child,
    controller: File,
    written: Arc<Mutex<Written>>,
    /// Text on the screen before the program started.
    text_before: &'static str,
    modes_before: Termios,
}

impl Terminal {
    /// Starts the program on an empty terminal of this size.
    pub fn open(command: &Command, rows: u16, columns: u16) -> Self {
        Self::open_below("", command, rows, columns)
    }

    /// Starts the program on a terminal of this size, on which a shell has left a line of text.
    pub fn open_below(text_before: &'static str, command: &Command, rows: u16, columns: u16) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let path = std::ffi::OsStr::from_bytes(name.to_bytes());
        let mut open = OpenOptions::new();
        open.read(true).write(true).custom_flags(OpenptFlags::NOCTTY.bits().cast_signed());
        let user = open.open(path).unwrap();
        tcsetwinsize(&user, size(rows, columns)).unwrap();
        let modes_before = tcgetattr(&user).unwrap();
        let mut command = in_session(command);
        command.env("TERM", "xterm-256color").stdin(user.try_clone().unwrap());
        command.stdout(user.try_clone().unwrap()).stderr(user);
        let child = command.spawn().expect("setsid of util-linux is there");
        // The command holds the user side open. Once it is dropped, reading ends with the program.
        drop(command);
        let mut parser = vt100::Parser::new(rows, columns, 0);
        parser.process(text_before.as_bytes());
        let written = Arc::new(Mutex::new(Written { bytes: Vec::new(), parser }));
        let controller = File::from(controller);
        let (mut from, sink) = (controller.try_clone().unwrap(), Arc::clone(&written));
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut chunk) {
                let mut written = sink.lock().unwrap();
                written.bytes.extend_from_slice(&chunk[..read]);
                written.parser.process(&chunk[..read]);
            }
        });
        Self { child, controller, written, text_before, modes_before }
    }

    /// Changes the size and clears the screen, so that its contents were drawn after the change.
    pub fn resize(&self, rows: u16, columns: u16) {
        let mut written = self.written.lock().unwrap();
        written.parser.screen_mut().set_size(rows, columns);
        written.parser.process(b"\x1b[2J");
        tcsetwinsize(&self.controller, size(rows, columns)).unwrap();
    }

    /// Returns the text on the screen.
    pub fn screen(&self) -> String {
        self.written.lock().unwrap().parser.screen().contents()
    }

    /// Applies a function to the screen, including colours.
    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.written.lock().unwrap().parser.screen())
    }

    /// Returns all output, including control sequences.
    pub fn bytes(&self) -> Vec<u8> {
        self.written.lock().unwrap().bytes.clone()
    }

    /// Types these bytes.
    pub fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the screen shows something, and returns it.
    pub async fn shows(&self, what: &str, is_shown: impl Fn(&str) -> bool) -> String {
        wait_for(SOON, what, async || {
            let screen = self.screen();
            if is_shown(&screen) { Ok(screen) } else { Err(format!("the screen shows\n{screen}")) }
        })
        .await
    }

    /// Waits until the screen shows all of these texts.
    pub async fn shows_all(&self, texts: &[&str]) -> String {
        self.shows(&format!("{texts:?} are shown"), |screen| texts.iter().all(|text| screen.contains(text)))
            .await
    }

    /// Waits until the program has ended, and returns its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let written = &self.written;
        let status = wait_for(SOON, "the program ends", async || {
            child.try_wait().unwrap().ok_or_else(|| written.lock().unwrap().parser.screen().contents())
        });
        status.await.code()
    }

    /// Waits until the terminal is as it was before the program: line editing and echo are on, the cursor is visible
    /// and the screen has its old contents.
    pub async fn is_restored(&self) {
        wait_for(SOON, "the terminal is restored", async || {
            let modes = tcgetattr(&self.controller).unwrap();
            let written = self.written.lock().unwrap();
            let screen = written.parser.screen();
            let is_restored = are_same(&modes, &self.modes_before)
                && modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
                && !screen.alternate_screen()
                && !screen.hide_cursor()
                && !screen.bracketed_paste()
                && !screen.application_cursor()
                && screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None
                && screen.contents().contains(self.text_before.trim());
            if is_restored { Ok(()) } else { Err(format!("{modes:?}\n{}", screen.contents())) }
        })
        .await;
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Returns a command that runs the program as the leader of a session whose terminal is its standard input. setsid
/// executes the program in the same process.
fn in_session(command: &Command) -> Command {
    let mut leader = Command::new("setsid");
    leader.arg("--ctty").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leader.env(name, value),
            None => leader.env_remove(name),
        };
    }
    leader
}

fn are_same(one: &Termios, other: &Termios) -> bool {
    let waits =
        |of: &Termios| [SpecialCodeIndex::VMIN, SpecialCodeIndex::VTIME].map(|index| of.special_codes[index]);
    one.input_modes == other.input_modes
        && one.output_modes == other.output_modes
        && one.control_modes == other.control_modes
        && one.local_modes == other.local_modes
        && waits(one) == waits(other)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail if the program has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
