use super::*;
use crate::refusal::Reason;

fn record(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn sample(json: &str, kind: SampleKind) -> Sample {
    let record = record(json);
    let mut samples = read(&record, detect(&record).unwrap(), kind).unwrap();
    assert_eq!(samples.len(), 1);
    samples.remove(0)
}

fn refusal(json: &str, format: Format, kind: SampleKind) -> (Reason, String) {
    let refusal = read(&record(json), format, kind).unwrap_err();
    (refusal.reason, refusal.message)
}

/// Texts as they are, messages as `role: content`.
fn shown(text: &Text) -> Vec<String> {
    match text {
        Text::Plain(text) => vec![text.clone()],
        Text::Messages(messages) => {
            let shown = |m: &Message| format!("{}: {}", m.role(), m.text().unwrap_or("-"));
            messages.iter().map(shown).collect()
        }
    }
}

#[test]
fn formats_are_told_by_their_fields() {
    for (json, format) in [
        (r#"{"messages": []}"#, Some(Format::Messages)),
        (r#"{"messages": [], "label": true}"#, Some(Format::Labelled)),
        (r#"{"messages": [], "score": 0.5}"#, Some(Format::Scored)),
        (r#"{"messages": [], "label": "spam"}"#, Some(Format::Messages)),
        (r#"{"conversations": [], "tools": "[]"}"#, Some(Format::Sharegpt)),
        (r#"{"instruction": "", "input": "", "output": ""}"#, Some(Format::Alpaca)),
        (r#"{"prompt": "", "completion": ""}"#, Some(Format::PromptCompletion)),
        (r#"{"prompt": "", "completion": "", "label": 0}"#, Some(Format::Labelled)),
        (r#"{"conversations": [], "chosen": {}, "rejected": {}}"#, Some(Format::Preference)),
        (r#"{"prompt": "", "answer": "7"}"#, Some(Format::Prompts)),
        (r#"{"text": "", "label": 1}"#, Some(Format::Text)),
        (r#"{"text": null}"#, None),
        (r#"[1]"#, None),
    ] {
        assert_eq!(detect(&record(json)), format, "{json}");
    }
    assert_eq!(
        Format::ALL.map(|format| serde_json::to_value(format).unwrap()),
        Format::ALL.map(Format::name)
    );
}

#[test]
fn conversations_are_read_in_the_words_of_each_format() {
    let kind = SampleKind::Conversations;
    let answer = |json: &str| shown(&sample(json, kind).answers[0]);
    assert_eq!(
        answer(
            r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "system": "s"}"#
        ),
        ["system: s", "user: q", "assistant: a"]
    );
    assert_eq!(
        answer(
            r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}, {"from": "observation", "value": "o"}]}"#
        ),
        ["user: q", "assistant: a", "tool: o"]
    );
    let weighted =
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "weight": 0}]}"#;
    let Text::Messages(messages) = &sample(weighted, kind).answers[0] else { panic!("messages") };
    assert_eq!([messages[0].weight(), messages[1].weight()], [1.0, 0.0]);
    let alpaca = sample(
        r#"{"instruction": "i", "input": "x", "output": "o", "system": "s", "history": [["q", "a"]]}"#,
        kind,
    );
    assert_eq!(shown(&alpaca.prompt), ["system: s", "user: q", "assistant: a", "user: i\n\nx"]);
    assert_eq!(shown(&alpaca.answers[0]), ["assistant: o"]);
    assert!(alpaca.needs_template());
    let plain = sample(r#"{"prompt": "2+2=", "completion": "4"}"#, kind);
    assert_eq!((shown(&plain.prompt), shown(&plain.answers[0])), (vec!["2+2=".into()], vec!["4".into()]));
    assert!(!plain.needs_template());
}

#[test]
fn tools_are_objects_however_they_are_written() {
    let json = r#"{"conversations": [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": 2}}"}],
        "tools": "[{\"name\": \"f\"}]", "chat_template_kwargs": {"enable_thinking": false}}"#;
    let found = sample(json, SampleKind::Conversations);
    assert_eq!(found.context.tools.unwrap().to_string(), "[{'name': 'f'}]");
    assert_eq!(found.context.variables[0].0, "enable_thinking");
    let Text::Messages(messages) = &found.answers[0] else { panic!("{:?}", found.answers) };
    let calls = "[{'type': 'function', 'function': {'name': 'f', 'arguments': {'z': 1, 'a': 2}}}]";
    assert_eq!(messages[1].get("tool_calls").unwrap().to_string(), calls);

    let json = r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [
        {"id": "1", "function": {"name": "f", "arguments": "{\"b\": 1}"}}]}], "tools": []}"#;
    let found = sample(json, SampleKind::Conversations);
    assert!(found.context.tools.is_none());
    let Text::Messages(messages) = &found.answers[0] else { panic!("{:?}", found.answers) };
    let calls = "[{'id': '1', 'function': {'name': 'f', 'arguments': {'b': 1}}}]";
    assert_eq!(messages[0].get("tool_calls").unwrap().to_string(), calls);
    assert_eq!(messages[0].text(), None);
}

#[test]
fn pairs_have_a_prompt_of_their_own_or_a_common_beginning() {
    let pair = |json: &str| {
        let found = sample(json, SampleKind::Pairs);
        (shown(&found.prompt), found.answers.iter().map(shown).collect::<Vec<_>>(), found.value)
    };
    let expected = (
        vec!["user: q".to_owned()],
        vec![vec!["assistant: a".to_owned()], vec!["assistant: b".to_owned()]],
        None,
    );
    for json in [
        r#"{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#,
        r#"{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
        r#"{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#,
    ] {
        assert_eq!(pair(json), expected, "{json}");
    }
    let (prompt, answers, margin) =
        pair(r#"{"chosen": "H: q\n\nA: the cat", "rejected": "H: q\n\nA: the cow", "margin": 0.5}"#);
    assert_eq!(prompt, ["H: q\n\nA: the"]);
    assert_eq!((answers[0][0].as_str(), answers[1][0].as_str(), margin), (" cat", " cow", Some(0.5)));
    let (prompt, answers, _) = pair(
        r#"{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
    );
    assert_eq!((prompt, answers), (vec!["q".to_owned()], expected.1));
}

#[test]
fn chosen_equal_to_rejected_is_refused() {
    let json = r#"{"prompt": "q", "chosen": "a", "rejected": "a"}"#;
    let (reason, message) = refusal(json, Format::Preference, SampleKind::Pairs);
    assert_eq!(
        (reason, message.as_str()),
        (Reason::EqualAnswers, "has a `chosen` that is equal to its `rejected`")
    );
}

#[test]
fn labels_and_scores_belong_to_the_last_answer() {
    let json = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": false}"#;
    let found = sample(json, SampleKind::Labelled);
    assert_eq!(
        (shown(&found.prompt), shown(&found.answers[0]), found.value),
        (vec!["user: q".into()], vec!["assistant: a".into()], Some(0.0))
    );
    let scored = sample(r#"{"prompt": "q", "completion": "a", "score": -1.5}"#, SampleKind::Rewards);
    assert_eq!(scored.value, Some(-1.5));
    // The answers of a pair are one desirable and one not.
    let pair = record(r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#);
    let both = read(&pair, Format::Preference, SampleKind::Labelled).unwrap();
    let values: Vec<_> =
        both.iter().map(|sample| (shown(&sample.answers[0])[0].clone(), sample.value)).collect();
    assert_eq!(values, [("a".to_owned(), Some(1.0)), ("b".to_owned(), Some(0.0))]);
}

#[test]
fn prompts_are_without_the_last_answer() {
    let prompt = |json: &str| {
        let found = sample(json, SampleKind::Prompts);
        (shown(&found.prompt), found.answers.first().map(shown))
    };
    let user = vec!["user: q".to_owned()];
    let answer = Some(vec!["assistant: a".to_owned()]);
    assert_eq!(prompt(r#"{"prompt": "q", "answer": "7"}"#), (vec!["q".into()], None));
    assert_eq!(prompt(r#"{"messages": [{"role": "user", "content": "q"}]}"#), (user.clone(), None));
    assert_eq!(
        prompt(r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#),
        (user.clone(), answer.clone())
    );
    assert_eq!(prompt(r#"{"instruction": "q", "output": "a"}"#), (user, answer));
}

#[test]
fn refusals_name_the_field_and_the_message() {
    let kind = SampleKind::Conversations;
    let message = |json: &str, format| refusal(json, format, kind).1;
    assert_eq!(message("{}", Format::Messages), "has no field `messages`");
    assert_eq!(message("[]", Format::Messages), "is not a JSON object");
    assert_eq!(
        message(r#"{"messages": "x"}"#, Format::Messages),
        "has a field `messages` that is not a list of messages"
    );
    assert_eq!(message(r#"{"messages": []}"#, Format::Messages), "has a field `messages` without a message");
    let second = |second: &str| {
        message(
            &format!(r#"{{"messages": [{{"role": "user", "content": "q"}}, {second}]}}"#),
            Format::Messages,
        )
    };
    assert_eq!(second("3"), "message 2 of `messages` is not an object");
    assert_eq!(second(r#"{"content": "x"}"#), "message 2 of `messages` has no `role`");
    assert_eq!(second(r#"{"role": "user"}"#), "message 2 of `messages` has no `content`");
    assert_eq!(
        second(r#"{"role": "user", "content": 3}"#),
        "message 2 of `messages` has a `content` that is not a text"
    );
    for weight in ["-1", "\"0\"", "true", "1e99"] {
        assert_eq!(
            second(&format!(r#"{{"role": "assistant", "content": "a", "weight": {weight}}}"#)),
            "message 2 of `messages` has a `weight` that is neither 0 nor a positive number"
        );
    }
    assert_eq!(
        second(r#"{"role": "user", "content": [{"type": "image"}]}"#),
        "message 2 of `messages` has a part of the type `image`, but only parts of text are read"
    );
    assert_eq!(
        refusal(r#"{"conversations": [{"from": "narrator", "value": "x"}]}"#, Format::Sharegpt, kind),
        (Reason::UnknownRole, "message 1 of `conversations` is from `narrator`, which is unknown".into())
    );
    assert_eq!(message(r#"{"instruction": "i"}"#, Format::Alpaca), "has no field `output`");
    assert_eq!(
        message(r#"{"prompt": "p", "completion": 1}"#, Format::PromptCompletion),
        "has a field `completion` that is not a list of messages"
    );
    assert_eq!(
        message(r#"{"messages": [{"role": "user", "content": "q"}], "tools": "x"}"#, Format::Messages)
            .split(':')
            .next()
            .unwrap(),
        "has a field `tools` whose text is not JSON"
    );
    let label =
        refusal(r#"{"prompt": "p", "completion": "c", "label": 2}"#, Format::Labelled, SampleKind::Labelled);
    assert_eq!(label.1, "has a field `label` that is neither true nor false");
    let score =
        refusal(r#"{"prompt": "p", "completion": "c", "score": "x"}"#, Format::Scored, SampleKind::Rewards);
    assert_eq!(score.1, "has a field `score` that is not a finite number");
}
