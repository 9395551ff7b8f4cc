//! What nobody looks at: the answer to `assimcli coverage`, as far as both ends must agree on it.

/// Kinds of gaps, in the order of the answer: what matters most first.
pub const GAPS: [&str; 9] = [
    "dead host",
    "key mismatch",
    "no reports",
    "no nanoprobe",
    "discovery failing",
    "report refused",
    "discovery missing",
    "service unmonitored",
    "rule not judged",
];
