//! Whether a program is on a host at all, and the document of one that is not.

use crate::{Collected, Host};
use serde_json::json;

/// Whether one of the paths exists, whatever it is.
pub fn any_exists(host: &Host, paths: &[&str]) -> bool {
    paths.iter().any(|path| host.stat(path).is_ok())
}

/// The document of something that this host does not have: rules about it do not apply, with the sentence as
/// the reason. That is no error.
pub fn not_there(sentence: impl Into<String>) -> Collected {
    Collected::new(json!({ "NODATA": sentence.into() }))
}
