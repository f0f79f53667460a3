//! `kiln chat MODEL`: a conversation with a model, which answers as it generates. Lines that begin with `/` are
//! commands; `/help` lists them.

mod command;
mod dialogue;
mod terminal;

use super::{
    interrupt,
    model::{ModelArguments, OpenModel, of_model},
};
use crate::{
    chat::{ChatTokenizer, Template, builtin},
    checkpoint::Checkpoint,
    config::{Config, SampleConfig},
    error::{Error, Result, hint},
    generate::{Generator, Session},
    platform::unix_seconds,
    tokenizer::Tokenizer,
};
use command::Command;
use dialogue::Dialogue;
use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
};
use terminal::{Printer, note};

#[derive(Debug, clap::Args)]
pub struct ChatArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// System prompt, which says how the model is to answer
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// File of the conversation: it goes on from there, and is saved after every answer
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Chat template instead of the model's own: chatml, llama2, llama3, zephyr, alpaca, plain, or a file in Jinja
    #[arg(long, value_name = "NAME|FILE")]
    template: Option<String>,
    /// Set a key of generation, for example temperature=0.2 (repeatable; `kiln config show` lists them under `[sample]`)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Number of tokens of an answer, if neither the model's run nor the user says how many.
const MOST_TOKENS: usize = 512;

pub(super) fn run(arguments: ChatArguments) -> anyhow::Result<()> {
    let opened = arguments.model.checkpoint()?;
    let sample = sample(&arguments, opened.0.config.as_ref())?;
    let chat = chat_tokenizer(arguments.template.as_deref(), &opened)?;
    let mut dialogue = Dialogue::open(arguments.history.as_deref())?;
    if let Some(system) = &arguments.system {
        dialogue.set_system(system);
    }
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        note(&format!("loading `{}`", opened.0.location().display()));
    }
    let OpenModel { checkpoint, device, model, .. } = arguments.model.load(opened)?;
    super::show_notes(&checkpoint.end_tokens(chat.tokenizer())?.notes);
    let generator =
        Generator { model: &model, config: &checkpoint.model, tokenizer: chat.tokenizer(), device: &device };
    let mut chatter = Chatter {
        session: Session::new(generator)?,
        chat: &chat,
        dialogue,
        stops: chat.turn_end().text.into_iter().collect(),
        sample,
        history: arguments.history,
        limit: checkpoint.model.context_limit().unwrap_or(usize::MAX),
        checkpoint: &checkpoint,
    };
    interrupt::listen_in_turns()?;
    if is_terminal {
        note("say something; /help lists the commands");
        chatter.dialogue.messages().iter().for_each(terminal::show);
    }
    for line in lines(is_terminal) {
        if !chatter.take(&line?)? {
            break;
        }
    }
    Ok(())
}

/// Lines of standard input, after a mark on standard error if a person types them.
fn lines(is_terminal: bool) -> impl Iterator<Item = Result<String>> {
    let mut lines = std::io::stdin().lock().lines();
    std::iter::from_fn(move || {
        if is_terminal {
            eprint!("> ");
            let _ = std::io::stderr().flush();
        }
        Some(lines.next()?.map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => {
                Error::InvalidText { path: "standard input".into(), message: "is not valid UTF-8".into() }
            }
            _ => Error::io("read", "standard input", e),
        }))
    })
}

/// Settings of generation: those of the model's run, changed by the arguments.
fn sample(arguments: &ChatArguments, config: Option<&Config>) -> Result<SampleConfig> {
    let own = config.map(|config| config.sample.clone());
    let mut sample =
        own.unwrap_or_else(|| SampleConfig { max_new_tokens: MOST_TOKENS, ..SampleConfig::default() });
    for setting in &arguments.set {
        command::set(&mut sample, setting, "--set")?;
    }
    Ok(sample)
}

/// The model's tokenizer with a chat template. What ends a turn ends generation.
fn chat_tokenizer(named: Option<&str>, opened: &(Checkpoint, Tokenizer)) -> Result<ChatTokenizer> {
    let (checkpoint, tokenizer) = opened;
    let now = unix_seconds() as i64;
    let template = match (named, tokenizer.chat_template()) {
        (Some(name), _) => builtin::open(name, now)?,
        (None, Some(source)) => Template::new(source, &format!("of `{}`", checkpoint.path().display()), now)?,
        (None, None) => {
            return Err(Error::InvalidValue {
                key: "--template".into(),
                value: String::new(),
                message: format!("the model in `{}` has no chat template", checkpoint.path().display()),
                hint: Some(hint![
                    "name the one that it was trained with, for example with ",
                    hint::command("--template plain"),
                    "; ",
                    hint::command("kiln generate"),
                    " continues text"
                ]),
            });
        }
    };
    let chat = ChatTokenizer::new(template, tokenizer.clone());
    match named {
        Some(_) => chat
            .check_tokens()
            .map_err(|error| of_template(error, "name one whose tokens the model has with "))?,
        None => super::show_notes(&chat.warnings()),
    }
    let mut ends = tokenizer.end_tokens().to_vec();
    ends.extend(chat.turn_end().token.filter(|token| !ends.contains(token)));
    let ending = tokenizer.clone().with_end_tokens(tokenizer.end_of_text(), &ends);
    Ok(ChatTokenizer::new(chat.template().clone(), ending))
}

/// An error of a template with advice for this command, which takes another template by an option of its own.
fn of_template(error: Error, advice: &'static str) -> Error {
    match error {
        Error::ChatTemplate { origin, message, hint: Some(_) } => {
            let hint = Some(hint![advice, hint::command("--template NAME")]);
            Error::ChatTemplate { origin, message, hint }
        }
        other => other,
    }
}

/// A conversation with a model.
struct Chatter<'a> {
    session: Session<'a>,
    chat: &'a ChatTokenizer,
    dialogue: Dialogue,
    /// Texts that end an answer, if no token does.
    stops: Vec<String>,
    sample: SampleConfig,
    history: Option<PathBuf>,
    /// Length of the context in tokens.
    limit: usize,
    checkpoint: &'a Checkpoint,
}

impl Chatter<'_> {
    /// Takes a line; false if the conversation ends. A mistake in a command is said and ends nothing.
    fn take(&mut self, line: &str) -> anyhow::Result<bool> {
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(error) => {
                terminal::complain(&error);
                return Ok(true);
            }
        };
        match command {
            Command::Nothing => {}
            Command::Quit => return Ok(false),
            Command::Help => note(command::HELP),
            Command::Say(text) => {
                self.dialogue.ask(&text);
                self.answer(false)?;
            }
            Command::Retry => match self.dialogue.take_back_answer() {
                true => self.answer(false)?,
                false => note("there is no question to answer"),
            },
            Command::Continue => match self.dialogue.ends_with_answer() {
                true => self.answer(true)?,
                false => note("there is no answer to go on with"),
            },
            Command::Undo => {
                match self.dialogue.undo() {
                    true => note("the last question and its answer are gone"),
                    false => note("there is nothing to take back"),
                }
                self.save()?;
            }
            Command::Reset => {
                self.dialogue.reset();
                note("the conversation begins anew");
                self.save()?;
            }
            Command::System(text) => {
                self.dialogue.set_system(&text);
                self.save()?;
            }
            Command::Save(path) => match path.or_else(|| self.history.clone()) {
                None => note("name a file: /save FILE"),
                Some(path) => match self.dialogue.save(&path) {
                    Ok(()) => note(&format!("saved as `{}`", path.display())),
                    Err(error) => terminal::complain(&error),
                },
            },
            Command::Set(None) => note(&command::settings(&self.sample)),
            Command::Set(Some(setting)) => {
                if let Err(error) = command::set(&mut self.sample, &setting, "/set") {
                    terminal::complain(&error);
                }
            }
        }
        Ok(true)
    }

    /// Generates an answer, or goes on with the last one, and shows it. A conversation that the template refuses
    /// is said, and its last question taken back.
    fn answer(&mut self, goes_on: bool) -> anyhow::Result<()> {
        let prompt = match self.dialogue.prompt(self.chat, self.limit, self.sample.max_new_tokens, goes_on) {
            Ok(prompt) => prompt,
            Err(error) => {
                let advice = "change the conversation (/help says how), or begin with another template: ";
                terminal::complain(&of_template(error, advice));
                if !goes_on {
                    self.dialogue.undo();
                }
                return Ok(());
            }
        };
        prompt.notes.iter().for_each(|text| note(text));
        let mut sample = self.sample.clone();
        sample.stop.extend(self.stops.iter().cloned());
        let mut printer = Printer::new(std::io::stdout().lock());
        let mut on_text = |text: &str| printer.print(text);
        interrupt::begin_turn();
        let generated = self.session.generate(prompt.tokens, &sample, &mut on_text, &interrupt::asked);
        let generated = pollster::block_on(generated);
        interrupt::end_turn();
        // An error begins a line of its own.
        printer.end()?;
        let generated = generated.map_err(of_model(self.checkpoint))?;
        self.dialogue.add_answer(&generated.text, goes_on);
        if generated.reason == crate::generate::StopReason::Length {
            note(&format!("the answer was cut at {} tokens; /continue goes on", generated.tokens));
        }
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        match &self.history {
            Some(path) => Ok(self.dialogue.save(path)?),
            None => Ok(()),
        }
    }
}
