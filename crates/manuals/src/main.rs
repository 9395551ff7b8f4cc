//! `manuals DIR`: writes manual pages and shell completions below DIR, laid out as /usr/share.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let (Some(folder), None) = (words.next().map(PathBuf::from), words.next()) else {
        eprintln!("manuals: say one directory; manual pages and completions are written below it");
        return ExitCode::FAILURE;
    };
    match manuals::write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manuals: {} cannot be written: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
