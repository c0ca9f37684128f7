//! No floor of src/ reaches up. docs/architecture.md says what each floor is; the table here says what each may use.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The floors below the face, from top to bottom, and what each may use. What stands here nowhere as a first column is the face.
const FLOORS: [(&str, &[&str]); 8] = [
    ("launch", &["model", "job", "sys", "wait"]),
    (
        "coll",
        &["engine", "model", "transport", "wait", "job", "sys"],
    ),
    ("engine", &["model", "transport", "wait", "job", "sys"]),
    ("transport", &["model", "wait", "job", "sys"]),
    ("wait", &["model", "job", "sys"]),
    ("job", &["model", "sys"]),
    ("sys", &["model"]),
    // Pure data. Every floor may speak of envelopes and errors; it stands on nothing.
    ("model", &[]),
];

/// The modules of the face: they may use each other and everything below.
const FACE: [&str; 11] = [
    "attribute",
    "collective",
    "datatype",
    "environment",
    "explain",
    "ffi",
    "point_to_point",
    "raw",
    "request",
    "testing",
    "topology",
];

/// Modules of the face that only give names to what others define.
const NAMES: [&str; 3] = ["lib", "prelude", "traits"];

/// Every Rust file under a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of the sources") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                found.push(path)
            }
            false => {}
        }
    }
}

/// The text without line comments, so that documentation may name whom it likes.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The top-level modules that `text` names by a path from the root: `crate::x`, `crate::{x, y::z}`, and `super::`s that climb there.
fn named(text: &str, depth: usize) -> BTreeSet<String> {
    let root = "super::".repeat(depth);
    let text = text.replace(&root, "crate::");
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.extend(head(rest)),
        }
    }
    names
}

/// The first names of the entries of `{a, b::{c, d}, e}`, from behind its opening brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut level, mut heads, mut entry) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level > 0 => level -= 1,
            ',' | '}' if level == 0 => {
                heads.extend(head(group[entry..at].trim_start()));
                entry = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> Option<String> {
    let end = path
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

#[test]
fn no_floor_reaches_up() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&sources, &mut found);
    assert!(found.len() > 10, "the sources are not where they were");
    let modules: Vec<_> = FLOORS
        .iter()
        .map(|(name, _)| *name)
        .chain(FACE)
        .chain(NAMES)
        .collect();
    let mut wrong = Vec::new();
    for file in found {
        let path = file.strip_prefix(&sources).expect("a file below src");
        let floor = path
            .iter()
            .next()
            .and_then(|first| Path::new(first).file_stem())
            .and_then(|name| name.to_str());
        let floor = floor.expect("a name");
        if !modules.contains(&floor) {
            wrong.push(format!(
                "{}: say in tests/floors.rs which floor `{floor}` is",
                path.display()
            ));
        }
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == floor) else {
            continue;
        };
        // x.rs and x/mod.rs climb to the root by one `super`, x/y.rs by two.
        let depth = path.components().count() - usize::from(path.ends_with("mod.rs"));
        let text = code(&std::fs::read_to_string(&file).expect("a source file"));
        for name in named(&text, depth.max(1)) {
            if name != floor
                && modules.contains(&name.as_str())
                && !allowed.contains(&name.as_str())
            {
                wrong.push(format!(
                    "{}: `{floor}` may not use `{name}`",
                    path.display()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "a floor uses only what is below it:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn uses_are_found_in_every_form() {
    let text = code(
        "use crate::{a, b::{c, d}, e as f};\nlet x = crate::g::h(); // crate::comment\nsuper::super::i::j();",
    );
    let names: Vec<_> = named(&text, 2).into_iter().collect();
    assert_eq!(names, ["a", "b", "e", "g", "i"]);
}
