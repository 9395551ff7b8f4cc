//! `nanoprobe`: reads the command line and hands over to the library.

use model::paths::SitePaths;
use nanoprobe::agent::start;
use nanoprobe::cli::{Cli, Command, ConfigCommand, Parsed, parse};
use nanoprobe::{audit, discover, monitoring, network, print_config, reach};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Not for people, and small: it never meets the command line's parser.
    if std::env::args_os().nth(1).is_some_and(|word| word == network::process::COMMAND) {
        return ExitCode::from(network::process::run());
    }
    let code = match parse(std::env::args_os()) {
        Parsed::Print(text) => finish(&text, "", 0),
        Parsed::Wrong(text) => finish("", &text, 1),
        Parsed::Run(cli) => run(&cli),
    };
    ExitCode::from(code)
}

fn run(cli: &Cli) -> u8 {
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
    if let Some(Command::Reach(arguments)) = &cli.command {
        let answer = reach::run(arguments);
        return finish(&answer.output, &answer.messages, answer.code);
    }
    if let Some(Command::Config { command: ConfigCommand::Check { file } }) = &cli.command {
        let path = file.clone().unwrap_or_else(|| SitePaths::new(&cli.root).nanoprobe_config());
        return match daemon::settings::text(&path) {
            Ok(None) if file.is_some() => {
                finish("", &format!("nanoprobe: {}: there is no such file\n", path.display()), 1)
            }
            Ok(text) => {
                let (page, is_good) = print_config::report(&path.display().to_string(), text.as_deref());
                finish(&page, "", u8::from(!is_good))
            }
            Err(error) => {
                finish("", &format!("nanoprobe: {}\n", model::text::printable(&error.to_string())), 1)
            }
        };
    }
    if cli.print_config {
        let file = SitePaths::new(&cli.root).nanoprobe_config();
        let page = daemon::settings::text(&file).map_err(|error| error.to_string()).and_then(|text| {
            let environment = |name: &str| std::env::var(name).ok();
            let (path, text) = (file.display().to_string(), text.unwrap_or_default());
            print_config::print(&path, &text, &cli.agent, environment, &print_config::host_name())
        });
        return match page {
            Ok(page) => finish(&page, "", 0),
            Err(error) => {
                let lines =
                    error.lines().map(|line| format!("nanoprobe: {}\n", model::text::printable(line)));
                finish("", &lines.collect::<String>(), 1)
            }
        };
    }
    if cli.agent.status {
        let (text, code) = start::status(cli);
        return finish(&(text + "\n"), "", code);
    }
    if cli.agent.key {
        return match start::key(cli) {
            Ok(fingerprint) => finish(&format!("{fingerprint}\n"), "", 0),
            Err(error) => {
                finish("", &format!("nanoprobe: {}\n", model::text::printable(&error.to_string())), 1)
            }
        };
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
