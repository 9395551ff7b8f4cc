//! Reading a TOML configuration file: a missing one means defaults, anything else wrong is an error that names it.

use model::config::shape::Setting;
use model::config::{ConfigError, parse_toml};
use serde::Deserialize;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Largest configuration file that is read, in bytes; a real one has a few kilobytes.
pub const MAX_SETTINGS_BYTES: u64 = 1024 * 1024;

/// Reads `path`, or gives the default when there is no such file.
///
/// # Errors
/// The file exists but cannot be read, is larger than [`MAX_SETTINGS_BYTES`], or says something that `T` does not know.
pub fn read<T: Default + Setting + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ConfigError> {
    match text(path)? {
        Some(text) => parse_toml(&path.display().to_string(), &text),
        None => Ok(T::default()),
    }
}

/// The text of a settings file; `None` when there is none.
///
/// # Errors
/// The file exists but cannot be read, is larger than [`MAX_SETTINGS_BYTES`], or is no text.
pub fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    let name = path.display().to_string();
    let problem = |message: String| ConfigError { path: name.clone(), message };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(format!("cannot be opened ({error}); check its owner and mode"))),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(problem("is not a regular file; put the settings into a plain file or remove it".into()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SETTINGS_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_SETTINGS_BYTES {
        return Err(problem(format!(
            "has more than {MAX_SETTINGS_BYTES} bytes; this is not a configuration file"
        )));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        problem(format!("line {line}: is not UTF-8 text; save the file in that encoding"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::NanoprobeConfig;

    #[test]
    fn missing_means_default_and_wrong_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nanoprobe.toml");
        assert_eq!(read::<NanoprobeConfig>(&path).unwrap(), NanoprobeConfig::default());
        std::fs::write(&path, "ttl = 3\n").unwrap();
        assert_eq!(read::<NanoprobeConfig>(&path).unwrap().ttl, Some(3));
        std::fs::write(&path, "ttl = 3\nttll = 4\n").unwrap();
        let text = read::<NanoprobeConfig>(&path).unwrap_err().to_string();
        assert!(
            text.contains("nanoprobe.toml") && text.contains("line 2") && text.contains("ttll"),
            "{text}"
        );
    }

    #[test]
    fn directories_huge_files_and_binary_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read::<NanoprobeConfig>(directory.path()).unwrap_err().message.contains("regular"));
        let path = directory.path().join("big");
        std::fs::write(&path, vec![b'#'; MAX_SETTINGS_BYTES as usize + 1]).unwrap();
        assert!(read::<NanoprobeConfig>(&path).unwrap_err().message.contains("more than"));
        std::fs::write(&path, b"# so far\n\xff\xfe").unwrap();
        assert!(read::<NanoprobeConfig>(&path).unwrap_err().message.contains("line 2: is not UTF-8"));
    }
}
