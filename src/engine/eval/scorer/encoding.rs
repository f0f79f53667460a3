//! Tokens of contexts and continuations.

use crate::{
    error::{Error, Result},
    generate::start_token,
    tokenizer::Tokenizer,
};

/// Tokens of a context, and those that follow it.
pub(super) type Pair = (Vec<u32>, Vec<u32>);

/// Encodes a context and its continuation. White space at the end of the context belongs to the continuation.
/// If the model reads both as one text (`is_joint`), they are encoded together, and the tokens after the
/// context's own number of tokens are those of the continuation.
///
/// # Errors
/// [`Error::Tokenizer`].
pub(super) fn pair(tokenizer: &Tokenizer, context: &str, continuation: &str, is_joint: bool) -> Result<Pair> {
    let stripped = context.trim_end_matches(is_space);
    let continuation = format!("{}{continuation}", &context[stripped.len()..]);
    if stripped.is_empty() {
        let (prefix, mut tokens) = (prefix_token(tokenizer), tokenizer.encode(&continuation)?);
        // A continuation that begins with this token has its context already.
        if tokens.len() > 1 && tokens.first() == Some(&prefix) {
            tokens.remove(0);
        }
        return Ok((vec![prefix], tokens));
    }
    if !is_joint {
        let mut tokens = tokenizer.encode(stripped)?;
        tokens.extend(tokenizer.end_of_text());
        return Ok((tokens, tokenizer.encode(&continuation)?));
    }
    let context = start(tokenizer, stripped)?;
    let mut both = whole(tokenizer, &format!("{stripped}{continuation}"))?;
    let tokens = both.split_off(context.len().min(both.len()));
    Ok((context, tokens))
}

/// Tokens of a context, at least one.
///
/// # Errors
/// [`Error::Tokenizer`].
pub(super) fn start(tokenizer: &Tokenizer, context: &str) -> Result<Vec<u32>> {
    let tokens = whole(tokenizer, context)?;
    Ok(if tokens.is_empty() { vec![prefix_token(tokenizer)] } else { tokens })
}

/// Tokens of a text that a model reads from its beginning, after the token that its tokenizer's template puts
/// there.
///
/// # Errors
/// [`Error::Tokenizer`].
fn whole(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut tokens = tokenizer.first_tokens();
    let own = tokenizer.encode(text)?;
    if own.starts_with(&tokens) {
        return Ok(own);
    }
    tokens.extend(own);
    Ok(tokens)
}

/// Token that stands before a text without a context: that of the template, the end of a text, or what
/// generation begins with.
fn prefix_token(tokenizer: &Tokenizer) -> u32 {
    let first = tokenizer.first_tokens().first().copied();
    first.or(tokenizer.end_of_text()).unwrap_or_else(|| start_token(tokenizer))
}

/// Windows of a whole text: of each its context and the tokens to predict. `limit` is the number of tokens that
/// the model reads at once.
///
/// # Errors
/// [`Error::Tokenizer`].
pub(super) fn windows(tokenizer: &Tokenizer, text: &str, limit: usize) -> Result<Vec<Pair>> {
    Ok(windows_of(&whole(tokenizer, text)?, prefix_token(tokenizer), limit))
}

/// The first window predicts as many tokens as fit. Each later one predicts the tokens after it, and reads as
/// many before them as fit.
fn windows_of(tokens: &[u32], prefix: u32, limit: usize) -> Vec<Pair> {
    let first = tokens.len().min(limit);
    if first == 0 {
        return Vec::new();
    }
    let mut windows = vec![(vec![prefix], tokens[..first].to_vec())];
    let mut predicted = first;
    while predicted < tokens.len() {
        let end = tokens.len().min(predicted + limit);
        let context = tokens[end - limit - 1..predicted].to_vec();
        windows.push((context, tokens[predicted..end].to_vec()));
        predicted = end;
    }
    windows
}

/// Refuses a continuation without tokens, or with more than the model reads at once.
///
/// # Errors
/// [`Error::InvalidValue`].
pub(super) fn check_length(text: &str, tokens: usize, limit: usize) -> Result<()> {
    let message = match tokens {
        0 => "the continuation has no tokens".to_owned(),
        _ if tokens > limit => {
            format!("the continuation has {tokens} tokens, but the model reads {limit} (`model.block_size`)")
        }
        _ => return Ok(()),
    };
    let shown: String = text.chars().take(40).collect();
    Err(Error::invalid_value("continuation", shown, message))
}

/// Whether Python's `str.isspace` holds for a character. Unlike Rust it counts the separators 0x1c to 0x1f.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerConfig, TokenizerKind};

    /// The windows are those of `make_disjoint_window` of `get_rolling_token_windows(list(range(10)), 100, n, 1)`
    /// in lm-evaluation-harness.
    #[test]
    fn windows_predict_each_token_once() {
        let tokens: Vec<u32> = (0..10).collect();
        assert_eq!(windows_of(&tokens, 100, 10), [(vec![100], (0..10).collect())]);
        assert_eq!(
            windows_of(&tokens, 100, 4),
            [(vec![100], vec![0, 1, 2, 3]), (vec![3], vec![4, 5, 6, 7]), (vec![5, 6, 7], vec![8, 9]),]
        );
        assert!(windows_of(&[], 100, 4).is_empty());
    }

    /// Bytes, and the end of a text.
    fn bytes() -> Tokenizer {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, ..Default::default() };
        Tokenizer::train(&config, &["<|endoftext|>".into()], []).unwrap()
    }

    #[test]
    fn spaces_at_the_end_of_a_context_belong_to_the_continuation() {
        let tokenizer = bytes();
        let text = |tokens: &[u32]| tokenizer.decode(tokens).unwrap();
        let (context, continuation) = pair(&tokenizer, "a b \n", "c", true).unwrap();
        assert_eq!((text(&context), text(&continuation)), ("a b".into(), " \nc".into()));
        let (context, continuation) = pair(&tokenizer, "", "c", true).unwrap();
        assert_eq!((context, text(&continuation)), (vec![tokenizer.end_of_text().unwrap()], "c".into()));
    }
}
