//! Every command of every README runs, file by file, in the order in which it stands there.
//!
//! What a block of a README is, its info string says:
//!
//! | block | what this test does with it |
//! | --- | --- |
//! | `sh` | A shell runs it in a folder that is laid out like a clone, with `kiln` made small ([`clone`]). |
//! | `console` | The same for the lines after `$ `; what the README shows as their output is compared in shape. |
//! | `sh CLASS` | It needs a network, a browser or the like: [`elsewhere`] names the check that runs each command. |
//! | `toml NAME` | The file is saved under that name, for the commands below it. |
//! | `text`, `python` | Nothing: it holds no commands. |
//!
//! A block of any other kind fails, so that no command hides in one.
#![cfg(unix)]

mod blocks;
mod clone;
mod elsewhere;

use crate::support::{folder, kiln, ok};
use blocks::{missing, readmes};
use clone::Clone;
use elsewhere::ELSEWHERE;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn commands_of_the_readmes_run() {
    let mut unused: BTreeSet<&str> = ELSEWHERE.iter().map(|elsewhere| elsewhere.command).collect();
    let (mut ran, mut all, mut faults) = (0, 0, String::new());
    for readme in readmes() {
        let prepares =
            readme.blocks.iter().any(|block| block.commands().iter().any(|c| c.starts_with("kiln data ")));
        if prepares && !cfg!(feature = "data") {
            eprintln!("{} was not tried: it needs a build with `--features data`", readme.name);
            unused.retain(|command| !command.contains("data"));
            continue;
        }
        let clone = Clone::new();
        let (mut here, mut elsewhere) = (0, 0);
        for block in &readme.blocks {
            let place = format!("{}:{}", readme.name, block.line);
            let commands = block.commands();
            match block.info.split_once(' ').unwrap_or((&block.info, "")) {
                ("sh", "") => {
                    if let Err(fault) = clone.run(&block.text()) {
                        let _ = writeln!(faults, "{place}: {fault}");
                    }
                    here += commands.len();
                }
                ("console", "") => {
                    for (command, shown) in block.session() {
                        match clone.run(&command) {
                            Ok(printed) => missing(&shown, &printed).iter().for_each(|line| {
                                let _ = writeln!(
                                    faults,
                                    "{place}: `{command}` does not print\n{line}\nbut\n{printed}"
                                );
                            }),
                            Err(fault) => {
                                let _ = writeln!(faults, "{place}: {fault}");
                            }
                        }
                        here += 1;
                    }
                }
                ("sh", class) => {
                    for command in &commands {
                        let found = ELSEWHERE.iter().find(|e| e.class == class && e.command == command);
                        if let Some(found) = found {
                            unused.remove(found.command);
                        } else {
                            let _ = writeln!(faults, "{place}: no test runs `{command}` of class `{class}`");
                        }
                    }
                    elsewhere += commands.len();
                }
                ("toml", name) if !name.is_empty() => clone.file(name, &block.text()),
                ("text" | "python", "") => {}
                (info, _) => {
                    let _ = writeln!(faults, "{place}: a block may not be `{info}`");
                }
            }
        }
        println!("{}: ran {here} commands, {elsewhere} are run by other checks", readme.name);
        (ran, all) = (ran + here, all + here + elsewhere);
    }
    println!("ran {ran} of {all} commands, other checks run the rest");
    assert!(faults.is_empty(), "{faults}");
    assert!(unused.is_empty(), "no README has {unused:?}");
    assert!(ran >= 40, "only {ran} commands found");
}

#[test]
fn checks_that_run_the_other_commands_do() {
    for elsewhere in ELSEWHERE {
        let text = std::fs::read_to_string(Path::new(ROOT).join(elsewhere.file)).unwrap();
        assert!(text.contains(elsewhere.runs), "{} does not run `{}`", elsewhere.file, elsewhere.command);
    }
}

#[test]
fn the_first_readme_is_read_in_two_minutes() {
    let words =
        std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap().split_whitespace().count();
    assert!(words <= 900, "README.md has {words} words");
}

/// Links lead to files that are there; commands, options and keys that the text names exist.
#[test]
fn readmes_name_what_exists() {
    let keys = keys();
    let mut helps = BTreeMap::new();
    let mut faults = String::new();
    for readme in readmes() {
        let folder = Path::new(ROOT).join(&readme.name).parent().unwrap().to_owned();
        for link in readme.prose.split("](").skip(1) {
            let link = link.split(')').next().unwrap().split('#').next().unwrap();
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                let _ = writeln!(faults, "{}: there is no `{link}`", readme.name);
            }
        }
        for span in readme.prose.split('`').skip(1).step_by(2) {
            let span = span.split_whitespace().collect::<Vec<_>>();
            if span.first() == Some(&"kiln") && span.len() > 1 {
                for option in unknown_options(&span[1..], &mut helps) {
                    let _ = writeln!(faults, "{}: `{}` has no `{option}`", readme.name, span.join(" "));
                }
            }
            let key = span.first().map_or("", |word| word.split('=').next().unwrap());
            let is_key = key.split_once('.').is_some_and(|(section, rest)| {
                keys.iter().any(|known| known.starts_with(&format!("{section}.")))
                    && !["md", "rs", "ts", "toml", "json"].contains(&rest)
            });
            if span.len() == 1 && is_key && !keys.contains(key) {
                let _ = writeln!(faults, "{}: there is no key `{key}`", readme.name);
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

/// Keys of the configuration, with their sections.
fn keys() -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in ok(kiln(["config", "show"]).current_dir(folder())).lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap().to_owned();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once('=') {
            keys.insert(format!("{section}.{}", key.trim()));
        }
    }
    keys
}

/// Options among the words of a `kiln` command that its `--help` does not list; the command itself where there is
/// none of that name.
fn unknown_options(words: &[&str], helps: &mut BTreeMap<String, String>) -> Vec<String> {
    let is_name =
        |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    let names: Vec<&str> = words.iter().take_while(is_name).copied().collect();
    if names.first() == Some(&"data") && !cfg!(feature = "data") {
        return Vec::new();
    }
    let help = helps.entry(names.join(" ")).or_insert_with(|| {
        let output = kiln(names.iter().chain([&"--help"])).output().unwrap();
        if output.status.success() { String::from_utf8(output.stdout).unwrap() } else { String::new() }
    });
    if help.is_empty() {
        return vec![names.join(" ")];
    }
    let options =
        words.iter().filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap());
    options.filter(|option| !help.contains(option)).map(str::to_owned).collect()
}
