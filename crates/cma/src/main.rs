//! `cma`: reads the command line and starts the daemon.

use clap::Parser;
use clap::error::ErrorKind;
use cma::settings::{Arguments, Command, ConfigCommand};
use daemon::pidfile;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// How long `--kill` waits for the running one.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if wanted { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    if let Some(Command::Config { command: ConfigCommand::Check { file } }) = &arguments.command {
        return ended(cma::config_check::run(file.as_deref(), &arguments.site()));
    }
    if arguments.print_config {
        let page = cma::print_config::print(std::env::args_os());
        return ended(page.map(|page| {
            let _ = std::io::stdout().write_all(page.as_bytes());
            true
        }));
    }
    let pidfile = arguments.pidfile();
    if arguments.status {
        let status = pidfile::status(&pidfile, "cma");
        let text = match status {
            pidfile::Status::Running => "cma is running",
            pidfile::Status::DeadWithPidFile => "cma is dead, its pid file is still there",
            pidfile::Status::NotRunning => "cma is not running",
            pidfile::Status::Unknown => "whether cma is running is unknown: its pid file cannot be read",
        };
        println!("{text}");
        return ExitCode::from(status as u8);
    }
    let result = if arguments.kill {
        pidfile::kill(&pidfile, "cma", KILL_TIMEOUT).map_err(|error| error.to_string())
    } else {
        cma::startup::run(&arguments).map_err(|error| error.to_string())
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cma: {}", model::text::printable(&error));
            ExitCode::FAILURE
        }
    }
}

/// Of what only looks at the settings: `false` is said by now.
fn ended(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            for line in error.lines() {
                eprintln!("cma: {}", model::text::printable(line));
            }
            ExitCode::FAILURE
        }
    }
}
