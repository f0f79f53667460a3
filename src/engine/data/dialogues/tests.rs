use super::*;
use crate::{
    config::{Layout, Order},
    data::{Dataset, IGNORE_INDEX, Loader, RowLayout, evaluation_batches},
    platform::storage,
};
use std::{path::PathBuf, sync::Arc};
use tempfile::TempDir;

const TALK: &str = r#"{"messages": [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "1"}]}
{"messages": [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "2"}]}
{"messages": [{"role": "user", "content": "three?"}, {"role": "assistant", "content": "3"}]}
"#;

const PAIRS: &str = r#"[
{"prompt": "a", "chosen": "good", "rejected": "bad", "margin": 0.5},
{"prompt": "b", "chosen": "yes", "rejected": "no"},
{"prompt": "c", "chosen": "up", "rejected": "down"}
]"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        storage::write_synced(&folder.path().join(name), text.as_bytes()).unwrap();
    }
    folder
}

fn config(paths: &[PathBuf], overrides: &[&str]) -> Config {
    let mut config = Config::default();
    let usual = ["objective.kind=sft", "tokenizer.kind=byte", "model.block_size=64", "data.val_fraction=0"];
    let overrides: Vec<String> = usual.iter().chain(overrides).map(|&text| text.to_owned()).collect();
    config.apply(&overrides).unwrap();
    config.data.paths = paths.to_vec();
    config
}

/// Prepares one file.
fn prepared(name: &str, text: &str, kind: SampleKind, overrides: &[&str]) -> Result<Dialogues> {
    let folder = folder(&[(name, text)]);
    let config = config(&[folder.path().join(name)], overrides);
    Ok(Dialogues::prepare_as(&config, kind, None)?.expect("text"))
}

fn refusal(name: &str, text: &str, kind: SampleKind, overrides: &[&str]) -> (String, String) {
    let error = prepared(name, text, kind, overrides).unwrap_err();
    let message = error.to_string();
    let place = message.find(name).map_or(0, |at| at + name.len());
    assert!(error.is_user_error());
    (message[place..].to_owned(), error.hint().map_or_else(String::new, |hint| hint.to_string()))
}

/// Trained tokens of each row as text.
fn trained(dialogues: &Dialogues) -> Vec<String> {
    let split = &dialogues.train.split;
    let Labels::Dialogues(labels) = split.labels() else { panic!("{:?}", split.labels()) };
    let row = |index| {
        let range = split.document(index);
        let tokens = split.read(range.clone()).into_iter().zip(&labels.weights[range]);
        let tokens: Vec<u32> = tokens.filter(|(_, w)| **w > 0.0).map(|(token, _)| token as u32).collect();
        dialogues.tokenizer.decode(&tokens).unwrap()
    };
    (0..split.document_count()).map(row).collect()
}

#[test]
fn answers_are_trained_by_the_template_that_comes_with_the_tokenizer() {
    let dialogues = prepared("talk.jsonl", TALK, SampleKind::Conversations, &[]).unwrap();
    assert_eq!(trained(&dialogues), ["1<|im_end|>", "2<|im_end|>", "3<|im_end|>"]);
    assert_eq!(dialogues.train.places, [(0, 1), (0, 2), (0, 3)]);
    assert!(dialogues.tokenizer.chat_template().unwrap().contains("<|im_start|>"));
    let end = dialogues.tokenizer.token_id("<|im_end|>").unwrap();
    assert!(dialogues.tokenizer.end_tokens().contains(&end));
    let notes = dialogues.notes();
    assert!(
        notes[0].ends_with("talk.jsonl`: 3 examples of the format `messages`, told by its records"),
        "{notes:?}"
    );
    assert_eq!(notes[1], "messages are rendered by the chat template `chatml`");
    assert!(notes[2].starts_with("train split: 3 rows, "), "{notes:?}");
    assert!(
        notes[2].contains("% of them masked") && notes[2].ends_with("none is truncated at 65"),
        "{notes:?}"
    );
}

#[test]
fn a_model_s_own_template_is_used_and_named_ones_count_before_it() {
    let folder = folder(&[("talk.jsonl", TALK)]);
    let own = "> {% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}.{% endgeneration %}{% endif %}{% endfor %}";
    let bare = Tokenizer::train(&config(&[], &[]).tokenizer, &["<|endoftext|>".into()], [""]).unwrap();
    let prepare = |tokenizer: &Tokenizer, overrides: &[&str]| {
        let config = config(&[folder.path().join("talk.jsonl")], overrides);
        Dialogues::prepare(&config, Some(tokenizer)).map(Option::unwrap)
    };
    let given = prepare(&bare.clone().with_chat_template(own), &[]).unwrap();
    assert_eq!((trained(&given)[0].as_str(), given.tokenizer.chat_template()), ("1.", Some(own)));
    let named = prepare(&bare.clone().with_chat_template(own), &["chat.template=plain"]).unwrap();
    assert_eq!(trained(&named)[0], "1<|endoftext|>");
    assert!(given.warnings.is_empty(), "{:?}", given.warnings);
    let lacking =
        prepare(&bare.clone().with_chat_template(format!("{own}{{{{ '<|end|>' }}}}")), &[]).unwrap();
    let note = "chat template of the model: writes `<|end|>`, but the tokenizer has no such token, so that";
    assert!(lacking.notes().iter().any(|found| found.starts_with(note)), "{:?}", lacking.notes());
    let error = prepare(&bare, &[]).unwrap_err();
    assert!(error.to_string().contains("`chat.template`: the model has no chat template"), "{error}");
    let error = prepare(&bare, &["chat.template=chatml"]).unwrap_err();
    assert!(
        error.to_string().contains("writes `<|im_start|>`, but the tokenizer has no such token"),
        "{error}"
    );
}

#[test]
fn a_tokenizer_that_is_made_gets_the_tokens_of_a_template_in_a_file() {
    let source = "{% for m in messages %}<|{{ m.role }}|>{% generation %}{{ m.content }}<|done|>{% endgeneration %}{% endfor %}";
    let folder = folder(&[("talk.jsonl", TALK), ("own.jinja", source)]);
    let template = format!("chat.template={}", folder.path().join("own.jinja").display());
    let dialogues =
        Dialogues::prepare(&config(&[folder.path().join("talk.jsonl")], &[&template]), None).unwrap();
    let tokenizer = dialogues.unwrap().tokenizer;
    assert!(tokenizer.token_id("<|done|>").is_some() && tokenizer.token_id("<|user|>").is_none());
}

#[test]
fn files_are_refused_with_their_name_line_and_fields() {
    let kind = SampleKind::Conversations;
    let (message, hint) = refusal("a.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}\n", kind, &[]);
    assert_eq!(message, "` line 1: has no field of a dialogue; its fields are `question`, `answer`");
    assert!(hint.starts_with("records have `messages`"), "{hint}");
    let mixed = format!("{TALK}{{\"instruction\": \"i\", \"output\": \"o\"}}\n");
    let (message, hint) = refusal("a.jsonl", &mixed, kind, &[]);
    assert_eq!(
        message,
        "` line 4: is of the format `alpaca`, but those before it of `messages` (as `messages`: has no field `messages`)"
    );
    assert!(hint.contains("--set data.format=messages"), "{hint}");
    let labels = r#"{"prompt": "p", "completion": "c", "label": true}
{"prompt": "p", "completion": "c", "label": "false"}"#;
    let (message, _) = refusal("a.jsonl", labels, SampleKind::Labelled, &[]);
    assert!(
        message.ends_with("(as `labelled`: has a field `label` that is neither true nor false)"),
        "{message}"
    );
    let (message, _) = refusal("a.jsonl", TALK, SampleKind::Pairs, &[]);
    assert!(message.contains("is of the format `messages`, from which `sft` does not learn"), "{message}");
    let (message, _) = refusal("a.json", "[{\"messages\": []}", kind, &[]);
    assert_eq!(message, "` line 1: ends before its array does");
    let (message, _) = refusal("a.txt", "plain text", SampleKind::Pairs, &[]);
    assert!(message.starts_with("` for `data.paths`: it has no dialogues, but `sft` learns"), "{message}");
}

#[test]
fn bad_rows_are_errors_that_are_counted_or_skips_that_are_named() {
    let bad = format!(
        "{TALK}{}\n{}\n{}\n",
        r#"{"messages": [{"role": "user", "content": "q"}]}"#,
        r#"{"messages": [{"role": "critic", "content": "q"}, {"role": "assistant", "content": "a"}]}"#,
        r#"{"messages": [{"role": "user"}]}"#,
    );
    let (message, hint) = refusal("a.jsonl", &bad, SampleKind::Conversations, &[]);
    assert_eq!(
        message,
        "` line 6: message 1 of `messages` has no `content` (of 6 examples that are read, 1 with a field that is \
         missing or of the wrong type, 1 with a role that is unknown, 1 without an answer to train on)"
    );
    assert!(hint.contains("--set chat.on_bad_row=skip"), "{hint}");
    let skipped = prepared("a.jsonl", &bad, SampleKind::Conversations, &["chat.on_bad_row=skip"]).unwrap();
    assert_eq!((skipped.train.statistics.rows, skipped.skipped.count()), (3, 3));
    let note = skipped.notes().pop().unwrap();
    assert!(note.starts_with("3 of 6 examples are left out: 1 with a field"), "{note}");
    assert!(note.contains("line 4: has no message of the role `assistant`"), "{note}");
    let all_bad = r#"{"messages": [{"role": "user", "content": "q"}]}"#;
    let error =
        prepared("a.jsonl", all_bad, SampleKind::Conversations, &["chat.on_bad_row=skip"]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(
            "there is no example that can be trained on; 1 of 1 examples are left out: 1 without an answer"
        ) && text.contains("a.jsonl` line 1: has no message of the role `assistant`"),
        "{text}"
    );
}

#[test]
fn the_format_is_that_of_most_records_where_bad_rows_are_skipped() {
    let unknown = r#"{"question": "q", "answer": "a"}"#;
    let other = r#"{"instruction": "i", "output": "o"}"#;
    for (bad, count) in
        [(unknown.to_owned(), 1), (other.to_owned(), 1), (format!("{unknown}\n{other}\n[1]"), 3)]
    {
        for text in [format!("{bad}\n{TALK}"), format!("{TALK}{bad}\n")] {
            let read = |more: &str| prepared("a.jsonl", &text, SampleKind::Conversations, &[more]);
            let skipped = read("chat.on_bad_row=skip").unwrap();
            assert_eq!(skipped.files[0].format, Format::Messages);
            assert_eq!((skipped.train.statistics.rows, skipped.skipped.count()), (3, count));
            assert!(read("chat.on_bad_row=error").is_err());
        }
    }
    // Without a record of any format there is nothing to skip to.
    let (message, _) = refusal("a.jsonl", unknown, SampleKind::Conversations, &["chat.on_bad_row=skip"]);
    assert_eq!(message, "` line 1: has no field of a dialogue; its fields are `question`, `answer`");
}

#[test]
fn records_of_text_are_text() {
    let folder = folder(&[("a.jsonl", "{\"text\": \"one=1\"}\n{\"text\": \"two=2\"}\n")]);
    let path = [folder.path().join("a.jsonl")];
    assert!(Dialogues::prepare(&config(&path, &[]), None).unwrap().is_none());
    assert!(Dialogues::prepare(&config(&path, &["objective.kind=causal-lm"]), None).unwrap().is_none());
    assert!(Dialogues::prepare(&config(&[], &[]), None).unwrap().is_none());
    assert_eq!(kind_of(&config(&path, &[])).unwrap(), None);
    // A file that is said to hold dialogues is read as such.
    let error = Dialogues::prepare(&config(&path, &["data.format=messages"]), None).unwrap_err();
    assert!(error.to_string().contains("line 1: has no field `messages`"), "{error}");
}

#[test]
fn a_folder_may_bring_its_own_validation_split() {
    let val = TALK.lines().next().unwrap();
    let folder = folder(&[("train-0.jsonl", TALK), ("validation.jsonl", val), ("notes.md", "x")]);
    let dataset =
        Dataset::prepare(&config(&[folder.path().into()], &["data.val_fraction=0.5"]), None).unwrap();
    assert_eq!((dataset.train.document_count(), dataset.val.document_count()), (3, 1));
    let folder = self::folder(&[("a.jsonl", TALK)]);
    let dataset =
        Dataset::prepare(&config(&[folder.path().into()], &["data.val_fraction=0.3"]), None).unwrap();
    assert_eq!((dataset.train.document_count(), dataset.val.document_count()), (2, 1));
    assert!(
        dataset.notes.iter().any(|note| note.starts_with("validation split: 1 rows")),
        "{:?}",
        dataset.notes
    );
}

#[test]
fn rows_have_the_weights_of_their_targets_packed_or_not() {
    let folder = folder(&[("a.jsonl", TALK)]);
    let roles = "chat.role_weights={ assistant = 1.0, user = 0.25 }";
    let config = config(&[folder.path().into()], &[roles, "model.block_size=128"]);
    let dataset = Dataset::prepare(&config, None).unwrap();
    for packing in [false, true] {
        let layout = RowLayout { packing, ..RowLayout::of(&config, &dataset.tokenizer).unwrap() };
        let loader = Loader::new(dataset.train.clone(), layout, Order::Shuffled, 1, 5).unwrap();
        let batches: Vec<_> = (0..if packing { 2 } else { 3 }).map(|step| loader.rows(step, 0..1)).collect();
        let mut targets = Vec::new();
        for batch in &batches {
            assert_eq!(batch.documents.is_empty(), !packing);
            for ((input, target), weight) in batch.inputs.iter().zip(&batch.targets).zip(&batch.weights) {
                assert_eq!(*target == IGNORE_INDEX, *weight == 0.0, "{input}");
                if *weight != 0.0 {
                    targets.push((*target as u32, *weight));
                }
            }
        }
        let text = |weight: f32| {
            let tokens: Vec<u32> =
                targets.iter().filter(|(_, own)| *own == weight).map(|(token, _)| *token).collect();
            dataset.tokenizer.decode(&tokens).unwrap()
        };
        let (questions, answers) = (text(0.25), text(1.0));
        assert!(
            ["one?", "two?", "three?"].iter().all(|question| questions.contains(question)),
            "{questions}"
        );
        assert!(
            ["1<|im_end|>", "2<|im_end|>", "3<|im_end|>"].iter().all(|answer| answers.contains(answer)),
            "{answers}"
        );
    }
}

#[test]
fn pairs_are_adjacent_rows_in_any_grouping() {
    let dialogues = prepared("pairs.json", PAIRS, SampleKind::Pairs, &[]).unwrap();
    assert!(dialogues.template.is_none());
    assert_eq!(trained(&dialogues)[..2], ["good<|endoftext|>", "bad<|endoftext|>"]);
    let split = Arc::new(dialogues.train.split);
    assert_eq!((split.rows_per_example(), split.document_count()), (2, 6));
    let loader =
        Loader::new(split.clone(), RowLayout::causal(Layout::Documents, 64), Order::Shuffled, 3, 1).unwrap();
    let batch = loader.rows(0, 0..3);
    assert_eq!((batch.rows, batch.rows_per_example, loader.epoch(1)), (6, 2, 1.0));
    let parts = [loader.rows(0, 0..1), loader.rows(0, 1..3)];
    assert_eq!(parts.iter().map(|part| part.rows).sum::<usize>(), 6);
    let firsts = |batch: &crate::data::HostBatch| {
        batch.inputs.chunks(batch.time).map(|row| row[1]).collect::<Vec<_>>()
    };
    assert_eq!(parts.iter().flat_map(firsts).collect::<Vec<_>>(), firsts(&batch));
    // Each pair has the same prompt; the margin is in the preferred row.
    for (pair, values) in batch.inputs.chunks(2 * batch.time).zip(batch.values.chunks(2)) {
        assert_eq!(pair[0], pair[batch.time]);
        assert_eq!(values, if pair[0] == i32::from(b'a') { [0.5, 0.0] } else { [0.0, 0.0] });
    }
    let batches: Vec<_> = evaluation_batches(split, RowLayout::causal(Layout::Documents, 64), 2, 0).collect();
    assert_eq!(
        batches.iter().map(|batch| (batch.rows, batch.rows_with_targets())).collect::<Vec<_>>(),
        [(4, 4), (4, 2)]
    );
    assert!(batches.iter().all(|batch| batch.rows_per_example == 2));
}

#[test]
fn labels_of_answers_are_values_of_their_rows() {
    let text = r#"{"prompt": "q", "completion": "a", "label": true}
{"prompt": "q", "completion": "b", "label": false}"#;
    let dialogues = prepared("kto.jsonl", text, SampleKind::Labelled, &[]).unwrap();
    let split = Arc::new(dialogues.train.split);
    let batch = evaluation_batches(split, RowLayout::causal(Layout::Documents, 64), 4, 0).next().unwrap();
    assert_eq!((batch.rows, batch.rows_per_example, &batch.values[..]), (2, 1, &[1.0, 0.0][..]));
    let pairs = prepared("pairs.json", PAIRS, SampleKind::Labelled, &[]).unwrap();
    let Labels::Dialogues(labels) = pairs.train.split.labels() else { panic!() };
    assert_eq!((&labels.values[..], labels.rows_per_example), (&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0][..], 1));
}

#[test]
fn prompts_keep_their_records() {
    let text = r#"{"prompt": "2+2=", "answer": "4"}
{"prompt": "3+3=", "answer": "6"}"#;
    let dialogues = prepared("sums.jsonl", text, SampleKind::Prompts, &[]).unwrap();
    let split = Arc::new(dialogues.train.split);
    let loader =
        Loader::new(split.clone(), RowLayout::causal(Layout::Documents, 64), Order::Shuffled, 2, 1).unwrap();
    let batch = loader.rows(0, 0..2);
    assert_eq!((batch.lengths.as_slice(), batch.target_tokens), (&[4, 4][..], 0));
    for row in 0..2 {
        let tokens: Vec<u32> =
            batch.inputs[row * batch.time..][..4].iter().map(|&token| token as u32).collect();
        let record = split.record(batch.records[row]);
        assert_eq!(record["prompt"], dialogues.tokenizer.decode(&tokens).unwrap().as_str());
    }
    assert!(split.record(9).is_null());
}

#[test]
fn fingerprints_follow_what_is_trained() {
    let print = |overrides: &[&str]| {
        let folder = folder(&[("a.jsonl", TALK)]);
        Dataset::prepare(&config(&[folder.path().into()], overrides), None).unwrap().fingerprint
    };
    assert_eq!(print(&[]), print(&[]));
    assert_ne!(print(&[]), print(&["chat.loss_on=all"]));
    // The date that a template could write is fixed.
    assert_eq!(print(&["chat.date=2020-02-02"]), print(&[]));
}

#[test]
fn characters_of_the_template_are_in_a_tokenizer_of_characters() {
    let overrides = ["tokenizer.kind=char", "chat.template=plain"];
    let dialogues = prepared("talk.jsonl", TALK, SampleKind::Conversations, &overrides).unwrap();
    assert_eq!(trained(&dialogues)[0], "1<|endoftext|>");
    let overrides = ["tokenizer.kind=char"];
    let dialogues = prepared("talk.jsonl", TALK, SampleKind::Conversations, &overrides).unwrap();
    assert_eq!(trained(&dialogues)[0], "1<|im_end|>");
}

#[test]
fn rows_of_tables_are_records() {
    let table = "instruction,input,output\nAdd,1+1,2\n\"Say \"\"a\"\"\",,a\n";
    let dialogues = prepared("talk.csv", table, SampleKind::Conversations, &[]).unwrap();
    assert_eq!(dialogues.files[0].format, Format::Alpaca);
    assert_eq!(trained(&dialogues), ["2<|im_end|>", "a<|im_end|>"]);
    assert_eq!(dialogues.train.places, [(0, 2), (0, 3)]);
    let labelled = "prompt\tcompletion\tlabel\nq\ta\tTrue\nq\tb\t0\n";
    let dialogues = prepared("answers.tsv", labelled, SampleKind::Labelled, &[]).unwrap();
    let Labels::Dialogues(labels) = dialogues.train.split.labels() else { panic!("no labels") };
    assert_eq!(labels.values[..], [1.0, 0.0]);
    let (message, _) = refusal("other.csv", "id,body\n1,x\n", SampleKind::Conversations, &[]);
    assert_eq!(message, "` line 2: has no field of a dialogue; its fields are `id`, `body`");
    let (message, hint) = refusal("talk.parquet", "PAR1 and more", SampleKind::Conversations, &[]);
    assert_eq!(message, "` is a Parquet file");
    assert!(hint.contains("read_parquet('FILE')"), "{hint}");
}
