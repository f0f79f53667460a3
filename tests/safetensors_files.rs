//! Weight files that are broken, hostile or do not belong together give a message that names file and tensor,
//! a hint and exit code 2, and never a crash. All are made from an intact tiny model.

use crate::{
    parity::{copy_of, fixture},
    support::{fails, folder, kiln, ok},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn verify(model: &Path) -> Command {
    let mut command = kiln(["verify", "--device", "cpu"]);
    command.arg(model);
    command
}

/// Makes a folder with a model in several files, and returns the names of these.
fn sharded(folder: &TempDir) -> (PathBuf, Vec<String>) {
    let model = folder.path().join("sharded");
    ok(kiln(["convert", "--max-shard-size", "60KB"]).arg(fixture("gpt2")).arg(&model));
    fs::copy(fixture("gpt2").join("fixture.safetensors"), model.join("fixture.safetensors")).unwrap();
    let names = fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("model-")).collect();
    names.sort();
    assert!(names.len() > 2 && !model.join(MODEL).exists(), "{names:?}");
    (model, names)
}

fn change_index(model: &Path, change: impl FnOnce(&mut Value)) {
    let path = model.join(INDEX);
    let mut index = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut index);
    fs::write(path, index.to_string()).unwrap();
}

/// Makes a file with this header before the data.
fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn a_file_that_is_not_whole_or_not_safetensors() {
    let folder = folder();
    let copy = copy_of("gpt2", &folder);
    let path = copy.join(MODEL);
    let good = fs::read(&path).unwrap();
    let header_length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&good[8..8 + header_length]).unwrap();
    let data = &good[8 + header_length..];
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut entries: Value = serde_json::from_str(header).unwrap();
        change(&mut entries);
        with_header(&entries.to_string(), data)
    };
    let wte = "transformer.wte.weight";
    let beyond = [&(1u64 << 60).to_le_bytes(), &good[8..]].concat();
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (Vec::new(), &["it has 0 bytes", "truncated"]),
        (good[..5].to_vec(), &["it has 5 bytes", "truncated"]),
        (good[..100].to_vec(), &["its header would have", "but the file has 100", "truncated"]),
        (good[..good.len() / 2].to_vec(), &["truncated", "bytes of its tensors are missing"]),
        (good[..good.len() - 1].to_vec(), &["truncated", "the last 1 of"]),
        (beyond, &["its header would have 1152921504606846976 bytes"]),
        (with_header("this is no JSON", data), &["its header is not JSON"]),
        (with_header("[1, 2]", data), &["its header is not JSON"]),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00a pickle of old".to_vec(), &["not safetensors"]),
        // Overlapping the tensor before it, or leaving a gap.
        (
            changed(&|entries| {
                let offsets = &mut entries["transformer.wpe.weight"]["data_offsets"];
                *offsets = json!([0, 32 * 48 * 4]);
            }),
            &["tensor `transformer."],
        ),
        (
            changed(&|entries| {
                entries[wte]["data_offsets"] = json!([1u64 << 40, (1u64 << 40) + 101 * 48 * 4])
            }),
            &["tensor `transformer.wte.weight` at [1099511627776,1099511647168] does not begin"],
        ),
        (
            changed(&|entries| entries[wte]["data_offsets"] = json!([8, 4])),
            &["tensor `transformer.wte.weight` of type F32 and shape [101, 48]"],
        ),
        (
            changed(&|entries| entries[wte]["shape"] = json!([1u64 << 33, 1u64 << 33])),
            &["tensor `transformer.wte.weight` of type F32 and shape [8589934592, 8589934592]"],
        ),
        (
            changed(&|entries| entries[wte]["data_offsets"] = json!([-4, 4])),
            &["tensor `transformer.wte.weight`", "offsets [-4,4]"],
        ),
        (
            changed(&|entries| entries[wte]["dtype"] = json!("F3")),
            &["tensor `transformer.wte.weight` has type \"F3\""],
        ),
    ];
    for (bytes, parts) in cases {
        fs::write(&path, bytes).unwrap();
        let mut all = vec!["/gpt2`: `model.safetensors`: ", "hint: copy or download the file again"];
        all.extend(parts);
        fails(&mut verify(&copy), 2, &all);
        fails(kiln(["inspect"]).arg(&copy), 2, &all);
    }
    fs::remove_file(&path).unwrap();
    fails(&mut verify(&copy), 2, &["`model.safetensors` is missing", "hint: ", "`.bin`"]);
    fs::write(&path, good).unwrap();
    ok(&mut verify(&copy));
}

#[test]
fn tensors_that_are_not_those_of_the_configuration() {
    let folder = folder();
    let copy = copy_of("gpt2", &folder);
    let path = copy.join(MODEL);
    let good = fs::read(&path).unwrap();
    let numbers = vec![0u8; 1 << 20];
    let view =
        |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), &numbers[..bytes]).unwrap();
    let replaced = |name: &str, with: Option<TensorView>, parts: &[&str]| {
        fs::write(&path, &good).unwrap();
        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let others = tensors.iter().filter(|(other, _)| *other != name);
        let all: Vec<(&str, TensorView)> = others.chain(with.map(|view| (name, view))).collect();
        fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
        let mut all = vec!["`model.safetensors`: tensor `", name, "hint: "];
        all.extend(parts);
        fails(&mut verify(&copy), 2, &all);
    };
    let (wte, qkv) = ("transformer.wte.weight", "transformer.h.0.attn.c_attn.weight");
    replaced(wte, None, &["is missing", "different models"]);
    replaced("transformer.more", Some(view(Dtype::F32, &[1], 4)), &["is not part of the model"]);
    replaced(wte, Some(view(Dtype::F32, &[100, 48], 19200)), &["has shape [100, 48]", "asks for [101, 48]"]);
    replaced(wte, Some(view(Dtype::F32, &[101, 47], 18988)), &["has shape [101, 47]", "a width of 48"]);
    replaced(wte, Some(view(Dtype::F32, &[4848], 19392)), &["has shape [4848]"]);
    replaced(wte, Some(view(Dtype::F32, &[], 4)), &["has shape []"]);
    replaced(wte, Some(view(Dtype::F32, &[0, 48], 0)), &["has shape [0, 48]"]);
    replaced(qkv, Some(view(Dtype::F32, &[24, 144], 13824)), &["has shape [24, 144]", "asks for [48, 144]"]);
    for (dtype, bytes) in [(Dtype::I64, 8), (Dtype::F8_E4M3, 1), (Dtype::BOOL, 1), (Dtype::U8, 1)] {
        let told = format!("has type {dtype}, not F32, F16, BF16 or F64");
        replaced(wte, Some(view(dtype, &[101, 48], 101 * 48 * bytes)), &[&told, "kiln reads F32"]);
    }
}

#[test]
fn an_index_and_its_files() {
    let folder = folder();
    let (model, names) = sharded(&folder);
    ok(&mut verify(&model));
    let index = fs::read(model.join(INDEX)).unwrap();

    // A missing file, and one that is cut off.
    let first = model.join(&names[0]);
    let good = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    fails(
        &mut verify(&model),
        2,
        &[&format!("`{}` is missing, which `{INDEX}` lists", names[0]), "hint: get all"],
    );
    fs::write(&first, &good[..good.len() - 7]).unwrap();
    fails(&mut verify(&model), 2, &[&format!("`{}`: it is truncated: the last 7 of", names[0]), "hint: "]);

    // A tensor that is not where the index has it.
    let tensors = SafeTensors::deserialize(&good).unwrap();
    let mut listed: Vec<(&str, TensorView)> = tensors.iter().collect();
    let (gone, _) = listed.pop().unwrap();
    fs::write(&first, safetensors::serialize(listed, None).unwrap()).unwrap();
    let told = format!("`{}`: tensor `{gone}` is missing, which `{INDEX}` lists there", names[0]);
    fails(&mut verify(&model), 2, &[&told, "hint: "]);
    fs::write(&first, &good).unwrap();

    // The same tensor in two files.
    let second = model.join(&names[1]);
    let good_second = fs::read(&second).unwrap();
    let mut both: Vec<(&str, TensorView)> = Vec::new();
    let others = SafeTensors::deserialize(&good_second).unwrap();
    both.extend(others.iter());
    both.push((gone, tensors.tensor(gone).unwrap()));
    fs::write(&second, safetensors::serialize(both, None).unwrap()).unwrap();
    let told = format!("tensor `{gone}` is in both `{}` and `{}`", names[0], names[1]);
    fails(&mut verify(&model), 2, &[&told, "hint: "]);
    fs::write(&second, &good_second).unwrap();
    ok(&mut verify(&model));

    // A file outside of the folder, which is there.
    fs::write(folder.path().join("outside.safetensors"), &good).unwrap();
    let absolute = folder.path().join("outside.safetensors").display().to_string();
    for outside in ["../outside.safetensors", &absolute, "x/../../outside.safetensors", "sub/x.safetensors"] {
        change_index(&model, |index| index["weight_map"][gone] = json!(outside));
        let told = format!("`{INDEX}`: tensor `{gone}` is said to be in `{outside}`");
        fails(&mut verify(&model), 2, &[&told, "is not the name of a `.safetensors` file", "hint: "]);
        fails(kiln(["inspect"]).arg(&model), 2, &[&told]);
    }
    fs::write(model.join(INDEX), &index).unwrap();

    // No index at all, and one that is none.
    for (text, part) in
        [("{", "EOF"), ("[]", "invalid"), ("{}", "weight_map"), (r#"{"weight_map": {}}"#, "no tensors")]
    {
        fs::write(model.join(INDEX), text).unwrap();
        fails(&mut verify(&model), 2, &[&format!("`{INDEX}`"), part, "hint: "]);
    }
    // Millions of entries, and more bytes than are read.
    let entries: String = (0..1_100_000).map(|i| format!(r#""t{i}":"x.safetensors","#)).collect();
    fs::write(model.join(INDEX), format!(r#"{{"weight_map":{{{}}}}}"#, entries.trim_end_matches(',')))
        .unwrap();
    fails(&mut verify(&model), 2, &[INDEX, "it lists over 1048576 tensors", "hint: "]);
    let file = fs::File::create(model.join(INDEX)).unwrap();
    file.set_len(1 << 40).unwrap();
    fails(&mut verify(&model), 2, &[INDEX, "has 1099511627776 bytes, but at most 64 MiB are read", "hint: "]);
    fs::write(model.join(INDEX), &index).unwrap();
    ok(&mut verify(&model));
}

#[test]
fn a_file_by_its_own_name() {
    let folder = folder();
    let copy = copy_of("gpt2", &folder);
    fs::rename(copy.join(MODEL), copy.join("other.safetensors")).unwrap();
    let whole = folder.path().join("whole");
    ok(kiln(["convert"]).arg(copy.join("other.safetensors")).arg(&whole));
    fs::copy(copy.join("fixture.safetensors"), whole.join("fixture.safetensors")).unwrap();
    ok(&mut verify(&whole));
    // One part of several is not a model.
    let (model, names) = sharded(&folder);
    let part = model.join(&names[0]);
    let mut convert = kiln(["convert"]);
    fails(convert.arg(part).arg(folder.path().join("part")), 2, &[&names[0], "tensor `", "hint: "]);
    assert!(!folder.path().join("part").exists());

    fs::remove_file(copy.join("config.json")).unwrap();
    let mut convert = kiln(["convert"]);
    convert.arg(copy.join("other.safetensors")).arg(folder.path().join("none"));
    fails(&mut convert, 2, &["`config.json` is missing", "hint: "]);
}
