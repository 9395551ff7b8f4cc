//! Manual pages and shell completions of all programs, made from the definitions of their command lines, so that they cannot
//! say anything else than the programs do. Packages install what [`write`] makes.

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::Path;

/// Shells for which completions are installed, and where they lie below /usr/share.
const SHELLS: &[(Shell, &str)] = &[
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/vendor-completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// The programs and the section of their manual page: 1 = for everybody, 8 = for administrators (man(1)).
pub fn programs() -> Vec<(Command, &'static str)> {
    vec![
        (assimcli::Arguments::command(), "1"),
        (cma::settings::Arguments::command(), "8"),
        (nanoprobe::cli::Cli::command(), "8"),
    ]
}

/// Writes `share/man/man<section>/*` and the completions below `share` (as /usr/share is laid out).
///
/// # Errors
/// A directory or file cannot be written.
pub fn write(share: &Path) -> io::Result<()> {
    for (command, section) in programs() {
        let pages = share.join("man").join(format!("man{section}"));
        fs::create_dir_all(&pages)?;
        let mut built = command.clone().disable_help_subcommand(true);
        built.build();
        write_pages(&built, section, &pages)?;
        for (shell, folder) in SHELLS {
            let folder = share.join(folder);
            fs::create_dir_all(&folder)?;
            let name = command.get_name().to_owned();
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command.clone(), &name, &mut text);
            fs::write(folder.join(file_name(*shell, &name)), text)?;
        }
    }
    Ok(())
}

/// One page for the command and one for each subcommand that is shown: `assimcli-rules-show.1`.
fn write_pages(command: &Command, section: &str, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .section(section)
        .source(format!("Assimilation {}", env!("CARGO_PKG_VERSION")))
        .manual("Assimilation")
        .render(&mut text)?;
    fs::write(folder.join(format!("{name}.{section}")), text)?;
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        write_pages(part, section, folder)?;
    }
    Ok(())
}

fn file_name(shell: Shell, program: &str) -> String {
    match shell {
        Shell::Zsh => format!("_{program}"),
        Shell::Fish => format!("{program}.fish"),
        _ => program.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_its_pages_and_completions() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        let page = read("man/man1/assimcli-rules-show.1");
        assert!(page.contains(".TH ASSIMCLI-RULES-SHOW 1"), "{page}");
        assert!(read("man/man8/cma.8").contains("\\-\\-erasedb"));
        assert!(read("man/man8/nanoprobe.8").contains("\\-\\-cmaaddr"));
        assert!(read("bash-completion/completions/assimcli").contains("query"));
        assert!(read("zsh/vendor-completions/_nanoprobe").contains("audit"));
        assert!(read("fish/vendor_completions.d/cma.fish").contains("erasedb"));
        assert!(!folder.path().join("man/man1/assimcli-help.1").exists());
    }
}
