//! Reads and writes `model.safetensors.index.json`, which lists the file of each tensor of a model with
//! several weight files, in Hugging Face's format:
//!
//! ```json
//! { "metadata": { "total_size": 8 }, "weight_map": { "a": "model-00001-of-00002.safetensors", ... } }
//! ```

use super::names;
use serde::{
    Deserialize,
    de::{Deserializer, Error, MapAccess, Visitor},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Component, Path},
};

/// Largest number of tensors in an index. It is more than any model has; a file that lists more is refused
/// rather than held in memory.
const MOST_TENSORS: usize = 1 << 20;

/// File of each tensor of a model, by the tensor's name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Index {
    #[serde(deserialize_with = "bounded_map")]
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// A message if the file is not valid JSON, lists too many tensors or a tensor twice, or names a file
    /// that is not a `.safetensors` file in the same folder.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(json).map_err(|e| format!("`{}`: {e}", names::INDEX))?;
        for (tensor, file) in &index.weight_map {
            // By its components alone, so that nothing outside of the folder is even looked at.
            let mut components = Path::new(file).components();
            let plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
            if !plain || !names::holds_tensors(file) {
                return Err(format!(
                    "`{}`: tensor `{tensor}` is said to be in `{}`, which is not the name of a \
                     `.safetensors` file in its folder",
                    names::INDEX,
                    file.escape_debug()
                ));
            }
        }
        match index.weight_map.is_empty() {
            true => Err(format!("`{}` lists no tensors", names::INDEX)),
            false => Ok(index),
        }
    }

    /// Makes the index of pairs of a tensor and its file.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entry = |(tensor, file): (&str, &str)| (tensor.to_owned(), file.to_owned());
        Self { weight_map: files.into_iter().map(entry).collect() }
    }

    /// Formats the index as JSON, with the total size that transformers writes. `bytes` is the size of all
    /// tensors.
    pub fn to_json(&self, parameters: u64, bytes: u64) -> Vec<u8> {
        let json = serde_json::json!({
            "metadata": { "total_parameters": parameters, "total_size": bytes },
            "weight_map": self.weight_map,
        });
        format!("{json:#}\n").into_bytes()
    }

    /// Names of all files, each once.
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// Pairs of every tensor and its file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.weight_map.iter().map(|(tensor, file)| (tensor.as_str(), file.as_str()))
    }
}

/// Reads a map of at most [`MOST_TENSORS`] entries without duplicate keys.
fn bounded_map<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of file names by tensor")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((tensor, file)) = entries.next_entry::<String, String>()? {
                if map.len() == MOST_TENSORS {
                    return Err(A::Error::custom(format!("it lists over {MOST_TENSORS} tensors")));
                }
                if map.contains_key(&tensor) {
                    return Err(A::Error::custom(format!("tensor `{tensor}` is listed twice")));
                }
                map.insert(tensor, file);
            }
            Ok(map)
        }
    }
    json.deserialize_map(Bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(weight_map: &str) -> Result<Index, String> {
        Index::parse(format!(r#"{{"metadata": {{}}, "weight_map": {{{weight_map}}}}}"#).as_bytes())
    }

    #[test]
    fn an_index_survives_its_json() {
        let index = Index::of([("a", "x.safetensors"), ("b", "y.safetensors"), ("c", "x.safetensors")]);
        assert_eq!(Index::parse(&index.to_json(3, 12)).unwrap(), index);
        assert_eq!(index.files(), BTreeSet::from(["x.safetensors", "y.safetensors"]));
    }

    #[test]
    fn only_files_beside_it_are_named() {
        assert!(parse(r#""a": "x.safetensors""#).is_ok());
        for file in [
            "../x.safetensors",
            "/etc/x.safetensors",
            "sub/x.safetensors",
            "./../x.safetensors",
            "..",
            "",
            "x.bin",
        ] {
            let error = parse(&format!(r#""a": "{file}""#)).unwrap_err();
            assert!(error.contains("`a`") && error.contains(&format!("`{file}`")), "{error}");
        }
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for (map, part) in [
            (r#""a": 1"#, "invalid type"),
            (r#""a": "x.safetensors", "a": "y.safetensors""#, "`a` is listed twice"),
        ] {
            let error = parse(map).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(parse("").unwrap_err().contains("no tensors"));
        assert!(Index::parse(b"{}").unwrap_err().contains("weight_map"));
        assert!(Index::parse(b"[").is_err());
    }
}
