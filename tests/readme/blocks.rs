//! Parses READMEs into blocks and text.

use super::ROOT;
use std::{collections::BTreeSet, path::Path};

/// A README, parsed into blocks and text.
pub struct Readme {
    /// Path from the clone's folder.
    pub name: String,
    pub blocks: Vec<Block>,
    /// Text outside of blocks.
    pub prose: String,
}

pub struct Block {
    pub info: String,
    /// Number of the line that opens the block.
    pub line: usize,
    pub lines: Vec<String>,
}

impl Readme {
    /// Returns whether a command needs `kiln data`, which not every build has.
    pub fn prepares_data(&self) -> bool {
        self.blocks.iter().any(|block| block.commands().iter().any(|line| line.starts_with("kiln data ")))
    }
}

impl Block {
    /// Word after `sh` in the info string, of commands that need something a test lacks.
    pub fn class(&self) -> Option<&str> {
        self.info.strip_prefix("sh ")
    }

    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Commands, one each, without comments; a line that ends in a backslash continues on the next.
    pub fn commands(&self) -> Vec<String> {
        let kind = self.info.split(' ').next().unwrap();
        let text = match kind {
            "sh" => self.text(),
            "console" => self
                .lines
                .iter()
                .filter_map(|line| line.strip_prefix("$ "))
                .map(|l| format!("{l}\n"))
                .collect(),
            _ => return Vec::new(),
        };
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(|line| line.split(" #").next().unwrap());
        let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    /// Commands of a `console` block, with the lines that are shown below each.
    pub fn session(&self) -> Vec<(String, Vec<String>)> {
        let mut session: Vec<(String, Vec<String>)> = Vec::new();
        for line in &self.lines {
            match (line.strip_prefix("$ "), session.last_mut()) {
                (Some(command), _) => session.push((command.to_owned(), Vec::new())),
                (None, Some((_, shown))) => shown.push(line.clone()),
                (None, None) => panic!("a `console` block begins with `$ `, not with `{line}`"),
            }
        }
        session
    }
}

/// Reads the README, the manual beside the code, and the README of the page.
pub fn readmes() -> Vec<Readme> {
    let mut names: Vec<String> = ["README.md", "web/README.md"].map(String::from).to_vec();
    let mut folders = vec!["src".to_owned(), "examples".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(Path::new(ROOT).join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
            } else if name.ends_with("/README.md") {
                names.push(name);
            }
        }
    }
    names[1..].sort();
    names.into_iter().map(readme).collect()
}

fn readme(name: String) -> Readme {
    let text = std::fs::read_to_string(Path::new(ROOT).join(&name)).unwrap();
    let (mut blocks, mut prose, mut block) = (Vec::new(), String::new(), None::<Block>);
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), block.take()) {
            (Some(info), None) => {
                block = Some(Block { info: info.trim().to_owned(), line: number + 1, lines: Vec::new() });
            }
            (Some(_), Some(done)) => blocks.push(done),
            (None, Some(mut open)) => {
                open.lines.push(line.to_owned());
                block = Some(open);
            }
            (None, None) => prose.extend([line, "\n"]),
        }
    }
    assert!(block.is_none(), "{name}: a block is not closed");
    Readme { name, blocks, prose }
}

/// Finds lines that a README shows and the command did not print. Words are compared, except those with a
/// digit or in parentheses, which differ with the machine and the length of the run. Indented lines, which
/// are generated text, the bar, which only a terminal has, and the README's `…` are ignored.
pub fn missing(shown: &[String], printed: &str) -> Vec<String> {
    let shape = |line: &str| {
        let mut depth = 0;
        let mut kept = String::new();
        for c in line.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ if depth == 0 => kept.push(c),
                _ => {}
            }
        }
        let words = kept
            .split_whitespace()
            .map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    let printed: BTreeSet<String> = printed.lines().map(shape).collect();
    let compared = shown.iter().filter(|line| {
        !line.trim().is_empty() && !line.starts_with(' ') && line.trim() != "…" && !line.contains('━')
    });
    compared.filter(|line| !printed.contains(&shape(line))).cloned().collect()
}
