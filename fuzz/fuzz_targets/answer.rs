//! The bytes are the answer that a nanoprobe gets over a socket, or from a program it asks, of the kind `ANSWER`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static ANSWER: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("ANSWER").expect("set ANSWER");
    let found = discovery::fuzzing::ANSWERS.iter().find(|(name, _)| *name == wanted);
    found.expect("ANSWER names no kind of answer").1
});

fuzz_target!(|bytes: &[u8]| ANSWER(bytes));
