//! Dialogues end to end: previewed, trained on, resumed, and answered by the model.

use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// Settings of a run that fits dialogues of a few words.
const SETTINGS: &str = "--set objective.kind=sft --set tokenizer.kind=byte --set model.block_size=96 \
                        --set train.learning_rate=1e-2 --set data.order=shuffled";

/// Dialogues of two turns.
pub fn dialogues(folder: &TempDir) -> PathBuf {
    let line = |number: usize| {
        let turn = |role: &str, content: String| json!({ "role": role, "content": content });
        let messages = json!([
            turn("user", format!("say {number}")),
            turn("assistant", format!("{number}.")),
            turn("user", "again".into()),
            turn("assistant", format!("{number}!")),
        ]);
        format!("{}\n", json!({ "messages": messages }))
    };
    file(folder, "talk.jsonl", (10..40).map(line).collect::<String>())
}

/// A command that tunes a new model on dialogues.
pub fn train(run: &Path, data: &Path, more: &str) -> Command {
    let mut command = debug_train(run, &format!("{SETTINGS} {more}"));
    command.arg("--data").arg(data);
    command
}

/// Runs `kiln chat` with these lines on standard input.
fn chat(run: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = kiln(["chat", "--device", "cpu"]);
    command.arg(run).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_model_of_dialogues_is_talked_with() {
    let folder = folder();
    let (run, data) = (folder.path().join("run"), dialogues(&folder));
    ok(&mut train(&run, &data, "--set train.max_steps=30 --set train.ema_decay=0.5"));

    // The template is saved, and generation ends where a turn does.
    let checkpoint = run.join("checkpoints/latest");
    let template = fs::read_to_string(checkpoint.join("chat_template.jinja")).unwrap();
    assert!(template.contains("<|im_start|>") && template.contains("{%- generation %}"));
    let tokenizer = read_json(&checkpoint.join("tokenizer.json"));
    let added = tokenizer["added_tokens"].as_array().unwrap();
    let end = &added.iter().find(|token| token["content"] == "<|im_end|>").unwrap()["id"];
    let ends = read_json(&checkpoint.join("generation_config.json"))["eos_token_id"].clone();
    assert!(ends.as_array().unwrap().contains(end), "{ends}");

    // One answer a line on standard output; the conversation is saved as training data.
    let history = folder.path().join("history.json");
    let arguments =
        ["--history", history.to_str().unwrap(), "--set", "max_new_tokens=12", "--set", "temperature=0"];
    let first = chat(&run, &arguments, "/system Be brief.\nsay 12\n\n/nonsense\n/set nonsense\nagain\n");
    assert!(text(&first.stdout).lines().count() >= 2, "{}", text(&first.stdout));
    let complaints = text(&first.stderr);
    assert!(complaints.contains("unknown command `/nonsense`"));
    assert!(complaints.contains("`nonsense` for `/set`: expected KEY=VALUE"), "{complaints}");
    assert!(complaints.contains("hint: settings are `max_new_tokens`"), "{complaints}");
    let roles = |path: &Path| {
        let saved = read_json(path)["messages"].clone();
        let role = |message: &Value| message["role"].as_str().unwrap().to_owned();
        saved.as_array().unwrap().iter().map(role).collect::<Vec<_>>()
    };
    assert_eq!(roles(&history), ["system", "user", "assistant", "user", "assistant"]);

    // It goes on from there, takes turns back, and is the same each time.
    let other = folder.path().join("other.json");
    let before = read_json(&history);
    chat(&run, &arguments, "/retry\n/quit\nnot reached\n");
    assert_eq!(read_json(&history), before);
    chat(&run, &arguments, &format!("/undo\n/save {}\n", other.display()));
    assert_eq!(roles(&other), ["system", "user", "assistant"]);
    chat(&run, &arguments[2..], "say 10\n/reset\n/set\n/help\n");

    // A user's special tokens are text, and what a model generates cannot control the terminal.
    let output = chat(&run, &arguments[2..], "<|im_end|>\n");
    assert!(text(&output.stdout).chars().all(|c| !c.is_control() || c == '\n'));
    ok(kiln(["preview", "--rows", "1", "--model"]).arg(&run).arg(&history));

    // An evaluation counts the dialogues that the context does not hold whole.
    let long = fs::read_to_string(&data).unwrap().lines().take(2).collect::<Vec<_>>().join("\n");
    let long = file(&folder, "long.jsonl", long.replacen("again", &"again ".repeat(20), 1));
    let output = kiln(["eval", "--device", "cpu", "--json", "--data"]).arg(&long).arg(&run).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["cut_documents"], 1);
    let note = "the context of 96 tokens does not hold 1 of 2 rows whole";
    assert!(text(&output.stderr).contains(note), "{}", text(&output.stderr));
}

#[test]
fn a_preview_shows_what_is_trained() {
    let folder = folder();
    let data = dialogues(&folder);
    let mut preview = kiln(["preview", "--rows", "1", "--set", "tokenizer.kind=byte"]);
    let shown = ok(preview.arg(&data));
    let path = data.display();
    assert!(
        shown.starts_with(&format!("`{path}`: 30 examples of the format `messages`, told by its records\n")),
        "{shown}"
    );
    assert!(shown.contains("messages are rendered by the chat template `chatml`"), "{shown}");
    assert!(shown.contains("train split: 30 rows, ") && shown.contains("% of them masked"), "{shown}");
    let row = shown.split("of them trained\n").nth(1).unwrap();
    assert_eq!(
        row.trim_end(),
        "<|im_start|>·u·s·e·r·⏎·\ns·a·y· ·1·0·<|im_end|>·⏎·\n<|im_start|>·a·s·s·i·s·t·a·n·t·⏎·\n[1][0][.][<|im_end|>]⏎·\n\
         <|im_start|>·u·s·e·r·⏎·\na·g·a·i·n·<|im_end|>·⏎·\n<|im_start|>·a·s·s·i·s·t·a·n·t·⏎·\n[1][0][!][<|im_end|>]⏎·"
    );
    let json = |more: &str, data: &Path| -> Value {
        let mut preview = kiln(words(&format!("preview --json --rows 1 --set tokenizer.kind=byte {more}")));
        serde_json::from_str(&ok(preview.arg(data))).unwrap()
    };
    let last = json("--set chat.loss_on=last-answer", &data);
    assert_eq!(
        (&last["rows"], &last["targets"], &last["files"][0]["format"]),
        (&json!(30), &json!(120), &json!("messages"))
    );
    // Pairs, bad rows, and weights of roles.
    let pairs = r#"{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 2}
{"prompt": "q", "chosen": "a", "rejected": "a"}"#;
    let found = json("", &file(&folder, "pairs.jsonl", pairs));
    assert_eq!((&found["rows"], &found["skipped"]), (&json!(2), &json!(1)));
    assert_eq!((&found["shown"][0]["name"], &found["shown"][0]["value"]), (&json!("chosen"), &json!(2.0)));
    assert_eq!(found["shown"][1]["name"], "rejected");
    assert!(found["notes"].to_string().contains("1 whose chosen and rejected answers are equal"), "{found}");
    let mut weighted = kiln(["preview", "--rows", "1", "--set", "tokenizer.kind=byte", "--set"]);
    let shown = ok(weighted.arg("chat.role_weights={ assistant = 1.0, user = 0.5 }").arg(&data));
    assert!(shown.contains("[s×0.5][a×0.5][y×0.5]") && shown.contains("[1][0][.]"), "{shown}");
}

#[test]
fn training_on_dialogues_resumes_exactly_also_without_the_file_of_its_template() {
    let folder = folder();
    let data = dialogues(&folder);
    let template = file(
        &folder,
        "own.jinja",
        "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}\
         {% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    );
    let settings = format!(
        "--set chat.template={} --set data.packing=true --set chat.on_bad_row=skip",
        template.display()
    );
    let (whole, halted) = (folder.path().join("whole"), folder.path().join("halted"));
    ok(&mut train(&whole, &data, &settings));
    ok(&mut train(&halted, &data, &format!("{settings} --set train.stop_after=10")));
    fs::remove_file(&template).unwrap();
    ok(kiln(["train", "--device", "cpu", "--set", "train.stop_after=none", "--resume"]).arg(&halted));
    for name in ["model.safetensors", "optimizer.safetensors", "chat_template.jinja"] {
        let read = |run: &Path| fs::read(run.join("checkpoints/step-000020").join(name)).unwrap();
        assert!(read(&whole) == read(&halted), "{name} differs");
    }
    // Other weights are other data.
    let mut other = kiln(["train", "--device", "cpu", "--set", "chat.loss_on=all", "--resume"]);
    let arguments = ["--set", "train.max_steps=30", "--set", "train.stop_after=none"];
    fails(other.arg(&halted).args(arguments), 2, &["training data is not what the checkpoint", "hint: "]);
}

const ANSWERED: &str =
    r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;

/// Trains on a file of these records, which must be refused before there is a run.
#[track_caller]
fn refused(records: &[&str], more: &str, parts: &[&str]) {
    let folder = folder();
    let run = folder.path().join("run");
    let data = file(&folder, "data.jsonl", records.join("\n"));
    fails(train(&run, &data, more).args(["--set", "data.val_fraction=0"]), 2, parts);
    assert!(!run.exists());
}

/// Trains on a file of these records without the bad ones. Returns the notes of the run about its data.
#[track_caller]
fn skipped(records: &[&str], more: &str) -> String {
    let folder = folder();
    let run = folder.path().join("run");
    let data = file(&folder, "data.jsonl", records.join("\n"));
    let settings =
        ["--set", "data.val_fraction=0", "--set", "chat.on_bad_row=skip", "--set", "train.max_steps=1"];
    ok(train(&run, &data, more).args(settings));
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let started: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    started["notes"].to_string()
}

#[test]
fn a_mask_of_zeros_is_refused_or_left_out_and_counted() {
    let no_answer = r#"{"messages": [{"role": "user", "content": "q"}]}"#;
    let records = [ANSWERED, no_answer, no_answer];
    refused(
        &records,
        "",
        &[
            "data.jsonl` line 2",
            "no message of the role `assistant`",
            "of 3 examples that are read, 2 without an answer",
            "chat.on_bad_row=skip",
        ],
    );
    let notes = skipped(&records, "");
    assert!(
        notes.contains("2 of 3 examples are left out: 2 without an answer to train on (first: "),
        "{notes}"
    );
    // Where none is left, the reason is said.
    refused(
        &[no_answer],
        "--set chat.on_bad_row=skip",
        &["no example that can be trained on; 1 of 1 examples", "data.jsonl` line 1: has no message"],
    );
}

#[test]
fn an_unknown_role_is_refused_or_left_out_and_counted() {
    let unknown = ANSWERED.replace("user", "narrator");
    let records = [ANSWERED, &unknown];
    refused(
        &records,
        "",
        &["data.jsonl` line 2", "`narrator`, which is unknown", "hint: roles are `system`"],
    );
    let notes = skipped(&records, "");
    assert!(notes.contains("1 of 2 examples are left out: 1 with a role that is unknown"), "{notes}");
}

#[test]
fn an_answer_that_is_cut_away_whole_is_refused_or_left_out_and_counted() {
    let long = ANSWERED.replace("\"q\"", &format!("{:?}", "q".repeat(200)));
    let records = [ANSWERED, &long];
    refused(&records, "", &["data.jsonl` line 2", "its answer is not among the 97 that a row holds"]);
    let notes = skipped(&records, "");
    assert!(notes.contains("1 of 2 examples are left out: 1 whose answer is cut away whole"), "{notes}");
}

#[test]
fn chosen_equal_to_rejected_is_refused_or_left_out_and_counted() {
    let records = [
        r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#,
        r#"{"prompt": "q", "chosen": "a", "rejected": "a"}"#,
    ];
    let orpo = "--set objective.kind=orpo";
    refused(&records, orpo, &["data.jsonl` line 2", "a `chosen` that is equal to its `rejected`"]);
    let notes = skipped(&records, orpo);
    assert!(
        notes.contains("1 of 2 examples are left out: 1 whose chosen and rejected answers are equal"),
        "{notes}"
    );
}

#[test]
fn a_template_that_does_not_parse_or_rewrites_history_is_refused() {
    let folder = folder();
    let named =
        |name: &str, source: &str| format!("--set chat.template={}", file(&folder, name, source).display());
    refused(
        &[ANSWERED],
        &named("broken.jinja", "a\n{% for %}"),
        &["broken.jinja`: is no template in its line 2"],
    );
    let thinks = "{% for m in messages %}{{ m.role }}:{% if loop.last %}{{ m.thinking }}{% endif %}{{ m.content }}.\
                  {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    let turn = r#"{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "t"}"#;
    let two_turns = format!("{{\"messages\": [{turn}, {turn}]}}");
    let thinks = named("thinks.jinja", thinks);
    refused(
        &[&two_turns],
        &thinks,
        &["line 1", "thinks.jinja` rewrites the history at message 2", "--set chat.loss_on=last-answer"],
    );
    refused(&[ANSWERED], "--set chat.template=chat-ml", &["`chat-ml`", "did you mean `chatml`?", "`plain`"]);
}

#[test]
fn a_tokenizer_without_the_tokens_of_the_template_is_refused() {
    refused(
        &[ANSWERED],
        "--set chat.template=llama3",
        &["chat template `llama3`", "writes `bos_token`", "no such token", "hint: "],
    );
    // A model that was trained on text knows no turns.
    let folder = folder();
    let run = folder.path().join("text");
    ok(&mut debug_train(&run, ""));
    let mut tune = kiln(words("train --preset sft --device cpu --set chat.template=chatml --init-from"));
    tune.arg(&run).arg("--data").arg(dialogues(&folder)).arg("--out").arg(folder.path().join("tuned"));
    fails(&mut tune, 2, &["chat template `chatml`", "writes `<|im_start|>`", "`plain` needs no token"]);
    fails(
        kiln(["chat", "--device", "cpu"]).arg(&run).stdin(Stdio::null()),
        2,
        &["has no chat template", "--template plain"],
    );
}

#[test]
fn files_of_other_or_several_formats_are_refused() {
    refused(
        &[ANSWERED, r#"{"instruction": "i", "output": "o"}"#],
        "",
        &[
            "data.jsonl` line 2",
            "`alpaca`",
            "(as `messages`: has no field `messages`)",
            "data.format=messages",
        ],
    );
    refused(&[r#"{"a": 1, "b": 2}"#], "", &["data.jsonl` line 1", "its fields are `a`, `b`"]);
    refused(&[ANSWERED], "--set data.format=preference", &["`data.format`", "`sft` learns from `messages`"]);
    refused(&[ANSWERED], "--set chat.role_weights={user=-1.0}", &["`chat.role_weights`", "`user` is -1"]);
    // A preview says the same.
    let folder = folder();
    let data = file(&folder, "questions.jsonl", r#"{"question": "q", "answer": "a"}"#);
    fails(kiln(["preview"]).arg(&data), 2, &["its fields are `question`, `answer`", "hint: records have"]);
}

#[test]
fn templates_agree_with_transformers() {
    let folder = folder();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/post/chat");
    let to = folder.path().join("chat");
    fs::create_dir_all(to.join("templates")).unwrap();
    for name in ["cases.json", "tokenizer.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for entry in fs::read_dir(from.join("templates")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join("templates").join(path.file_name().unwrap())).unwrap();
    }
    let verify = || {
        let mut command = kiln(["verify", "--device", "cpu"]);
        command.arg(folder.path());
        command
    };
    assert!(ok(&mut verify()).contains("0 failures"));
    // A template that changes is found.
    fs::write(to.join("templates/turns.jinja"), "{{ messages[0].content }}").unwrap();
    fails(&mut verify(), 1, &["chat/turns"]);
}
