//! Checks what is said about task files and data that are not right.

use super::hash_model::HashModel;
use crate::{
    evaluate::{Options, PreparedSuite},
    suite::Suite,
};
use std::{fs, path::Path};

const MULTIPLE_CHOICE: &str = "output_type: multiple_choice\ndoc_to_text: \"{{q}}\"\n";

/// Runs a task over rows, and returns the error with its hint or, without one, the notes.
fn run(task: &str, rows: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, format!("task: a\ndata: rows.jsonl\n{task}")).unwrap();
    fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    fs::write(folder.path().join("b.yaml"), "task: bee\ndata: rows.jsonl\n").unwrap();
    let message = match load_and_run(&path) {
        Ok(notes) => notes.join("\n"),
        Err(error) => match error.hint() {
            Some(hint) => format!("{error}\nhint: {hint}"),
            None => error.to_string(),
        },
    };
    message.replace(&format!("{}/", folder.path().display()), "")
}

fn load_and_run(path: &Path) -> crate::error::Result<Vec<String>> {
    let options = Options { bootstrap_iterations: 10, ..Options::default() };
    let suite = PreparedSuite::new(Suite::load(&[path])?, &|_| Ok(None), options)?;
    suite.run(&mut HashModel::default())?;
    Ok(suite.notes)
}

#[test]
fn errors_name_the_place() {
    let row = "{\"q\": \"x\", \"a\": 0, \"c\": [\"p\", \"q\"]}\n";
    let cases = [
        // Keys of the task file.
        ("doc_to_txt: q\n", "`a.yaml` line 3: unknown key `doc_to_txt`\nhint: did you mean `doc_to_text`?"),
        (
            "output_type: multiple_choices\n",
            "`a.yaml` line 3: unknown output type `multiple_choices` in `output_type`\nhint: did you mean \
             `multiple_choice`?",
        ),
        (
            "doc_to_text: q\ndoc_to_target: a\nmetric_list:\n  - metric: exactmatch\n",
            "`a.yaml` line 6: unknown metric of `generate_until` `exactmatch` in `metric_list.metric`\nhint: did you \
             mean `exact_match`?",
        ),
        (
            "doc_to_text: q\ndoc_to_target: a\nfilter_list:\n  - name: x\n    filter:\n      - function: regexp\n",
            "`a.yaml` line 8: unknown filter `regexp` in `filter_list.filter.function`\nhint: did you mean `regex`?",
        ),
        (
            "doc_to_text: q\ndoc_to_target: a\nfilter_list:\n  - name: x\n    filter:\n      - function: regex\n        regex_pattern: \"(\"\n",
            "`a.yaml` line 9: `filter_list.filter.regex_pattern` is no regular expression that can be used: ",
        ),
        (
            "process_docs: !function utils.f\n",
            "`a.yaml` line 3: `process_docs` is not supported\nhint: prepare the rows with Python once, ",
        ),
        (
            "doc_to_text: !function utils.f\n",
            "`a.yaml` line 3: `doc_to_text` is the Python function `utils.f`, which cannot be run here\nhint: ",
        ),
        (
            "doc_to_text: q\ndoc_to_target: a\nrepeats: 2\nfilter_list: [{name: x, filter: [{function: take_first_k, k: 3}]}]\n",
            "`a.yaml` line 6: `filter_list.filter` takes 3 outputs of each row, but there are 2\nhint: set `repeats: 3`",
        ),
        ("doc_to_text: q\n", "`a.yaml` line 1: `doc_to_target` is missing\nhint: "),
        (
            "doc_to_text: q\ndoc_to_target: a\ndescription: 3.5\n",
            "`a.yaml` line 5: `description` must be text, not a number or a truth value\nhint: put it between quotes",
        ),
        (
            "doc_to_text: q\ndoc_to_target: a\nfewshot_split: train\nnum_fewshot: 1\n",
            "`a.yaml` line 5: `fewshot_split` names the split `train`, but `data` has only: test\nhint: add its file, \
             as in `data: {train: FILE}`",
        ),
        (
            "doc_to_text: q\ndoc_to_target: \"{{a}}\"\nfewshot_split: test\nnum_fewshot: 1\n",
            "`a.yaml` line 6: `num_fewshot` asks for 1 examples, but there are only 1 rows for them apart from the \
             evaluated one\nhint: ask for fewer, or add rows",
        ),
        (
            "include: c.yaml\n",
            "cannot read `c.yaml`: No such file or directory (os error 2)\nhint: check the path",
        ),
        ("include: a.yaml\n", "`a.yaml` line 3: `include` names `a.yaml`, which includes this file"),
        // Rows.
        (
            "doc_to_text: \"{{question}}\"\ndoc_to_target: a\n",
            "`a.yaml` line 3: `doc_to_text` fails for row 1 of `rows.jsonl`: there is no field `question`\nhint: \
             fields: q, a, c",
        ),
        (
            "doc_to_text: \"{{q.foo()}}\"\ndoc_to_target: a\n",
            "`a.yaml` line 3: `doc_to_text` fails for row 1 of `rows.jsonl`: unknown method: string has no method \
             named foo",
        ),
        (
            "output_type: loglikelihood\ndoc_to_text: q\ndoc_to_target: a\n",
            "`a.yaml` line 5: `doc_to_target` fails for row 1 of `rows.jsonl`: the target is not text but a whole \
             number\nhint: make it text with a template, such as `\"{{answer}}\"`",
        ),
        (
            "doc_to_text: qq\ndoc_to_target: a\n",
            "`a.yaml` line 3: `doc_to_text` is neither a field nor a template, so that each row gets the text `qq`",
        ),
    ];
    for (task, expected) in cases {
        let message = run(task, row);
        assert!(message.starts_with(expected), "{task}\n{message}");
    }
}

#[test]
fn errors_of_choices_name_the_row() {
    let row = |fields: &str| {
        format!("{{\"q\": \"x\", \"a\": 0, \"c\": [\"p\", \"q\"]}}\n{{\"q\": \"y\", {fields}}}\n")
    };
    let cases = [
        (
            "doc_to_target: a\ndoc_to_choice: c\n",
            row("\"a\": 2, \"c\": [\"p\", \"q\"]"),
            "`a.yaml` line 5: `doc_to_target` fails for row 2 of `rows.jsonl`: there is no choice `2`: there are 2, \
             counted from 0",
        ),
        (
            "doc_to_target: \"{{a}}x\"\ndoc_to_choice: c\n",
            row("\"a\": 2, \"c\": [\"p\", \"q\"]"),
            "`a.yaml` line 5: `doc_to_target` fails for row 1 of `rows.jsonl`: `0x` is none of the choices `p`, `q`",
        ),
        (
            "doc_to_target: a\ndoc_to_choice: c\n",
            row("\"a\": 0, \"c\": [\"p\"]"),
            "`a.yaml` line 6: `doc_to_choice` fails for row 2 of `rows.jsonl`: there must be at least two choices, not 1",
        ),
        (
            "doc_to_target: a\ndoc_to_choice: c\n",
            row("\"a\": 0"),
            "`a.yaml` line 6: `doc_to_choice` fails for row 2 of `rows.jsonl`: the choices are not a list but nothing",
        ),
        (
            "doc_to_target: a\ndoc_to_choice: \"{{q}}\"\n",
            row("\"a\": 0"),
            "`a.yaml` line 6: `doc_to_choice` fails for row 1 of `rows.jsonl`: `x` is no list: `x` is no value\nhint: \
             print a list of texts, as `{{[first, second]}}` does",
        ),
        (
            "doc_to_target: a\ndoc_to_choice: [x, y, z]\nmetric_list: [{metric: f1}]\n",
            row("\"a\": 0"),
            "`a.yaml` line 7: `metric_list.metric` fails for row 1 of `rows.jsonl`: F1 needs exactly two choices\nhint: \
             use `acc` or `mcc`",
        ),
        (
            "doc_to_target: a\n",
            row("\"a\": 0"),
            "`a.yaml` line 3: `output_type` needs `doc_to_choice`\nhint: ",
        ),
        (
            "doc_to_target: a\ndoc_to_choice: [1, 2]\n",
            row("\"a\": 0"),
            "`a.yaml` line 6: `doc_to_choice` must be text, not a number or a truth value\nhint: put it between quotes",
        ),
        (
            "doc_to_target: a\ndoc_to_choice: c\n",
            String::new(),
            "`a.yaml` line 2: `data` names the split `test`, but `rows.jsonl` has no rows",
        ),
        (
            "doc_to_target: a\ndoc_to_choice: c\n",
            "{\"q\": 1}\nx\n".into(),
            "`rows.jsonl` row 2: is not JSON: expected value at line 2 column 1\nhint: a row is a JSON object",
        ),
    ];
    for (task, rows, expected) in cases {
        let message = run(&format!("{MULTIPLE_CHOICE}{task}"), &rows);
        assert!(message.starts_with(expected), "{task}\n{message}");
    }
}

#[test]
fn groups_name_tasks_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str| {
        let path = folder.path().join("group.yaml");
        fs::write(
            folder.path().join("b.yaml"),
            "task: bee\ndata: r.jsonl\ndoc_to_text: q\ndoc_to_target: a\n",
        )
        .unwrap();
        fs::write(&path, text).unwrap();
        let message = match Suite::load(&[&path]) {
            Ok(suite) => format!("{} tasks", suite.tasks.len()),
            Err(error) => format!("{error}\nhint: {}", error.hint().unwrap_or_default()),
        };
        message.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(load("group: g\ntask: [bee]\n"), "1 tasks");
    assert_eq!(load("group: g\ntask: [b.yaml]\n"), "1 tasks");
    let unknown = "`group.yaml` line 2: unknown task or group `beee` in `task`\nhint: did you mean `bee`?";
    assert_eq!(load("group: g\ntask: [beee]\n"), unknown);
    assert!(
        load("group: g\ntask: [bee, bee]\n")
            .starts_with("`b.yaml` line 1: `task` `bee` is in the suite twice")
    );
    assert!(
        load("group: g\ntask: [g]\n")
            .starts_with("`group.yaml` line 2: `task` is of the group `g`, which is")
    );
    assert!(load("group: g\n").starts_with("`group.yaml` line 1: `group` has no tasks"));
}
