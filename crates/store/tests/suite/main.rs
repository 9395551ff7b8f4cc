//! One test program: the conformance suite with its implementations, and the canned queries over a small site.

mod conformance;
mod queries;
mod sqlite;
