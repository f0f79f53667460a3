//! Every `kiln` command of the README runs, in the order in which it stands there.

use crate::support::{folder, kiln, ok};

#[test]
fn commands_of_the_readme_run() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let folder = folder();
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tinyshakespeare.txt"),
        folder.path().join("tinyshakespeare.txt"),
    )
    .unwrap();
    let model = folder.path().join("tests/fixtures/models/gpt2");
    std::fs::create_dir_all(&model).unwrap();
    for entry in std::fs::read_dir(crate::parity::fixture("gpt2")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let mut count = 0;
    let mut in_shell = false;
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            in_shell = language == "sh";
            continue;
        }
        let command = line.strip_prefix("cargo run --release -- ").map(|rest| format!("kiln {rest}"));
        let command = command.unwrap_or_else(|| line.to_owned());
        let Some(arguments) = command.strip_prefix("kiln ").filter(|_| in_shell) else { continue };
        let arguments = arguments.split(" #").next().unwrap();
        let mut words = shell_words(arguments);
        let trains = ["train", "generate", "eval", "bench"].contains(&words[0].as_str());
        if trains && !words.iter().any(|word| word == "--device") {
            words.extend(["--device".into(), "cpu".into()]);
        }
        if words[0] == "train" && !words.iter().any(|word| word == "--resume") {
            // The same commands, shortened: what they compute is tested elsewhere.
            words.extend(["--set", "train.max_steps=6", "--set", "train.eval_batches=1"].map(String::from));
        }
        if words[0] == "train" && words.iter().any(|word| word == "--resume") {
            words.extend(["--set", "train.stop_after=8", "--set", "train.eval_batches=1"].map(String::from));
        }
        if words[0] == "bench" {
            words.extend(["--steps", "1", "--warmup", "1"].map(String::from));
        }
        ok(kiln(&words).current_dir(&folder));
        count += 1;
    }
    assert!(count >= 8, "only {count} commands found");
}

/// Splits a line as a shell does, quotes and all.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.trim().chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
