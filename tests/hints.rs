//! Hints name keys that exist, and name them as parts: plain text would reach the page with the options of
//! the command line.

use kiln::config::Config;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Source text before the key in a hint.
const NAMING: [&str; 6] =
    ["hint::key(", "hint::set(", "hint::choose(", "hint::entry(", ".and(", ".and_choose("];

/// Beginnings of plain text that names an option for which the page has other words.
const OPTIONS: [&str; 5] = ["`--set ", "`--data", "`--device", "`--out", "`--resume"];

/// Collects the Rust files below a folder, without those of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Reads each file of the engine and of the page's crate, without the tests at its end and without comments.
fn code() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "web/src"] {
        sources(&root.join(folder), &mut files);
    }
    let code = |path: &Path| {
        let text = fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    files.into_iter().map(|path| (path.clone(), code(&path))).collect()
}

#[test]
fn every_key_that_a_hint_names_exists() {
    let keys = Config::keys();
    let mut named = 0;
    for (path, code) in code() {
        for after in NAMING.iter().flat_map(|naming| code.split(naming).skip(1)) {
            // A variable names a key of the configuration's own list.
            let Some(key) = after.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            assert!(keys.iter().any(|known| known == key), "{}: a hint names `{key}`", path.display());
            named += 1;
        }
    }
    assert!(named >= 50, "only {named} keys were found: are hints written in another way?");
}

#[test]
fn hints_name_options_as_parts() {
    for (path, code) in code() {
        let option = OPTIONS.iter().find(|option| code.contains(*option));
        // What a command says of itself never reaches the page.
        if !path.components().any(|part| part.as_os_str() == "cli") {
            assert_eq!(option, None, "{}: name it with `hint::set` or `hint::Place`", path.display());
        }
    }
}
