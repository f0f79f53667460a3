//! Links the binary with packed relocations if the linker can, so that nine megabytes less are read at start.

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let is = |key, value| std::env::var(key).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
