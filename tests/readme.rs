//! Every command of every README runs, file by file, in the order of the README.
//!
//! The info string of a block says what it is:
//!
//! | block | what this test does with it |
//! | --- | --- |
//! | `sh` | A shell runs it in a folder that is laid out like a clone, with `kiln` made small ([`clone`]). |
//! | `console` | The same for the lines after `$ `; what the README shows as their output is compared in shape. |
//! | `sh CLASS` | It needs a network, a browser or the like: [`elsewhere`] names the check that runs each command. |
//! | `toml NAME`, `yaml NAME` | The file is saved under that name, for the commands below it. |
//! | `text`, `python` | Nothing: it holds no commands. |
//!
//! A block of any other kind fails, so that no command hides in one.
#![cfg(unix)]

mod blocks;
mod clone;
mod elsewhere;

use crate::support::{kiln, ok};
use blocks::{Block, missing, readmes};
use clone::Clone;
use elsewhere::ELSEWHERE;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    time::Instant,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn commands_of_the_readmes_run() {
    let (mut ran, mut all, mut faults) = (0, 0, String::new());
    for readme in readmes() {
        let commands = |block: &Block| block.commands().len();
        let here: usize = readme.blocks.iter().filter(|block| block.class().is_none()).map(commands).sum();
        let elsewhere: usize =
            readme.blocks.iter().filter(|block| block.class().is_some()).map(commands).sum();
        if readme.prepares_data() && !cfg!(feature = "data") {
            println!("{}: not run, since it needs a build with `--features data`", readme.name);
            continue;
        }
        let started = Instant::now();
        let clone = Clone::new();
        for block in &readme.blocks {
            if let Err(fault) = run(block, &clone) {
                let _ = writeln!(faults, "{}:{}: {fault}", readme.name, block.line);
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{}: ran {here} commands in {seconds:.1} s; other checks run {elsewhere}", readme.name);
        (ran, all) = (ran + here, all + here + elsewhere);
    }
    println!("ran {ran} of {all} commands; other checks run the rest");
    assert!(faults.is_empty(), "{faults}");
    assert!(ran >= 40, "only {ran} commands found");
}

/// Handles a block as its info string says.
fn run(block: &Block, clone: &Clone) -> Result<(), String> {
    match block.info.split_once(' ').unwrap_or((&block.info, "")) {
        ("sh", "") => clone.run(&block.text()).map(drop),
        ("console", "") => {
            for (command, shown) in block.session() {
                let printed = clone.run(&command)?;
                let missing = missing(&shown, &printed);
                if !missing.is_empty() {
                    return Err(format!(
                        "`{command}` does not print\n{}\nbut\n{printed}",
                        missing.join("\n")
                    ));
                }
            }
            Ok(())
        }
        ("toml" | "yaml", name) if !name.is_empty() => {
            clone.file(name, &block.text());
            Ok(())
        }
        ("sh", _class) => Ok(()),
        ("text" | "python", "") => Ok(()),
        _ => Err(format!("a block may not be `{}`", block.info)),
    }
}

#[test]
fn other_checks_run_the_other_commands() {
    let mut unused: BTreeSet<&str> = ELSEWHERE.iter().map(|elsewhere| elsewhere.command).collect();
    for readme in readmes() {
        for block in &readme.blocks {
            let Some(class) = block.class() else { continue };
            for command in block.commands() {
                let known = ELSEWHERE.iter().any(|known| known.class == class && known.command == command);
                assert!(known, "{}:{}: no check runs `{command}`", readme.name, block.line);
                unused.remove(command.as_str());
            }
        }
    }
    assert!(unused.is_empty(), "no README has {unused:?}");
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

/// Links lead to files that exist, and so do the commands, options and keys that the text names.
#[test]
fn readmes_name_what_exists() {
    let keys = keys();
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
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
            let is_file =
                [".md", ".rs", ".ts", ".toml", ".json", ".safetensors"].iter().any(|end| key.ends_with(end));
            let is_key =
                !is_file && key.split_once('.').is_some_and(|(section, _)| sections.contains(section));
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
    for line in ok(&mut kiln(["config", "show"])).lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap().to_owned();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once('=') {
            keys.insert(format!("{section}.{}", key.trim()));
        }
    }
    keys
}

/// Finds options in the words of a `kiln` command that its `--help` does not list; the command itself if
/// there is none of this name.
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
