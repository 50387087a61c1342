//! Memory, CPU time, descriptors and threads of a process, from `/proc`.

use std::fs;
use std::time::Duration;

/// Ticks of `/proc/PID/stat` in a second: fixed at 100 for what programs see, whatever the kernel's own rate.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of all threads, user and system. Source: `/proc/PID/stat`, which rounds each of the two down to 10 ms, so that a
/// difference may miss up to 20 ms. Finer times, of each thread, are gone once the thread has ended.
pub fn cpu(pid: u32) -> Duration {
    let stat = read(pid, "stat");
    // The name, in parentheses, may contain anything; only numbers follow it.
    let (_, after) = stat.rsplit_once(')').expect("stat holds the name in parentheses");
    let ticks = |field: usize| -> u64 {
        let field = after.split_whitespace().nth(field).expect("stat has its fields");
        field.parse().expect("ticks are a number")
    };
    // Fields 14 and 15 of the whole line.
    Duration::from_secs(ticks(11) + ticks(12)) / u32::try_from(TICKS_PER_SECOND).expect("100 is small")
}

/// Returns the maximum resident memory so far, in bytes.
pub fn peak_bytes(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// Returns the resident memory, in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// Returns the resident memory that is not backed by files, in bytes. Pages of the program and of libraries are shared
/// between processes, and the kernel may drop them.
pub fn own_bytes(pid: u32) -> u64 {
    status(pid, "RssAnon:")
}

/// Returns the unique set size, in bytes: the resident memory that no other process maps.
pub fn unique_bytes(pid: u32) -> u64 {
    let rollup = read(pid, "smaps_rollup");
    kib_of(&rollup, "Private_Clean:") + kib_of(&rollup, "Private_Dirty:")
}

/// Returns the number of open file descriptors.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Returns the number of threads.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").count()
}

fn status(pid: u32, field: &str) -> u64 {
    kib_of(&read(pid, "status"), field)
}

/// Returns a field of a file in `/proc` that is in KiB, in bytes.
fn kib_of(file: &str, field: &str) -> u64 {
    let line = file.lines().find_map(|line| line.strip_prefix(field)).expect("the file has the field");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("memory is in kB");
    kib * 1024
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process runs")
}
