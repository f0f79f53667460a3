//! Tests of the whole tokenizer, compared with Hugging Face's own encoder.

use super::*;
use crate::config::TokenizerConfig;
use std::sync::LazyLock;

const SHAKESPEARE: &str = include_str!("../../tests/fixtures/tinyshakespeare.txt");

/// Text that is hard for pre-tokenizers and byte alphabets.
const DIFFICULT: &str =
    "Naïve café — 東京, 🙂🙂!  two\n\n\n  lines\r\n\tit's \u{a0}x e\u{301} \u{0}½ don''t\u{3000} end  ";

fn gpt2() -> Tokenizer {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        Tokenizer::from_gpt2(
            include_bytes!("../../tests/fixtures/gpt2/encoder.json"),
            include_bytes!("../../tests/fixtures/gpt2/vocab.bpe"),
        )
        .unwrap()
    });
    TOKENIZER.clone()
}

fn train(kind: TokenizerKind, vocab_size: usize, text: &str) -> Tokenizer {
    Tokenizer::train(&TokenizerConfig { kind, vocab_size, path: None }, &[], [text]).unwrap()
}

/// Tokens that the `tokenizers` crate itself gives. The text is encoded in pieces, since the crate is slow on
/// one long text.
fn reference(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let encode = |piece| tokenizer.inner.hugging_face.encode(piece, false).unwrap().get_ids().to_vec();
    general::pieces(text, 8 << 10).flat_map(encode).collect()
}

fn reload(tokenizer: &Tokenizer) -> Tokenizer {
    Tokenizer::from_bytes(tokenizer.to_json().unwrap().as_bytes(), "reloaded").unwrap()
}

#[test]
fn gpt2_gives_nanogpts_token_counts_and_hugging_faces_tokens() {
    let tokenizer = gpt2();
    assert_eq!((tokenizer.kind(), tokenizer.vocab_size()), (TokenizerKind::Bpe, 50257));
    assert_eq!(tokenizer.end_of_text(), Some(50256));
    // nanoGPT's data/shakespeare/prepare.py; the text is ASCII.
    let (train, val) = SHAKESPEARE.split_at(SHAKESPEARE.len() * 9 / 10);
    let (train, val) = (tokenizer.encode(train).unwrap(), tokenizer.encode(val).unwrap());
    assert_eq!((train.len(), val.len()), (301_966, 36_059));
    let both = tokenizer.encode(SHAKESPEARE).unwrap();
    assert!(both == reference(&tokenizer, SHAKESPEARE), "tokens differ from Hugging Face's");
    assert_eq!(tokenizer.decode(&both).unwrap(), SHAKESPEARE);
    // tokenizers.ByteLevelBPETokenizer("encoder.json", "vocab.bpe").encode("Hello world, it's   me\n\n").ids
    assert_eq!(
        tokenizer.encode("Hello world, it's   me\n\n").unwrap(),
        [15496, 995, 11, 340, 338, 220, 220, 502, 628]
    );
}

#[test]
fn gpt2_agrees_with_hugging_face_on_difficult_text() {
    let tokenizer = gpt2();
    let long_word = "ab=".repeat(400);
    let special = "one<|endoftext|> two <|endoftext|><|endoftext|>\n<|endoftex".to_owned();
    let scripts: String = (0x20..0x3000u32).step_by(7).filter_map(char::from_u32).collect();
    for text in [DIFFICULT.to_owned(), long_word, special, scripts, "=".repeat(65), String::new()] {
        let tokens = tokenizer.encode(&text).unwrap();
        assert_eq!(tokens, reference(&tokenizer, &text), "{text:?}");
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        assert_eq!(tokenizer.inner.hugging_face.decode(&tokens, false).unwrap(), text);
        // Words that are remembered from before have the same tokens.
        assert_eq!(tokenizer.encode(&text).unwrap(), tokens);
    }
}

#[test]
fn characters_are_sorted_and_round_trip() {
    let tokenizer = train(TokenizerKind::Char, 0, SHAKESPEARE);
    assert_eq!((tokenizer.vocab_size(), tokenizer.kind()), (65, TokenizerKind::Char));
    // nanoGPT's data/shakespeare_char/prepare.py: '\n', ' ', '!', '$', '&', "'", …
    assert_eq!(tokenizer.encode("\n !$&'z").unwrap(), [0, 1, 2, 3, 4, 5, 64]);
    let tokens = tokenizer.encode(SHAKESPEARE).unwrap();
    assert_eq!(tokens.len(), SHAKESPEARE.len());
    assert_eq!(tokenizer.decode(&tokens).unwrap(), SHAKESPEARE);
    assert_eq!(tokenizer.token_text(0).as_deref(), Some("\n"));
    assert_eq!(tokenizer.end_of_text(), None);

    let again = reload(&tokenizer);
    assert_eq!((again.kind(), again.fingerprint()), (tokenizer.kind(), tokenizer.fingerprint()));
    assert_eq!(again.encode("Hark!").unwrap(), tokenizer.encode("Hark!").unwrap());
}

#[test]
fn every_kind_agrees_with_hugging_face() {
    let text: String = DIFFICULT.to_owned() + &SHAKESPEARE[..20_000];
    for kind in [TokenizerKind::Char, TokenizerKind::Byte, TokenizerKind::Bpe] {
        let tokenizer = train(kind, 400, &text);
        let tokens = tokenizer.encode(&text).unwrap();
        assert_eq!(tokenizer.kind(), kind);
        assert_eq!(tokens, tokenizer.inner.hugging_face.encode_fast(text.as_str(), false).unwrap().get_ids());
        assert_eq!(tokenizer.inner.hugging_face.decode(&tokens, false).unwrap(), text);
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        let again = reload(&tokenizer);
        assert_eq!((again.kind(), again.encode(&text).unwrap()), (kind, tokens));
        assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap());
    }
}

#[test]
fn unknown_characters_are_named() {
    let tokenizer = train(TokenizerKind::Char, 0, "abc\n");
    let error = tokenizer.encode("ab\néc").unwrap_err();
    assert_eq!(
        error.to_string(),
        "tokenizer of characters: the character 'é' (U+00E9) at byte 3 is not in the vocabulary"
    );
    assert!(error.hint().unwrap().to_string().contains("tokenizer.kind=byte"));
    let long = "abc\n".repeat(600_000) + "é";
    assert!(tokenizer.encode(&long).unwrap_err().to_string().contains("at byte 2400000 is"));
    assert!(
        tokenizer.decode(&[4]).unwrap_err().to_string().contains("token 4 is not in the vocabulary of 4")
    );
    assert_eq!(tokenizer.token_text(4), None);
}

#[test]
fn an_unknown_token_of_the_file_is_used() {
    let mut document: serde_json::Value =
        serde_json::from_str(&train(TokenizerKind::Char, 0, "abc").to_json().unwrap()).unwrap();
    document["model"]["vocab"]["<unk>"] = 3.into();
    let tokenizer = Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap();
    assert_eq!(tokenizer.kind(), TokenizerKind::Char);
    assert_eq!(tokenizer.encode("aéc").unwrap(), [0, 3, 2]);
    assert_eq!(tokenizer.inner.hugging_face.encode("aéc", false).unwrap().get_ids(), [0, 3, 2]);
}

#[test]
fn bytes_are_their_own_tokens() {
    let tokenizer = train(TokenizerKind::Byte, 0, "");
    assert_eq!(tokenizer.vocab_size(), 256);
    assert_eq!(tokenizer.encode("aé\n").unwrap(), [97, 0xC3, 0xA9, 10]);
    assert_eq!(tokenizer.decode(&[0xC3, 97, 0xC3, 0xA9]).unwrap(), "\u{FFFD}aé");
    assert_eq!(tokenizer.token_length(0xC3), Some(1));
}

#[test]
fn bpe_reaches_its_size_the_same_way_each_time() {
    let text = &SHAKESPEARE[..100_000];
    let tokenizer = train(TokenizerKind::Bpe, 512, text);
    assert_eq!(tokenizer.vocab_size(), 512);
    assert_eq!(tokenizer.end_of_text(), Some(0));
    assert_eq!(tokenizer.token_text(0).as_deref(), Some(END_OF_TEXT));
    assert_eq!(tokenizer.token_length(0), Some(0));
    assert_eq!(train(TokenizerKind::Bpe, 512, text).to_json().unwrap(), tokenizer.to_json().unwrap());
    let tokens = tokenizer.encode(text).unwrap();
    assert!(tokens.len() * 2 < text.len());
    let bytes: usize = tokens.iter().filter_map(|&id| tokenizer.token_length(id)).sum();
    assert_eq!(bytes, text.len());

    let config = TokenizerConfig { kind: TokenizerKind::Bpe, vocab_size: 200, path: None };
    assert!(Tokenizer::train(&config, &[], ["x"]).unwrap_err().to_string().contains("tokenizer.vocab_size"));
}

#[test]
fn other_tokenizers_go_through_hugging_face_in_pieces() {
    // Byte-level after a split of its own, as Llama 3 and Qwen have it.
    let mut document: serde_json::Value = serde_json::from_str(&gpt2().to_json().unwrap()).unwrap();
    let byte_level = document["pre_tokenizer"].clone();
    document["pre_tokenizer"] = serde_json::json!({ "type": "Sequence", "pretokenizers": [
        {
            "type": "Split",
            "pattern": { "Regex": r"\p{N}{1,3}|\s*[\r\n]+" },
            "behavior": "Isolated",
            "invert": false,
        },
        byte_level,
    ]});
    let tokenizer = Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap();
    assert_eq!(tokenizer.kind(), TokenizerKind::File);
    let Codec::General(general) = &tokenizer.inner.codec else { panic!("not general") };
    assert!(general.cuts_at_lines());
    let text: String = DIFFICULT.to_owned() + &SHAKESPEARE[..100_000];
    let whole = tokenizer.inner.hugging_face.encode(text.as_str(), false).unwrap();
    let tokens = tokenizer.encode(&text).unwrap();
    assert_eq!(tokens, whole.get_ids());
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text);

    // A SentencePiece-like tokenizer marks the beginning of a text: cutting would add marks.
    document["pre_tokenizer"] = serde_json::json!({
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false,
    });
    let tokenizer = Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap();
    let Codec::General(general) = &tokenizer.inner.codec else { panic!("not general") };
    assert!(!general.cuts_at_lines());
}

#[test]
fn streams_never_give_half_a_character() {
    let mut document: serde_json::Value = serde_json::from_str(&gpt2().to_json().unwrap()).unwrap();
    document["pre_tokenizer"]["add_prefix_space"] = true.into();
    let general = Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap();
    assert_eq!(general.kind(), TokenizerKind::File);
    for tokenizer in [gpt2(), general] {
        let tokens = tokenizer.encode(DIFFICULT).unwrap();
        let mut stream = tokenizer.stream(&[]).unwrap();
        let mut text = String::new();
        for &id in &tokens {
            let new = stream.push(id).unwrap();
            assert!(!new.contains('\u{FFFD}'));
            text += &new;
        }
        text += &stream.finish().unwrap();
        assert_eq!(text, tokenizer.decode(&tokens).unwrap());

        // Three tokens; the first two of them have no text yet.
        let crab = tokenizer.encode("🦀").unwrap();
        let mut stream = tokenizer.stream(&[]).unwrap();
        for &id in &crab[..2] {
            assert_eq!(stream.push(id).unwrap(), "");
        }
        assert_eq!(stream.finish().unwrap().trim(), "\u{FFFD}");
    }
}

#[test]
fn broken_files_are_refused() {
    let message = |bytes: &[u8]| Tokenizer::from_bytes(bytes, "`t.json`").unwrap_err().to_string();
    assert!(message(b"{").starts_with("tokenizer `t.json`: is not JSON"));
    assert!(message(b"[]").contains("has no `model`"));
    assert!(message(br#"{"model":{"type":"Nonsense"}}"#).contains("cannot be read"));
    let good = train(TokenizerKind::Bpe, 300, &SHAKESPEARE[..2_000]).to_json().unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&good).unwrap();
    document["model"]["merges"][3] = serde_json::json!(["thth", "thth"]);
    assert!(message(document.to_string().as_bytes()).contains("merge 3 (`thth` and `thth`)"));
    document = serde_json::from_str(&good).unwrap();
    document["model"]["vocab"]["huge"] = u32::MAX.into();
    assert!(message(document.to_string().as_bytes()).contains("id 4294967295"));
    assert!(matches!(Tokenizer::from_file(Path::new("/no/such/file")), Err(Error::NotFound { .. })));
    assert!(Tokenizer::from_gpt2(b"{}", b"").unwrap_err().to_string().contains("<|endoftext|>"));
}

#[test]
fn fingerprints_tell_vocabularies_apart() {
    let one = train(TokenizerKind::Char, 0, "abc");
    assert_eq!(one.fingerprint().len(), 16);
    assert_ne!(one.fingerprint(), train(TokenizerKind::Char, 0, "abd").fingerprint());
    let compact: serde_json::Value = serde_json::from_str(&one.to_json().unwrap()).unwrap();
    let compact = Tokenizer::from_bytes(compact.to_string().as_bytes(), "test").unwrap();
    assert_eq!(compact.fingerprint(), one.fingerprint());
}
