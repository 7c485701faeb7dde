#![no_main]

#[path = "../../crates/ipreconnect/tests/corpus/checks.rs"]
#[expect(dead_code, reason = "each target uses one of them")]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::socks(input));
