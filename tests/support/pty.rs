//! A pseudo-terminal with a program on it, and what its screen shows. Made of rustix, which is there anyway; the
//! screen is that of the crate vt100, so that what is looked at is what a person would see.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

/// What the program has written, as bytes and as a screen.
struct Written {
    bytes: Vec<u8>,
    parser: vt100::Parser,
}

/// A terminal with a program on it, which is killed on drop.
pub struct Terminal {
    child: Child,
    controller: File,
    written: Arc<Mutex<Written>>,
}

impl Terminal {
    /// Starts the program on a terminal of this size.
    pub fn open(mut command: Command, rows: u16, columns: u16) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let path = std::ffi::OsStr::from_bytes(name.to_bytes());
        let user = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&user, size).unwrap();
        command.env("TERM", "xterm-256color").stdin(user.try_clone().unwrap());
        command.stdout(user.try_clone().unwrap()).stderr(user);
        let child = command.spawn().unwrap();
        // It holds the other side open: what is read ends with the program.
        drop(command);
        let written =
            Arc::new(Mutex::new(Written { bytes: Vec::new(), parser: vt100::Parser::new(rows, columns, 0) }));
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
        Self { child, controller, written }
    }

    /// What the screen shows.
    pub fn screen(&self) -> String {
        self.written.lock().unwrap().parser.screen().contents()
    }

    /// Looks at the screen with its colours.
    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.written.lock().unwrap().parser.screen())
    }

    /// All that was written, control sequences too.
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

    /// Panics unless the terminal is as a shell wants it: lines are edited, keys are echoed, the cursor is there, and
    /// what was on the screen before is there again.
    pub async fn is_given_back(&self) {
        wait_for(SOON, "the terminal is given back", async || {
            let modes = tcgetattr(&self.controller).unwrap().local_modes;
            let written = self.written.lock().unwrap();
            let screen = written.parser.screen();
            let is_back = modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
                && !screen.alternate_screen()
                && !screen.hide_cursor();
            if is_back { Ok(()) } else { Err(format!("{modes:?}\n{}", screen.contents())) }
        })
        .await;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After a regular end both fail, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
