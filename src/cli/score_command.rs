//! Rewards by a command of the user's (`rollout.rewards`). The command reads a JSON object a line, one for each
//! answer, and writes a number a line:
//!
//! ```text
//! {"prompt": "2+2=", "answer": "4", "reference": "4", "ended": true, "tokens": 1, "record": null}
//! ```
//!
//! It is started anew for each rollout, so that whatever it does between rollouts is saved by itself, and a
//! resumed run calls it as the uninterrupted one would.

use crate::{
    error::{Error, Result, hint},
    objective::rollout::rewards::AnswerText,
};
use std::{
    io::Write,
    process::{Command, Output, Stdio},
    thread,
};

/// Runs a shell command on answers, and reads a number for each.
///
/// # Errors
/// [`Error::Rollout`] if the command cannot be started, ends with an error or writes anything else.
pub(super) fn run(command: &str, answers: &[AnswerText<'_>]) -> Result<Vec<f32>> {
    let refused = |message: String| Error::Rollout {
        step: None,
        key: "rollout.rewards".into(),
        value: command.into(),
        message,
        hint: Some(hint![
            "it reads a JSON object a line, one for each answer, and writes a number a line; ",
            hint::command("--resume"),
            " goes on from the last step"
        ]),
    };
    let mut lines = Vec::new();
    for answer in answers {
        serde_json::to_writer(&mut lines, answer).map_err(|error| refused(error.to_string()))?;
        lines.push(b'\n');
    }
    let output = output_of(command, lines).map_err(|error| refused(format!("it cannot be run: {error}")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it wrote no message");
        let code = output.status.code().map_or_else(|| "a signal".into(), |code| format!("exit code {code}"));
        return Err(refused(format!("it ended with {code}: {}", last.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let scores = text.lines().filter(|line| !line.trim().is_empty()).enumerate().map(|(number, line)| {
        line.trim().parse::<f32>().map_err(|_| refused(format!("line {} is no number: `{line}`", number + 1)))
    });
    let scores: Vec<f32> = scores.collect::<Result<_>>()?;
    match scores.len() == answers.len() {
        true => Ok(scores),
        false => Err(refused(format!("it wrote {} numbers for {} answers", scores.len(), answers.len()))),
    }
}

/// Runs a shell command on an input. A command that does not read all of its input is no error.
fn output_of(command: &str, input: Vec<u8>) -> std::io::Result<Output> {
    let mut process =
        shell(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = process.stdin.take();
    // Written by a thread, so that neither side waits for the other when a pipe is full.
    let writer = thread::spawn(move || {
        if let Some(stdin) = &mut stdin {
            let _ = stdin.write_all(&input);
        }
    });
    let output = process.wait_with_output();
    let _ = writer.join();
    output
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.args(["/C", command]);
    shell
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use serde_json::Value;

    fn scored(command: &str, count: usize) -> Result<Vec<f32>, String> {
        let answer = AnswerText {
            prompt: "1+1=",
            answer: "2",
            reference: Some("2"),
            ended: true,
            tokens: 1,
            record: &Value::Null,
            all_tokens: &[1, 2],
        };
        run(command, &vec![answer; count]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_reads_answers_and_writes_numbers() {
        assert_eq!(scored("while read -r line; do echo ${#line}; done", 2), Ok(vec![84.0, 84.0]));
        assert_eq!(scored("yes nan | head -3", 3).unwrap().len(), 3);
        // Neither side waits for the other when it writes more than a pipe holds.
        assert_eq!(scored("seq 1 20000", 20_000).unwrap().len(), 20_000);
    }

    #[test]
    fn a_command_that_fails_is_named_with_its_last_words() {
        let refused = |command: &str| scored(command, 2).unwrap_err();
        let message = refused("echo first >&2; echo last words >&2; exit 3");
        assert!(
            message.contains("exit code 3: last words") && message.contains("`rollout.rewards`"),
            "{message}"
        );
        assert!(refused("kill -9 $$").contains("ended with a signal"));
        assert!(refused("echo 1").contains("it wrote 1 numbers for 2 answers"));
        assert!(refused("echo 1; echo two").contains("line 2 is no number: `two`"));
        assert!(refused("no-such-command-anywhere").contains("exit code 127"));
    }
}
