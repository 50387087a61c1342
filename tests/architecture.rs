//! Checks src/ and crates/ against ARCHITECTURE.md: which module may import which, and that no imports form a circle.
//!
//! The crates' boundaries are the compiler's. Within a crate this is a scan of lines, not a compiler: it sees
//! `crate::module` and `super::module` outside comments and test modules.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;

/// Crates and modules that a pure module names none of: it does no I/O and does not log.
const IMPURE: &str = r"\b(?:redis|tokio|hyper|hyper_util|tracing|std::env|std::fs|std::net)::";

/// From the name of a node to the names of those that it imports.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// A row of the table in ARCHITECTURE.md.
struct Module {
    is_pure: bool,
    /// `None`: all modules.
    imports: Option<BTreeSet<String>>,
}

/// A source file without comments and tests, with its path as Rust writes it: `alert::rule`; empty for the crate's root.
struct Source {
    path: String,
    code: String,
}

#[test]
fn modules_import_what_architecture_md_allows() {
    let table = modules(&read("ARCHITECTURE.md"));
    let sources = sources(Path::new("src"));
    let (impure, redis) = (Regex::new(IMPURE).unwrap(), Regex::new(r"\bredis::").unwrap());
    let mut faults = Vec::new();
    for (importer, imported) in module_graph(&sources) {
        let Some(module) = table.get(&importer) else {
            faults.push(format!("{importer} has no row"));
            continue;
        };
        let allowed = |name: &String| module.imports.as_ref().is_none_or(|imports| imports.contains(name));
        faults.extend(
            imported.iter().filter(|name| !allowed(name)).map(|name| format!("{importer} imports {name}")),
        );
    }
    for source in &sources {
        let module = top(&source.path);
        if table.get(module).is_some_and(|row| row.is_pure) {
            let named = impure.find_iter(&source.code).map(|found| found.as_str());
            faults.extend(named.map(|named| format!("{} is pure and names {named}", source.path)));
        }
        if module != "poller" && redis.is_match(&source.code) {
            faults.push(format!("{} names redis, as only poller may", source.path));
        }
    }
    let names: BTreeSet<_> = sources.iter().map(|source| top(&source.path)).collect();
    faults.extend(
        table.keys().filter(|name| !names.contains(name.as_str())).map(|name| format!("no module {name}")),
    );
    assert!(faults.is_empty(), "not as the table in ARCHITECTURE.md has it:\n{}", faults.join("\n"));
}

#[test]
fn no_module_lists_an_import_that_it_does_not_need() {
    let graph = module_graph(&sources(Path::new("src")));
    let mut surplus = Vec::new();
    for (name, module) in modules(&read("ARCHITECTURE.md")) {
        let allowed = module.imports.unwrap_or_default();
        surplus.extend(
            allowed.difference(&graph[&name]).map(|unused| format!("{name} does not import {unused}")),
        );
    }
    assert!(surplus.is_empty(), "remove from the table in ARCHITECTURE.md:\n{}", surplus.join("\n"));
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let circles = circles(&module_graph(&sources(Path::new("src"))));
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let mut found = Vec::new();
    for folder in crates.chain([root().join("src")]) {
        let circles = circles(&file_graph(&sources(&folder)));
        let folder = folder.strip_prefix(root()).unwrap().display().to_string();
        found.extend(circles.into_iter().map(|circle| format!("{folder}: {circle}")));
    }
    assert!(found.is_empty(), "move what they share to a file below them:\n{}", found.join("\n"));
}

#[test]
fn circles_are_found() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), code: code(text) };
    let sources = [
        source("", "pub mod a;\npub mod b;"),
        source(
            "a",
            "//! crate::b\nmod one;\nmod two;\nuse crate::b::B;\n#[cfg(test)]\nmod tests {\n use crate::c::C; }",
        ),
        source("a::one", "use super::{A, two::Two};"),
        source("a::two", "use super::one::One; // crate::b\n"),
        source("b", "use crate::{\n    a::one::One,\n    c::C,\n};"),
        source("c", "use crate::B;"),
    ];
    assert_eq!(circles(&module_graph(&sources)), ["a -> b -> a"]);
    assert_eq!(circles(&file_graph(&sources)), ["a::one -> a::two -> a::one"]);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn top(path: &str) -> &str {
    path.split("::").next().expect("split returns at least one part")
}

/// Reads the rows `| [`name`] | contents | pure | imports |` of the table under "Modules of the program".
fn modules(text: &str) -> BTreeMap<String, Module> {
    let row = Regex::new(r"(?m)^\| `(\w+)` \| .* \| (pure|) ?\| (.*) \|$").unwrap();
    let name = Regex::new(r"`(\w+)`").unwrap();
    let (_, section) = text.split_once("## Modules of the program").expect("ARCHITECTURE.md has the section");
    let rows = row.captures_iter(section).map(|row| {
        let imports =
            (&row[3] != "all").then(|| name.captures_iter(&row[3]).map(|name| name[1].to_owned()).collect());
        (row[1].to_owned(), Module { is_pure: &row[2] == "pure", imports })
    });
    let rows: BTreeMap<_, _> = rows.collect();
    assert!(rows.len() > 5, "the table has rows");
    rows
}

/// Reads all source files below a folder, but for those of tests, lib.rs and main.rs.
fn sources(folder: &Path) -> Vec<Source> {
    fn visit(folder: &Path, path: &[String], found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let file = entry.unwrap().path();
            let stem = file.file_stem().unwrap().to_str().unwrap();
            let mut path = path.to_vec();
            if stem != "mod" && !["lib", "main"].contains(&stem) {
                path.push(stem.to_owned());
            }
            if file.is_dir() {
                visit(&file, &path, found);
            } else if file.extension().is_some_and(|extension| extension == "rs")
                && stem != "tests"
                && stem != "main"
            {
                let text = fs::read_to_string(&file).unwrap();
                if !text.contains("\n#![cfg(test)]\n") {
                    found.push(Source { path: path.join("::"), code: code(&text) });
                }
            }
        }
    }
    let mut found = Vec::new();
    visit(&root().join(folder), &[], &mut found);
    assert!(!found.is_empty(), "{} has sources", folder.display());
    found
}

/// Returns the text without comments and the test module at its end.
fn code(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split_once("//").map_or(line, |(before, _)| before));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Returns the paths that a source imports, relative to the crate's root: `alert::rule::Rule`.
fn imports(source: &Source) -> Vec<String> {
    let import = Regex::new(r"\b(crate|(?:super::)*super)::((?:\w+::)*)(?:\{([^}]*)\}|(\w+))").unwrap();
    let mut found = Vec::new();
    for parts in import.captures_iter(&source.code) {
        let depth = if &parts[1] == "crate" { None } else { Some(parts[1].split("::").count()) };
        let mut base: Vec<&str> = source.path.split("::").collect();
        base.truncate(depth.map_or(0, |depth| base.len().saturating_sub(depth)));
        let base: String = base.iter().map(|part| format!("{part}::")).collect();
        let items = parts.get(3).or(parts.get(4)).map_or("", |items| items.as_str());
        found.extend(items.split(',').map(|item| format!("{base}{}{}", &parts[2], item.trim())));
    }
    found
}

/// Returns which module directly below the root imports which.
fn module_graph(sources: &[Source]) -> Graph {
    let names: BTreeSet<_> = sources.iter().map(|source| top(&source.path).to_owned()).collect();
    let mut graph = Graph::new();
    for source in sources.iter().filter(|source| !source.path.is_empty()) {
        let imported = imports(source).into_iter().map(|path| top(&path).to_owned());
        let others = imported.filter(|name| names.contains(name) && name != top(&source.path));
        graph.entry(top(&source.path).to_owned()).or_default().extend(others);
    }
    graph
}

/// Returns which file imports which; not from or to the files above it.
fn file_graph(sources: &[Source]) -> Graph {
    let files: BTreeSet<_> = sources.iter().map(|source| source.path.as_str()).collect();
    let file_of = |path: &str| {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).filter(|prefix| files.contains(prefix)).last().map(str::to_owned)
    };
    let is_above = |one: &str, other: &str| one == other || other.starts_with(&format!("{one}::"));
    let edges = sources.iter().map(|source| {
        let imported = imports(source).into_iter().filter_map(|path| file_of(&path));
        let others = imported.filter(|file| !is_above(file, &source.path) && !is_above(&source.path, file));
        (source.path.clone(), others.collect())
    });
    edges.collect()
}

/// Returns each circle once, as `a -> b -> a`.
fn circles(graph: &Graph) -> Vec<String> {
    fn visit(
        node: &str,
        graph: &Graph,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
        found: &mut Vec<String>,
    ) {
        if let Some(start) = way.iter().position(|visited| visited == node) {
            found.push(format!("{} -> {node}", way[start..].join(" -> ")));
        } else if !done.contains(node) {
            way.push(node.to_owned());
            for next in graph.get(node).into_iter().flatten() {
                visit(next, graph, way, done, found);
            }
            way.pop();
            done.insert(node.to_owned());
        }
    }
    let (mut done, mut found) = (BTreeSet::new(), Vec::new());
    for node in graph.keys() {
        visit(node, graph, &mut Vec::new(), &mut done, &mut found);
    }
    found
}
