//! Child processes: their program is found and checked before it is needed, and they are ended with all processes
//! that they started.

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// PATH if there is none in the environment.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// Longest first line of a script that is read, as by Linux.
const SHEBANG_BYTES: u64 = 256;

/// Looks a program up as execvp does.
///
/// # Errors
///
/// The reason why it cannot be run: what it is, or the interpreter that it needs.
pub fn look_up(name: &str) -> Result<(), Cow<'static, str>> {
    look_up_in(name, &env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))
}

fn look_up_in(name: &str, path: &OsString) -> Result<(), Cow<'static, str>> {
    if name.contains('/') {
        return check(Path::new(name));
    }
    let mut fault = None;
    for folder in env::split_paths(path) {
        match check(&folder.join(name)) {
            Ok(()) => return Ok(()),
            Err(found) if found == NO_FILE => {}
            Err(found) => fault = fault.or(Some(format!("{} {found}", folder.join(name).display()))),
        }
    }
    Err(fault.unwrap_or_else(|| "not found in any folder of PATH".to_owned()).into())
}

const NO_FILE: &str = "no such file";

fn check(path: &Path) -> Result<(), Cow<'static, str>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NO_FILE.into()),
        Err(error) => return Err(error.to_string().into()),
        Ok(found) if found.is_dir() => return Err("is a directory; expected a program".into()),
        Ok(found) if !found.is_file() => return Err("is not a file; expected a program".into()),
        Ok(_) => {}
    }
    if access(path, Access::EXEC_OK).is_err() {
        return Err(format!("is not executable; try chmod +x {}", path.display()).into());
    }
    match interpreter(path).map(|name| (check(Path::new(&name)), name)) {
        Some((Err(fault), name)) => {
            let name = name.to_string_lossy().replace('\r', "\\r");
            Err(format!("needs the interpreter {name}: {fault}").into())
        }
        _ => Ok(()),
    }
}

/// Returns the interpreter of a script; `None` for another program, or one that cannot be read.
fn interpreter(path: &Path) -> Option<OsString> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(SHEBANG_BYTES).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.trim_ascii_start().split(|byte| [b' ', b'\t'].contains(byte)).next()?;
    (!name.is_empty()).then(|| OsString::from_vec(name.to_vec()))
}

/// The process group of a running child, which is killed on drop.
#[derive(Debug)]
pub struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// Returns the group that `child` leads.
    pub fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Leaves the processes alone that the child started and that still run, since it has ended by itself.
    pub fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails if all of them have ended.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_that_cannot_run_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let write = |name: &str, text: &str, mode| {
            fs::write(at(name), text).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        write("plain", "#!/bin/sh\n", 0o644);
        write("lost", "#! /no/such/python -u\n", 0o755);
        write("windows", "#!/bin/sh\r\necho\r\n", 0o755);
        write("script", "#!/bin/sh\nexit 0\n", 0o755);
        fs::create_dir(at("folder")).unwrap();
        let path = OsString::from(format!("{}:/bin:/usr/bin", folder.path().display()));
        for (name, expected) in [
            (at("missing"), Err("no such file".to_owned())),
            (at("script/x"), Err("Not a directory (os error 20)".to_owned())),
            (at("folder"), Err("is a directory; expected a program".to_owned())),
            ("/dev/null".to_owned(), Err("is not a file; expected a program".to_owned())),
            (at("plain"), Err(format!("is not executable; try chmod +x {}", at("plain")))),
            (at("lost"), Err("needs the interpreter /no/such/python: no such file".to_owned())),
            (at("windows"), Err("needs the interpreter /bin/sh\\r: no such file".to_owned())),
            (at("script"), Ok(())),
            ("script".to_owned(), Ok(())),
            ("sh".to_owned(), Ok(())),
            ("no-such-program".to_owned(), Err("not found in any folder of PATH".to_owned())),
            ("folder".to_owned(), Err(format!("{} is a directory; expected a program", at("folder")))),
        ] {
            assert_eq!(look_up_in(&name, &path).map_err(Cow::into_owned), expected, "{name}");
        }
    }
}
