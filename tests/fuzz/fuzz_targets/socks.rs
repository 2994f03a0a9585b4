#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ntlmaps_fuzz::socks(data));
