//! Chat templates and dialogue data: conversations become text by a model's template, and text becomes tokens
//! with the weight of each in the loss.

mod clock; // The date that a template may write.
mod source; // What is rewritten in a template before it is compiled.
mod python; // What templates need of Python: numbers, JSON, methods.
pub mod marks; // Characters that mark a part of a text while it is rendered.
pub mod conversation; // Messages, and all else that a template may see.
pub mod template; // Templates in Jinja.
pub mod builtin; // Templates by name.
pub mod encode; // Rendered text to tokens.
pub mod refusal; // Reasons why an example is not trained on.
pub mod answers; // The parts of a text that each message has written.
pub mod turn_end; // What ends an answer.
pub mod loss; // Tokens and their weights in the loss.
pub mod format; // Records of files to samples.
pub mod rows; // Samples to rows of tokens.
pub mod statistics; // Counts over rows.
pub mod fixture; // Comparison with transformers.

pub use clock::seconds_of_date;
pub use conversation::{Conversation, Message, Value};
pub use encode::{ChatTokenizer, encode_text};
pub use format::{Format, Sample, SampleKind};
pub use loss::{LossOn, Row, RowOptions, Text, Truncation};
pub use refusal::{Reason, Refusal};
pub use rows::RowMaker;
pub use statistics::{Skipped, Statistics};
pub use template::{Ending, Template};
pub use turn_end::TurnEnd;

// Names of lower crates that this one is written with.
use kiln_base::error;
use kiln_tokenizer as tokenizer;
