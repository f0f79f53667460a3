//! No module imports from a row above its own in the picture of `src/README.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Files that are in no row: roots of crates, and files of the binary or of tests only.
const WITHOUT_ROW: [&str; 5] = ["lib", "main", "build", "memory", "typescript"];

#[test]
fn imports_run_downwards() {
    let rows = rows();
    let mut errors = BTreeSet::new();
    for (name, text) in sources() {
        let module = module(&name);
        if WITHOUT_ROW.contains(&module) || name.ends_with("tests.rs") {
            continue;
        }
        let Some(row) = rows.get(module) else {
            errors.insert(format!("`{module}` is in no row of the picture in src/README.md"));
            continue;
        };
        for import in imports(&text).into_iter().filter(|import| import != module && !is_own(&name, import)) {
            let is_lower = rows.get(&import).is_none_or(|other| other > row);
            if !is_lower {
                errors
                    .insert(format!("src/{name} imports `{import}`, which is not in a row below `{module}`"));
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Module of a file: the folder or file within a crate of several modules, otherwise the crate.
fn module(name: &str) -> &str {
    let mut parts = name.split(['/', '.']);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (first, second) {
        ("base" | "engine", module) | ("kernels", module @ "device") | (_, module @ "lib") => module,
        (module, _) => module,
    }
}

/// Whether an import is a module of the file's own crate, where that crate is one row of the picture.
fn is_own(name: &str, import: &str) -> bool {
    let crate_name = module(name);
    name.starts_with(&format!("{crate_name}/"))
        && [format!("{import}.rs"), format!("{import}/mod.rs")]
            .iter()
            .any(|file| Path::new(SOURCE).join(crate_name).join(file).exists())
}

/// The row of each module, counted from the top of the picture.
fn rows() -> BTreeMap<String, usize> {
    let readme = std::fs::read_to_string(format!("{SOURCE}/README.md")).unwrap();
    let picture = readme.split("```text").nth(1).unwrap().split("```").next().unwrap();
    let names = picture.lines().enumerate().filter_map(|(row, line)| Some((row, line.split_once('│')?.0)));
    let rows: BTreeMap<_, _> = names
        .flat_map(|(row, names)| names.split_whitespace().map(move |name| (name.to_owned(), row)))
        .collect();
    assert!(rows.len() > 10, "{rows:?}");
    rows
}

/// Every source file of the library, by its path within `src`.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![SOURCE.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.to_str().unwrap().to_owned());
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(Path::new(SOURCE)).unwrap().to_str().unwrap().replace('\\', "/");
                sources.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 100);
    sources
}

/// First names after `crate::`, alone or in braces, outside of comments and tests.
fn imports(text: &str) -> BTreeSet<String> {
    let text: String =
        text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut names = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(first_name(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    names.insert(first_name(list[start..at].trim_start()));
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    names
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{\n    config::{Activation, Mode},\n    device,\n    error::Result,\n};\n\
        // crate::comment\nfn f(x: crate::model::Model, y: crate::prepare::Run) {}\n#[cfg(test)]\nmod tests {\n    use crate::train;\n}\n";
    let names = ["", "config", "device", "error", "model", "prepare"].map(String::from);
    assert_eq!(imports(text), BTreeSet::from(names));
}
