//! Reads files of the repository.

use std::fs;
use std::path::Path;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the path and the text of each file below a folder, but for pictures, ordered by path.
pub fn files(folder: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files = Vec::new();
    for entry in entries.map(|entry| entry.unwrap()) {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files.extend(self::files(&path));
        } else if !path.ends_with(".png") {
            files.push((path.clone(), read(&path)));
        }
    }
    files.sort();
    files
}

/// Returns the documents for users: README.md, docs/ and the READMEs of the crates.
pub fn user_documents() -> Vec<(String, String)> {
    let crates = files("crates").into_iter().filter(|(path, _)| path.ends_with(".md"));
    let readme = ("README.md".to_owned(), read("README.md"));
    [readme].into_iter().chain(files("docs")).chain(crates).collect()
}
