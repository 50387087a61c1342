//! Running a target over inputs, until one fails, one does not end, or the time is over.

use std::cell::RefCell;
use std::panic;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use redis_stream_core::clock::now;
use tokio::time::Instant;

use crate::mutation::inputs;
use crate::targets::Run;

/// An input that takes longer does not end, even on a slow machine.
const LONGEST: Duration = Duration::from_secs(30);
/// Most memory that this program may ever have had. Only Linux tells.
const MOST_MEMORY_KIB: u64 = 1 << 20;
/// How the threads are called whose panics are told by [`run`].
const THREAD: &str = "fuzz";

/// What a search is at.
#[derive(Default)]
struct Progress {
    inputs: u64,
    input: Vec<u8>,
    began: Option<Instant>,
}

/// Runs a target over its corpus and, until the time is over, over what becomes of it. Returns over how many inputs.
///
/// Panics with the smallest input that was found for which the target panics or does not end.
pub(crate) fn run(name: &str, run: Run, corpus: Vec<(String, Vec<u8>)>, time: Duration, seed: u64) -> u64 {
    silence_panics();
    let progress = Arc::new(Mutex::new(Progress::default()));
    let shared = Arc::clone(&progress);
    let search = move || {
        let checked = |input: &[u8]| checked(run, input, &shared);
        for (file, input) in &corpus {
            checked(input).map_err(|panic| format!("fuzz/corpus: {file}: {panic}"))?;
        }
        let corpus = corpus.into_iter().map(|(_, input)| input).collect();
        mutated(checked, corpus, time, seed)
    };
    // As much stack as the program's own threads have.
    let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(search).unwrap();
    while !thread.is_finished() {
        thread::sleep(Duration::from_millis(20));
        let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stuck = progress.began.is_some_and(|began| began.elapsed() > LONGEST);
        assert!(!is_stuck, "{name} does not end on b\"{}\"", progress.input.escape_ascii());
    }
    let found = thread.join().unwrap();
    assert!(found.is_ok(), "{name}: {}", found.unwrap_err());
    let peak = peak_memory_kib().unwrap_or_default();
    assert!(peak < MOST_MEMORY_KIB, "{name}: {peak} KiB of memory were used");
    progress.lock().unwrap().inputs
}

fn mutated(
    checked: impl Fn(&[u8]) -> Result<(), String>,
    corpus: Vec<Vec<u8>>,
    time: Duration,
    seed: u64,
) -> Result<(), String> {
    let until = now() + time;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let inputs = inputs(corpus);
    while now() < until {
        let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
        // A runner runs its cases once.
        let mut runner = TestRunner::new_with_rng(config, rng);
        let failed = runner.run(&inputs, |input| checked(&input).map_err(TestCaseError::fail));
        match failed {
            Ok(()) => rng = runner.new_rng(),
            Err(TestError::Fail(_, input)) => {
                let input = smallest(&checked, input);
                let reason = checked(&input).err().unwrap_or_default();
                return Err(format!("{reason}\non b\"{}\"", input.escape_ascii()));
            }
            Err(TestError::Abort(reason)) => return Err(reason.to_string()),
        }
    }
    Ok(())
}

/// An input that fails too, from which no run of bytes can be taken.
fn smallest(checked: impl Fn(&[u8]) -> Result<(), String>, mut input: Vec<u8>) -> Vec<u8> {
    let mut length = input.len().next_power_of_two();
    while length > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..input.len().min(at + length));
            match checked(&shorter) {
                Err(_) => input = shorter,
                Ok(()) => at += length,
            }
        }
        length /= 2;
    }
    input
}

/// Runs it over one input, and says what it panics with.
fn checked(run: Run, input: &[u8], progress: &Mutex<Progress>) -> Result<(), String> {
    let note = |began| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.began = began;
        if began.is_some() {
            progress.inputs += 1;
            input.clone_into(&mut progress.input);
        }
    };
    note(Some(now()));
    let ended = panic::catch_unwind(|| run(input));
    note(None);
    ended.map_err(|_| LAST_PANIC.take())
}

thread_local! {
    /// What the last panic of a search said, and where.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Thousands of panics while an input is made smaller are no news: what is left of them is told in the end.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| match thread::current().name() {
            Some(THREAD) => LAST_PANIC.set(info.to_string()),
            _ => told(info),
        }));
    });
}

fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
