//! The kept corpus: for each target a folder of small files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use streamgauge::alert::rule_file;

use crate::TARGETS;
use crate::peers;
use crate::targets::expressions;

/// Most bytes of a file: what shows something shows it in few.
const MOST_BYTES: usize = 2048;
/// Most files of a target.
const MOST_FILES: usize = 60;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The files of a target, by their names.
pub(crate) fn read(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder("corpus").join(target);
    let file = |name: String| (name.clone(), fs::read(folder.join(name)).unwrap());
    names(&folder).into_iter().map(file).collect()
}

#[test]
fn each_target_has_a_small_corpus_and_a_program_for_cargo_fuzz() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("corpus")), targets);
    let programs = names(&folder("fuzz_targets"));
    assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect());
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no program {name}");
        let files = read(&name);
        assert!((1..=MOST_FILES).contains(&files.len()), "{name} has {} files", files.len());
        for (file, bytes) in files {
            assert!(bytes.len() <= MOST_BYTES, "{name}/{file} has {} bytes", bytes.len());
        }
    }
}

#[test]
fn prometheus_takes_every_rule_of_the_corpus() {
    let Some(promtool) = peers::find("promtool") else { return };
    let mut rules: Vec<_> =
        read("expressions").iter().filter_map(|(_, bytes)| expressions::read(bytes)).collect();
    assert!(rules.len() > 10, "{} rules", rules.len());
    for (at, rule) in rules.iter_mut().enumerate() {
        // Prometheus wants one.
        rule.name.push_str(&format!(" {at}"));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rule_file::write(&rules, &[], &["team"])).unwrap();
    let output = Command::new(promtool).args(["check", "rules"]).arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
