//! `kiln eval --suite`: the figures are those of lm-evaluation-harness with the same checkpoint and the same rows, on
//! the command line and during training, and what is wrong with a task is told with its place.

use crate::support::{debug_train, fails, file, folder, kiln, ok};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Made by `reference.py` there, with lm-evaluation-harness 0.4.13, transformers 5.24.0 and PyTorch 2.15.0.
const FIXTURES: &str = "tests/fixtures/suite";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURES).join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Makes a command that evaluates the model of the fixtures on a task file or a folder.
fn eval(suite: &Path) -> Command {
    let mut command = kiln(["eval"]);
    command.arg(fixture("model")).args(["--device", "cpu", "--suite"]).arg(suite);
    command
}

/// Whether texts and truth values are equal, and numbers up to the precision of the forward passes.
fn agree(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b)),
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 2e-4 * a.abs().max(1.0)
        }
        // Python prints what its JSON cannot hold, such as numbers of NumPy, as text.
        (Value::String(text), Value::Number(b)) => {
            text.parse::<f64>().is_ok_and(|a| (a - b.as_f64().unwrap()).abs() <= 1e-12)
        }
        (a, b) => a == b,
    }
}

/// Accuracies and matches are shares of few rows, so that they are equal or differ by far.
fn is_share(metric: &str) -> bool {
    metric.starts_with("acc") || metric.starts_with("exact_match")
}

#[test]
fn figures_are_those_of_the_harness() {
    let reference = json(&fixture("reference.json"));
    let folder = folder();
    for batch_size in ["1", "3", "16"] {
        let out = folder.path().join(batch_size);
        let mut command = eval(&fixture("tasks"));
        command
            .args(["--batch-size", batch_size, "--bootstrap-iterations", "1000", "--json", "--out"])
            .arg(&out);
        let printed: Value = serde_json::from_str(&ok(&mut command)).unwrap();
        assert_eq!(printed["results"], json(&out.join("results.json"))["results"]);
        let tasks = reference["results"].as_object().unwrap();
        assert!(tasks.len() == 5 && printed["results"].as_object().unwrap().len() == 5, "{printed}");
        for (task, figures) in tasks {
            for (name, figure) in figures.as_object().unwrap() {
                let own = &printed["results"][task][name];
                let metric = name.split(',').next().unwrap();
                let fits = match (figure.as_f64(), own.as_f64()) {
                    (Some(a), Some(b)) if is_share(metric) => (a - b).abs() < 1e-12,
                    _ => agree(figure, own),
                };
                assert!(fits, "{task} {name}: {figure} but {own}, in batches of {batch_size}");
            }
            let samples = std::fs::read_to_string(out.join(format!("samples_{task}.jsonl"))).unwrap();
            let samples: Vec<Value> =
                samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let expected = reference["samples"][task].as_array().unwrap();
            assert_eq!(samples.len(), expected.len(), "{task}");
            for of_harness in expected {
                let fits = |own: &&Value| {
                    own["filter"] == of_harness["filter"] && own["doc_id"] == of_harness["doc_id"]
                };
                let own = samples.iter().find(fits).unwrap();
                for key in ["resps", "filtered_resps"] {
                    assert!(agree(&of_harness[key], &own[key]), "{task} {key}: {of_harness} but {own}");
                }
            }
        }
    }
}

#[test]
fn a_table_shows_a_part_of_the_rows_and_other_examples() {
    let table = ok(eval(&fixture("tasks/arc_small.yaml")).args(["--limit", "5", "--num-fewshot", "2"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("|  Tasks") || lines[0].starts_with("|Tasks"), "{table}");
    assert_eq!(lines.len(), 5, "{table}");
    let cells: Vec<&str> = lines[2].split('|').map(str::trim).collect();
    assert_eq!(cells[1..7], ["arc_small", "Yaml", "none", "2", "acc", "↑"], "{table}");
    let shown = ok(eval(&fixture("tasks/arc_small.yaml")).args(["--limit", "5", "--json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["n-samples"]["arc_small"]["effective"], 5);
    assert_eq!(shown["config"]["limit"], 5.0);
    let other = ok(eval(&fixture("tasks/arc_small.yaml")).args(["--limit", "5", "--json", "--seed", "7"]));
    assert_ne!(serde_json::from_str::<Value>(&other).unwrap()["config"], shown["config"]);
}

#[test]
fn rows_of_parquet_are_those_of_json_or_the_build_is_named() {
    let folder = folder();
    for name in ["arc.parquet", "arc_train.jsonl"] {
        std::fs::copy(fixture("tasks").join(name), folder.path().join(name)).unwrap();
    }
    let text = std::fs::read_to_string(fixture("tasks/arc_small.yaml")).unwrap();
    let task = file(&folder, "task.yaml", text.replace("arc.jsonl", "arc.parquet"));
    if cfg!(feature = "data") {
        let results = |task: &Path| -> Value {
            let printed = ok(eval(task).arg("--json"));
            serde_json::from_str::<Value>(&printed).unwrap()["results"].clone()
        };
        assert_eq!(results(&task), results(&fixture("tasks/arc_small.yaml")));
    } else {
        fails(&mut eval(&task), 2, &["arc.parquet", "cannot read", "hint: ", "--features data"]);
    }
}

/// Rows and task files for a model of bytes.
fn byte_tasks() -> TempDir {
    let folder = folder();
    let rows = (0..6).map(|i| {
        format!(
            "{{\"q\": \"Is {i} even?\", \"c\": [\"yes\", \"no\"], \"a\": {}, \"t\": \"the end\"}}\n",
            i % 2
        )
    });
    file(&folder, "rows.jsonl", rows.collect::<String>());
    let choice = "task: choice\ndata: rows.jsonl\noutput_type: multiple_choice\ndoc_to_text: \"{{q}}\"\n\
                  doc_to_choice: c\ndoc_to_target: a\n";
    file(&folder, "choice.yaml", choice);
    let written = "task: written\ndata: rows.jsonl\ndoc_to_text: q\ndoc_to_target: t\n\
                   generation_kwargs: {until: [\"\\n\"], max_gen_toks: 6}\n\
                   metric_list: [{metric: exact_match}, {metric: bleu}, {metric: chrf}, {metric: rougeL}, {metric: f1}]\n";
    file(&folder, "written.yaml", written);
    folder
}

#[test]
fn tasks_are_evaluated_during_training_and_after_a_resume_alike() {
    let tasks = byte_tasks();
    let runs = folder();
    let train = |run: &Path, more: &str| {
        let mut command = debug_train(run, more);
        let suites = format!("eval.suites=['{}']", tasks.path().display());
        command.args(["--set", "tokenizer.kind=byte", "--set", &suites]);
        command.args(["--set", "eval.suite_interval=2", "--set", "eval.suite_limit=4"]);
        command.args(["--set", "train.max_steps=5", "--set", "train.save_interval=1"]);
        command
    };
    let [whole, parts] = ["whole", "parts"].map(|name| runs.path().join(name));
    let output = train(&whole, "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("step 00002/00005 | choice/acc "), "{said}");
    ok(&mut train(&parts, "--set train.stop_after=3"));
    let mut resumed = kiln(["train", "--device", "cpu", "--resume"]);
    ok(resumed.arg(&parts).args(["--set", "train.stop_after=0"]));
    let reports = |run: &Path| -> Vec<(Value, Value)> {
        let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events
            .filter(|event| event["type"] == "tasks")
            .map(|event| (event["step"].clone(), event["metrics"].clone()))
            .collect()
    };
    let steps: Vec<u64> = reports(&whole).iter().map(|(step, _)| step.as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 4, 5]);
    // The first part also ended with an evaluation.
    let of_parts: Vec<_> = reports(&parts).into_iter().filter(|(step, _)| step != 3).collect();
    assert_eq!(of_parts, reports(&whole));
    let (_, metrics) = &reports(&whole)[0];
    for name in ["choice/acc", "choice/acc_norm", "written/exact_match", "written/bleu", "written/rougeL"] {
        assert!(metrics[name].is_number(), "{metrics}");
    }
    let report = std::fs::read_to_string(whole.join("report.html")).unwrap();
    assert!(report.contains("<summary>Tasks</summary>") && report.contains("choice/acc_norm"));
    // The same as the command shows for the checkpoint.
    let mut command = kiln(["eval", "--device", "cpu", "--limit", "4", "--json", "--suite"]);
    let shown = ok(command.arg(tasks.path()).arg(&whole));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let accuracy = shown["results"]["choice"]["acc,none"].as_f64().unwrap();
    let (_, last) = reports(&whole).pop().unwrap();
    assert!((accuracy - last["choice/acc"].as_f64().unwrap()).abs() < 1e-6, "{shown} {last}");
}

#[test]
fn what_is_wrong_with_a_task_is_told_with_its_place() {
    let folder = folder();
    file(
        &folder,
        "rows.jsonl",
        "{\"q\": \"x\", \"a\": 0, \"c\": [\"p\", \"q\"]}\n{\"q\": \"y\", \"a\": 0, \"c\": [\"p\"], \"r\": []}\n",
    );
    let task = |text: &str| file(&folder, "task.yaml", format!("task: a\ndata: rows.jsonl\n{text}"));
    for (text, parts) in [
        (
            "doc_to_txt: q\n",
            &["task.yaml` line 3: unknown key `doc_to_txt`", "hint: did you mean `doc_to_text`?"][..],
        ),
        ("output_type: choose\n", &["task.yaml` line 3: unknown output type `choose`", "hint: "]),
        (
            "doc_to_text: \"{{z}}\"\ndoc_to_target: a\ngeneration_kwargs: {max_gen_toks: 4}\n",
            &["task.yaml` line 3: `doc_to_text` fails for row 1 of", "rows.jsonl", "no field `z`"],
        ),
        (
            "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: a\ndoc_to_choice: c\n",
            &["task.yaml` line 6: `doc_to_choice` fails for row 2 of", "at least two choices"],
        ),
        (
            "doc_to_text: q\ndoc_to_target: \"{{ [] }}\"\ngeneration_kwargs: {max_gen_toks: 4}\n",
            &["task.yaml` line 4: `doc_to_target`", "empty"],
        ),
        (
            "doc_to_text: q\ndoc_to_target: a\ngeneration_kwargs: {max_gen_toks: 96}\n",
            &["task.yaml` line 5: `generation_kwargs` has no room in a context of 96 tokens", "hint: "],
        ),
    ] {
        fails(&mut eval(&task(text)), 2, parts);
    }
    let other = file(
        &folder,
        "x.yaml",
        "task: a\ndata: x.xlsx\ndoc_to_text: q\ndoc_to_target: a\n\
        generation_kwargs: {max_gen_toks: 4}\n",
    );
    file(&folder, "x.xlsx", "PK");
    fails(&mut eval(&other), 2, &["x.xlsx", "no format that can be read", "hint: "]);
    fails(&mut eval(&folder.path().join("none.yaml")), 2, &["none.yaml", "hint: check the path"]);
    let empty = TempDir::new().unwrap();
    fails(&mut eval(empty.path()), 2, &["has no task file", "hint: "]);
    let good = task("doc_to_text: q\ndoc_to_target: q\ngeneration_kwargs: {max_gen_toks: 4}\n");
    fails(eval(&good).args(["--limit", "0"]), 2, &["--limit"]);
    // Before the first step, and before there is a folder.
    let run = folder.path().join("run");
    let suites = format!("eval.suites=['{}']", task("doc_to_txt: q\n").display());
    fails(debug_train(&run, "").args(["--set", &suites]), 2, &["unknown key `doc_to_txt`"]);
    assert!(!run.exists());
}

#[test]
fn an_encoder_is_refused_before_its_weights_are_read() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(kiln(["train", "--preset", "bert-tiny", "--device", "cpu", "--set", "train.max_steps=1", "--out"])
        .arg(&run)
        .args(["--set", "train.eval_interval=0"]));
    let mut command = kiln(["eval", "--device", "cpu", "--suite"]);
    command.arg(fixture("tasks")).arg(&run);
    fails(&mut command, 2, &["model.architecture", "an encoder", "hint: "]);
}
