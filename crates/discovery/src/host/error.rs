//! Why something of a host could not be read.

use super::Kind;
use rustix::io::Errno;
use std::fmt;

/// What stood in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    Missing,
    Denied,
    /// A FIFO, device, socket or directory where a regular file is expected.
    NotRegular(Kind),
    NotADirectory,
    TooLarge {
        limit_bytes: u64,
    },
    TooManyEntries {
        limit: usize,
    },
    /// Anything else, as the system words it.
    Io(String),
}

impl Problem {
    pub(super) fn of(errno: Errno) -> Problem {
        match errno {
            Errno::NOENT => Problem::Missing,
            Errno::ACCESS | Errno::PERM => Problem::Denied,
            Errno::NOTDIR => Problem::NotADirectory,
            // What open(2) says of a socket and of a device without driver.
            Errno::NXIO | Errno::NODEV => Problem::NotRegular(Kind::Unknown),
            other => Problem::Io(std::io::Error::from(other).to_string()),
        }
    }
}

/// A path that could not be read. Its text is one sentence with the path, the reason and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    path: String,
    problem: Problem,
}

impl ReadError {
    pub(crate) fn new(path: &str, problem: Problem) -> ReadError {
        ReadError { path: path.to_owned(), problem }
    }

    /// The path as it was asked for, without the root of a tree.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Often no error at all: the software is not installed.
    pub fn is_missing(&self) -> bool {
        matches!(self.problem, Problem::Missing)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = model::text::printable(&self.path);
        match &self.problem {
            Problem::Missing => write!(f, "{path}: no such file or directory"),
            Problem::Denied => write!(f, "{path}: permission denied: run nanoprobe as root to see it"),
            Problem::NotRegular(kind) => {
                write!(f, "{path}: {kind}, not a regular file: it is not read, put a regular file there")
            }
            Problem::NotADirectory => {
                write!(f, "{path}: a part of this path is not a directory: check the path")
            }
            Problem::TooLarge { limit_bytes } => {
                write!(f, "{path}: larger than {limit_bytes} bytes: it is not read, make it smaller")
            }
            Problem::TooManyEntries { limit } => {
                write!(f, "{path}: more than {limit} entries: it is not listed, clean it up")
            }
            Problem::Io(reason) => write!(f, "{path}: {reason}: check the file system it is on"),
        }
    }
}

impl std::error::Error for ReadError {}
