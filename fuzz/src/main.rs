//! libFuzzer over one of `shawk::fuzz::TARGETS`: the one that `SHAWK_FUZZ` names.
//! Built by `scripts/fuzz`, which has shawk instrumented for it; any other build
//! of it does nothing.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
static RUN: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("SHAWK_FUZZ").expect("SHAWK_FUZZ names a target");
        let run = shawk::fuzz::target(&name).expect("SHAWK_FUZZ is one of fuzz/corpus");
        RUN.set(run).expect("it is set once");
    },
    |data: &[u8]| RUN.get().expect("it is set first")(data)
);

#[cfg(not(fuzzing))]
fn main() {}
