//! `nanoprobe`: reads the command line and hands over to the library.

use model::paths::SitePaths;
use nanoprobe::agent::start;
use nanoprobe::cli::{Cli, Command, Parsed, parse};
use nanoprobe::{audit, discover, monitoring, network};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let code = match parse(std::env::args_os()) {
        Parsed::Print(text) => finish(&text, "", 0),
        Parsed::Wrong(text) => finish("", &text, 1),
        Parsed::Run(cli) => run(&cli),
    };
    ExitCode::from(code)
}

fn run(cli: &Cli) -> u8 {
    if let Some(Command::Network) = &cli.command {
        return network::process::run();
    }
    if let Some(Command::Discover(arguments)) = &cli.command {
        if let Some(file) = &arguments.pcap {
            let (mut output, mut messages) = (std::io::stdout().lock(), std::io::stderr().lock());
            return discover::capture::run(arguments, file, &cli.host_root, &mut output, &mut messages);
        }
        let pretty = std::io::stdout().is_terminal();
        let answer = discover::discover(arguments, &SitePaths::new(&cli.root), &cli.host_root, pretty);
        return finish(&answer.output, &answer.messages, answer.code);
    }
    if let Some(Command::Audit(arguments)) = &cli.command {
        return audit::run(arguments, &SitePaths::new(&cli.root), &cli.host_root);
    }
    if let Some(Command::Monitors(arguments)) = &cli.command {
        return monitoring::by_hand::run(arguments, &SitePaths::new(&cli.root), &cli.host_root);
    }
    if cli.agent.status {
        let (text, code) = start::status(cli);
        return finish(&(text + "\n"), "", code);
    }
    let result = if cli.agent.kill {
        start::kill(cli).map_err(|error| error.to_string())
    } else {
        start::run(cli).map_err(|error| error.to_string())
    };
    match result {
        Ok(()) => 0,
        Err(error) => finish("", &format!("nanoprobe: {}\n", model::text::printable(&error)), 1),
    }
}

/// A reader that has gone away is no error of ours.
fn finish(output: &str, messages: &str, code: u8) -> u8 {
    let _ = std::io::stderr().write_all(messages.as_bytes());
    let _ = std::io::stdout().write_all(output.as_bytes());
    code
}
