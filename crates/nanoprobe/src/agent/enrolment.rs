//! What a nanoprobe shows to be enrolled: its token, until the CMA has welcomed it, and the marks of its machine.

use super::machine;
use discovery::Host;
use model::enrolment::token_hash;
use model::message::Machine;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A token has 54 characters; a comment may stand above it.
const MAX_TOKEN_FILE_BYTES: u64 = 4096;

/// A token that waits to be used, and the machine.
pub struct Enrolment {
    token: Option<Zeroizing<String>>,
    file: PathBuf,
    machine: Machine,
}

impl Enrolment {
    /// Reads both. A token that cannot be read is logged and not shown: the CMA decides whether the host needs one.
    pub fn read(file: PathBuf, host_root: &Path) -> Self {
        let token = match read_token(&file) {
            Ok(token) => token,
            Err(problem) => {
                tracing::error!(file = %file.display(), problem, "the enrolment token is not used");
                None
            }
        };
        Self { token, file, machine: machine::marks(&Host::at(host_root)) }
    }

    /// For a registration.
    pub fn token(&self) -> Option<String> {
        self.token.as_ref().map(|token| token.to_string())
    }

    /// For a registration.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The host is enrolled: its key is what counts from now on, and the token must not lie around. A nanoprobe that is
    /// killed before this finds the file again and shows the token once more, which counts nothing for a key that is
    /// enrolled.
    pub fn welcomed(&mut self) {
        if self.token.take().is_none() {
            return;
        }
        match std::fs::remove_file(&self.file) {
            Ok(()) => tracing::info!(file = %self.file.display(), "enrolled; the token was removed"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file = %self.file.display(), %error, "enrolled; the token is no longer needed: remove its file");
            }
        }
    }
}

/// The token in a file; `None` when there is no file.
fn read_token(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
    // Neither a FIFO nor a link that somebody else has put there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => return Err("it is a symbolic link: put the token itself there".into()),
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    let metadata = file.metadata().map_err(|error| format!("it cannot be read: {error}"))?;
    if !metadata.is_file() || metadata.len() > MAX_TOKEN_FILE_BYTES {
        return Err(format!("it is no file of at most {MAX_TOKEN_FILE_BYTES} bytes"));
    }
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!("others may read the enrolment token: chmod 600 {}", path.display());
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_TOKEN_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let lines = text.lines().map(str::trim);
    let Some(token) = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with('#')) else {
        return Err("it is empty: put the line that `assimcli tokens create` printed there".into());
    };
    if token_hash(token).is_none() {
        return Err(
            "there is no token in it: put the line that `assimcli tokens create` printed there".into()
        );
    }
    Ok(Some(Zeroizing::new(token.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::enrolment::{TOKEN_BYTES, token_text};
    use std::fs;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("enrol.token");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_is_shown_until_the_host_is_welcomed_and_then_gone() {
        let token = token_text(&[5; TOKEN_BYTES]);
        let (folder, path) = written(&format!("# for the lab\n\n {token} \n"));
        let mut enrolment = Enrolment::read(path.clone(), folder.path());
        assert_eq!(enrolment.token(), Some(token.clone()));
        assert_eq!(enrolment.token(), Some(token), "a registration that failed is tried again with it");
        assert!(path.exists());
        enrolment.welcomed();
        assert_eq!((enrolment.token(), path.exists()), (None, false));
        // A token that somebody puts there later is for the next start.
        fs::write(&path, "x").unwrap();
        enrolment.welcomed();
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_token_is_not_shown_and_not_removed() {
        for text in ["", "# nothing\n", "secret\n", "assim-12\n", &"x".repeat(5000)] {
            let (folder, path) = written(text);
            let mut enrolment = Enrolment::read(path.clone(), folder.path());
            assert_eq!(enrolment.token(), None, "{text:.20}");
            enrolment.welcomed();
            assert!(path.exists());
        }
    }

    #[test]
    fn links_and_missing_files_are_no_tokens() {
        let (folder, path) = written(&token_text(&[5; TOKEN_BYTES]));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_token(&link).unwrap_err().contains("symbolic link"));
        assert!(read_token(&folder.path().join("missing")).unwrap().is_none());
        assert!(read_token(folder.path()).unwrap_err().contains("no file"));
    }
}
