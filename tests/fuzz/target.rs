//! Gives inputs that libFuzzer chooses to the decoder with the name of this program.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let decoder = decoders::find(env!("CARGO_BIN_NAME"));
    let decoder = decoder.expect("each program has the name of a decoder");
    (decoder.read)(input);
});
