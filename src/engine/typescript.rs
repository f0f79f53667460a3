//! The page's types, made from those of Rust: everything that the engine and the page's crate exchange with
//! JavaScript. The test here compares `web/page/generated.ts` with them; to write it anew:
//!
//! ```sh
//! KILN_WRITE_TYPES=1 cargo test --package kiln-engine --features typescript typescript
//! ```

use crate::{
    kernels::cases::Difference,
    platform::storage,
    train::{event::Event, inspect::ParameterReport},
};
use std::{any::TypeId, collections::BTreeMap, path::Path};
use ts_rs::{Config, TS, TypeVisitor};

/// Types of the page's crate. It is built for browsers only, so they are compiled again here.
#[path = "../../web/src/protocol.rs"]
#[allow(dead_code, reason = "only their shapes count here")]
mod protocol;

const HEADER: &str = "\
// Made from Rust's types by `src/engine/typescript.rs`, which also checks that they still agree. Do not edit; to make it
// anew: KILN_WRITE_TYPES=1 cargo test --package kiln-engine --features typescript typescript
";

/// Declarations by name, each with the id of its type.
struct Declarations {
    config: Config,
    found: BTreeMap<String, (TypeId, String)>,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Numbers, texts and lists have no declaration of their own.
        if T::output_path().is_none() {
            return;
        }
        let (name, id) = (T::ident(&self.config), TypeId::of::<T>());
        if let Some((other, _)) = self.found.get(&name) {
            assert_eq!(*other, id, "two types are called `{name}`: rename one with `ts(rename = …)`");
            return;
        }
        let docs = short_docs(&T::docs().unwrap_or_default());
        let declaration = laid_out(&T::decl(&self.config));
        self.found.insert(name, (id, format!("\n{docs}export {declaration}")));
        T::visit_dependencies(self);
    }
}

/// Declarations of all exchanged types, and of the types that they contain.
fn declarations() -> String {
    // Numbers cross as JavaScript's own, which hold integers up to 2^53.
    let config = Config::new().with_large_int("number");
    let mut all = Declarations { config, found: BTreeMap::new() };
    all.visit::<Event>();
    all.visit::<ParameterReport>();
    all.visit::<Difference>();
    all.visit::<protocol::Catalogue>();
    all.visit::<protocol::Plan>();
    all.visit::<protocol::RunSpec>();
    all.visit::<protocol::Target>();
    all.visit::<protocol::Problem>();
    all.visit::<protocol::SavedCheckpoint>();
    all.visit::<protocol::AttentionMaps>();
    all.found.into_values().fold(HEADER.to_owned(), |text, (_, declaration)| text + &declaration)
}

/// Formats a declaration with one line for each field of a record and each variant of a union.
fn laid_out(declaration: &str) -> String {
    let declaration = declaration.trim_end_matches(';');
    let Some((name, body)) = declaration.split_once(" = ") else { return format!("{declaration};\n") };
    let indented = |part: &str| part.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let variants = split(body, '|');
    if variants.len() > 1 {
        let variants = variants.iter().map(|variant| format!("\n  | {variant}"));
        return format!("{name} ={};\n", variants.collect::<String>());
    }
    match body.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(fields) if !body.contains("} & {") => {
            let fields =
                split(fields, ',').into_iter().map(|field| indented(&short_docs(&format!("{field};"))));
            format!("{name} = {{\n{}}};\n", fields.collect::<String>())
        }
        _ => format!("{name} = {body};\n"),
    }
}

/// Splits a type at separators outside of brackets and comments.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut at, mut depth) = (Vec::new(), 0, 0, 0);
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with("/*") {
            at += text[at..].find("*/").map_or(text.len() - at, |end| end + 2);
            continue;
        }
        match c {
            '{' | '(' | '[' | '<' => depth += 1,
            '}' | ')' | ']' | '>' => depth -= 1,
            _ if c == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Puts a comment of one line on a single line.
fn short_docs(text: &str) -> String {
    match text.strip_prefix("/**\n * ").and_then(|rest| rest.split_once("\n */\n")) {
        Some((line, rest)) if !line.contains('\n') => format!("/** {line} */\n{rest}"),
        _ => text.to_owned(),
    }
}

#[test]
fn the_pages_types_are_those_of_rust() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/page/generated.ts"));
    let made = declarations();
    if std::env::var_os("KILN_WRITE_TYPES").is_some() {
        storage::write_atomic(path, made.as_bytes()).unwrap();
    }
    let kept = storage::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
    let difference = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "web/page/generated.ts is not what Rust's types give ({difference:?}): run \
         `KILN_WRITE_TYPES=1 cargo test --package kiln-engine --features typescript typescript`, then `npm --prefix web run page`"
    );
}

#[test]
fn declarations_are_laid_out_a_field_a_line() {
    let record =
        "type A = { \n/**\n * One, of (two).\n */\nb: number, c: Array<{ d: string, e: null | string }>, };";
    assert_eq!(
        laid_out(record),
        "type A = {\n  /** One, of (two). */\n  b: number;\n  c: Array<{ d: string, e: null | string }>;\n};\n"
    );
    assert_eq!(laid_out("type A = \"b\" | \"c\";"), "type A =\n  | \"b\"\n  | \"c\";\n");
    assert_eq!(
        laid_out("type A = { \"t\": \"x\" } & B | C;"),
        "type A =\n  | { \"t\": \"x\" } & B\n  | C;\n"
    );
    assert_eq!(laid_out("type A = Record<string, unknown>;"), "type A = Record<string, unknown>;\n");
}
