//! The scripts in `examples/` say what they need instead of failing with a stack.

use crate::support::folder;
use std::{path::Path, process::Command};

/// What a script prints when it is run with `words` in an empty folder; `None` without its interpreter.
fn output(script: &str, words: &[&str]) -> Option<(Option<i32>, String)> {
    let interpreter = if script.ends_with(".py") { "python3" } else { "node" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(script);
    let folder = folder();
    let mut command = Command::new(interpreter);
    // Nothing is written beside the scripts.
    command.arg(path).args(words).current_dir(&folder).env("PYTHONDONTWRITEBYTECODE", "1");
    match command.output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(_) => {
            eprintln!("{script} was not tried: there is no {interpreter}");
            None
        }
    }
}

#[test]
fn scripts_without_arguments_say_how_they_are_used() {
    let mut tried = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_script = name.ends_with(".py") || name.ends_with(".mjs");
        // The others are modules of those.
        let source = if is_script { std::fs::read_to_string(&path).unwrap() } else { continue };
        if !source.contains("argv") && !source.contains("argparse") {
            continue;
        }
        tried += 1;
        let Some((code, text)) = output(name, &[]) else { continue };
        assert!(matches!(code, Some(1 | 2)), "{name}: {text}");
        assert!(text.contains("usage: ") || text.contains("hint: node examples/"), "{name}: {text}");
        assert!(!text.contains("Traceback") && !text.contains("    at "), "{name}: {text}");
    }
    assert!(tried >= 5, "only {tried} scripts found");
}

#[test]
fn checking_what_is_no_checkpoint_is_refused() {
    if let Some((code, text)) = output("check_transformers.py", &["nowhere"]) {
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("`nowhere` is no checkpoint"), "{text}");
    }
}
