//! Compiles the kernel side and writes the skeleton that loads it.
//!
//! Needs clang, a C compiler, make, pkg-config, and the headers of libelf and
//! zlib; what it makes needs none of them.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("read OUT_DIR")?);
    SkeletonBuilder::new()
        .source("bpf/flow.bpf.c")
        // Atomics that return the old value, and 32-bit jumps: kernel 5.12.
        .clang_args(["-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"])
        .build_and_generate(out.join("flow.skel.rs"))
        .context("compile bpf/flow.bpf.c; it needs clang")?;
    println!("cargo::rerun-if-changed=bpf");
    // The tests that need a Citus cluster are there when one is named.
    println!("cargo::rerun-if-env-changed=SHAWK_TEST_CITUS_URL");
    println!("cargo::rustc-check-cfg=cfg(citus)");
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    if env::var_os("SHAWK_TEST_CITUS_URL").is_some_and(|url| !url.is_empty()) {
        println!("cargo::rustc-cfg=citus");
    }
    Ok(())
}
