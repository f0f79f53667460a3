//! Commands of READMEs that `tests/readme.rs` does not run, and the checks that run them. Their classes:
//!
//! - `build` compiles the package again, some of it for hardware and with downloads that a test lacks.
//! - `network` fetches packages from npm and PyPI.
//! - `minutes` trains several models, which a test does with a few steps each.
//! - `browser` needs Chromium, and minutes.
//! - `cluster` needs several machines, or processes that do not end.
//! - `all` is the whole check, which includes the test.

/// A command that this test does not run.
pub struct Elsewhere {
    /// Word after `sh` in the info string of its block.
    pub class: &'static str,
    pub command: &'static str,
    /// File of the check that runs it.
    pub file: &'static str,
    /// Words in that file that run it.
    pub runs: &'static str,
}

/// Each such command of a README, once.
pub const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        class: "build",
        command: "cargo install --path .",
        file: "tests/check.sh",
        runs: "cargo build --release \"${packages[@]}\" \"${default_features[@]}\" --lib",
    },
    Elsewhere {
        class: "build",
        command: "cargo install --path . --features data",
        file: "tests/check.sh",
        runs: "cargo build --release \"${packages[@]}\" \"${features[@]}\"",
    },
    Elsewhere {
        class: "build",
        command: "cargo install --path . --features cluster",
        file: "tests/check.sh",
        runs: "cargo build --release \"${packages[@]}\" \"${features[@]}\"",
    },
    Elsewhere {
        class: "build",
        command: "cargo build --release --features cuda",
        file: "tests/check.sh",
        runs: "cargo build --release \"${packages[@]}\" \"${features[@]}\"",
    },
    Elsewhere {
        class: "build",
        command: "bash examples/cuda.sh",
        file: "tests/check.sh",
        runs: "bash examples/cuda.sh",
    },
    Elsewhere {
        class: "network",
        command: "node examples/corpora.mjs mails corpora",
        file: "tests/check.sh",
        runs: "for name in mails cmudict raw; do",
    },
    Elsewhere {
        class: "network",
        command: "node examples/corpora.mjs cmudict corpora",
        file: "tests/check.sh",
        runs: "for name in mails cmudict raw; do",
    },
    Elsewhere {
        class: "network",
        command: "node examples/corpora.mjs raw corpora",
        file: "tests/check.sh",
        runs: "for name in mails cmudict raw; do",
    },
    Elsewhere {
        class: "network",
        command: "node examples/models.mjs smollm2 models",
        file: "tests/check.sh",
        runs: "node examples/models.mjs smollm2",
    },
    Elsewhere {
        class: "network",
        command: "kiln generate models/SmolLM2-135M-Instruct.Q4_1.gguf --prompt \"The capital of France is\" --temperature 0",
        file: "tests/check.sh",
        runs: "\"$kiln\" generate \"$model\"",
    },
    Elsewhere {
        class: "minutes",
        command: "node examples/rlhf.mjs runs/rlhf",
        file: "tests/examples.rs",
        runs: r#"quick("rlhf.mjs")"#,
    },
    Elsewhere {
        class: "minutes",
        command: "node examples/distill.mjs runs/distill",
        file: "tests/examples.rs",
        runs: r#"quick("distill.mjs")"#,
    },
    Elsewhere {
        class: "browser",
        command: "npm --prefix web run build",
        file: "tests/check.sh",
        runs: "bash web/build.sh",
    },
    Elsewhere {
        class: "browser",
        command: "npm --prefix web start",
        file: "tests/check.sh",
        runs: "npm --prefix web start",
    },
    Elsewhere {
        class: "browser",
        command: "npm --prefix web test",
        file: "tests/check.sh",
        runs: "npm --prefix web test",
    },
    Elsewhere {
        class: "browser",
        command: "kiln compare --preset debug --device cpu,wgpu,browser-cpu,browser --set train.max_steps=100 --out everywhere",
        file: "web/tests/compare.spec.ts",
        runs: r#""--device", "cpu,wgpu,browser-cpu,browser""#,
    },
    Elsewhere {
        class: "browser",
        command: "kiln train --resume checkpoint --out runs/from-the-page",
        file: "web/tests/keep.spec.ts",
        runs: r#"kiln("train", "--resume", folder, "--out", desktop"#,
    },
    Elsewhere {
        class: "cluster",
        command: "kiln data run examples/corpora.toml --out s3://bucket/prepared --rank 0 --world-size 16",
        file: "tests/data_stores.rs",
        runs: "--rank {rank} --world-size 3",
    },
    Elsewhere {
        class: "cluster",
        command: "kiln data scheduler --listen 10.0.0.1:50050",
        file: "tests/data_cluster.rs",
        runs: "data scheduler --listen {address}",
    },
    Elsewhere {
        class: "cluster",
        command: "kiln data executor --scheduler 10.0.0.1:50050 --host 10.0.0.2",
        file: "tests/data_cluster.rs",
        runs: "data executor --scheduler {scheduler}",
    },
    Elsewhere {
        class: "cluster",
        command: "kiln data run examples/corpora.toml --out /shared/prepared --cluster df://10.0.0.1:50050",
        file: "tests/data_cluster.rs",
        runs: "--cluster df://{address}",
    },
    Elsewhere { class: "all", command: "bash tests/check.sh", file: ".ci/run", runs: "bash tests/check.sh" },
];
