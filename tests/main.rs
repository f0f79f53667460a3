//! All tests that need a whole model or the whole binary. Unit tests are beside the code.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

mod adapter;
mod architectures;
mod bad_input;
mod chat;
mod commands;
mod compare;
#[cfg(all(any(feature = "cuda", feature = "vulkan"), target_os = "linux"))]
mod compiled;
mod convert;
mod cross_entropy;
#[cfg(all(feature = "cuda", target_os = "linux"))]
mod cuda;
#[cfg(feature = "data")]
mod data;
#[cfg(all(feature = "cluster", unix))]
mod data_cluster;
#[cfg(feature = "data")]
mod data_stores;
mod devices;
mod examples;
mod gguf;
mod hints;
mod init_from;
mod inspect;
mod kernels;
#[cfg(unix)]
mod kills;
mod layers;
mod memorization;
mod merging;
mod packing;
mod parity;
mod plan;
mod precision;
mod preference;
mod pruning;
mod readme;
mod recompute;
mod reports;
mod resume;
mod rollouts;
mod safetensors_files;
mod scale;
mod score;
mod suite;
mod train;
#[cfg(all(feature = "vulkan", target_os = "linux"))]
mod vulkan;
