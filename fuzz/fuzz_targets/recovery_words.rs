#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintmark_fuzz_targets::run("recovery_words", input));
