//! `assimcli`: asks the CMA through its local socket, and works on keys and rule files without it.
//!
//! A library, so that its manual pages are made from the same definition of the command line.

mod backup;
mod client;
mod commands;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use commands::{
    backup as backup_command, changes, coverage, doctor, draw, events, genkeys, groups, history, hosts,
    impact, keys, notify, path, query, restore, rules, score, sql, tokens,
};
use model::paths::SitePaths;
use output::{Format, note};
use std::path::PathBuf;
use std::process::ExitCode;

/// Ask Assimilation what it knows about your machines, and manage its keys and rules.
///
/// Exit status: 0 = ok, 1 = error, 2 = ran, and found what you should look at.
#[derive(Parser)]
#[command(name = "assimcli", version, max_term_width = 110)]
pub struct Arguments {
    /// Use DIR in front of every path (/etc/assimilation, /var/lib/assimilation ...)
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// How to print: table (times in your own zone), json, jsonl, csv or script (times in UTC); table on a terminal, script
    /// (plain tab-separated lines) otherwise. `draw` has dot, svg, mermaid, graphml and json
    #[arg(short, long, global = true, value_name = "FORMAT", hide_possible_values = true)]
    output: Option<Output>,
    /// en = table, script = plain lines; the choice of the original's command line
    #[arg(long, global = true, value_name = "LANGUAGE", conflicts_with = "output")]
    language: Option<Language>,
    #[command(subcommand)]
    command: Command,
}

/// `-o`: rows in a format, or a drawing in a language.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Jsonl,
    Csv,
    Script,
    Dot,
    Svg,
    Mermaid,
    Graphml,
}

impl Output {
    /// The format of rows; drawings have none.
    fn format(self) -> Option<Format> {
        match self {
            Self::Table => Some(Format::Table),
            Self::Json => Some(Format::Json),
            Self::Jsonl => Some(Format::Jsonl),
            Self::Csv => Some(Format::Csv),
            Self::Script => Some(Format::Script),
            Self::Dot | Self::Svg | Self::Mermaid | Self::Graphml => None,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    En,
    Script,
}

#[derive(Subcommand)]
enum Command {
    /// Ask a canned question; `query list` shows them all
    Query(query::Options),
    /// Run a read-only SELECT over the documented views
    Sql(sql::Options),
    /// Make the CMA's keys: two pairs at first, afterwards one further pair
    Genkeys,
    /// The CMA's keys: which is in use, who trusts which, and bringing the next into use
    Keys(keys::Options),
    /// Show, check, load and try rules
    Rules(rules::Options),
    /// What happened
    Events(events::Options),
    /// What is wrong with the security of the hosts, worst first
    Score(score::Options),
    /// The hosts and their state
    Hosts(hosts::Options),
    /// The groups of hosts, with who is in them and why
    Groups(groups::Options),
    /// Enrolment tokens: what lets new hosts in
    Tokens(tokens::Options),
    /// What stops working if a host, a service or a switch stops
    Impact(impact::Options),
    /// How two hosts, services, switches or addresses are connected
    Path(path::Options),
    /// What a host looked like at a past time, or what changed on it since
    History(history::Options),
    /// What changed just before an event, on its host and around it
    Changes(changes::Options),
    /// What nobody looks at: machines, services, discoveries, rules
    Coverage(coverage::Options),
    /// A picture of the network, the services or the monitoring
    Draw(draw::Options),
    /// Try the alert channels
    Notify(notify::Options),
    /// Everything of the CMA that cannot be made again, in one file; works while it runs
    Backup(backup_command::Options),
    /// Go back to a backup, or to a copy of the database that the CMA kept
    Restore(restore::Options),
    /// What is wrong with this installation, and what to do
    Doctor(doctor::Options),
    /// Print what makes the shell complete assimcli's words; packages install it for all three programs
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
}

/// What a command wants the exit status to be.
pub enum Finding {
    Nothing,
    /// The user must look at something: exit status 2.
    Something,
}

/// An error for people: what happened, and what to do now.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub hint: String,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: String::new() }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Puts what may be meant with a misspelt `word` in front of the hint, if there is anything like it among `known`.
    pub fn meant<'a>(mut self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(near) = model::text::nearest(word, known) {
            self.hint = format!("Did you mean {near:?}? {}", self.hint);
        }
        self
    }
}

impl From<std::io::Error> for Failure {
    /// Output is all that commands write without saying more about it.
    fn from(error: std::io::Error) -> Self {
        Self::new(format!("cannot write the answer: {error}"))
    }
}

/// What every command is given.
pub struct Context {
    pub paths: SitePaths,
    pub format: Format,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if wanted { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let by_language = arguments.language.map(|language| match language {
        Language::En => Format::Table,
        Language::Script => Format::Script,
    });
    let format = arguments.output.and_then(Output::format);
    let context = Context {
        paths: SitePaths::new(arguments.root),
        format: format.or(by_language).unwrap_or_else(Format::by_terminal),
    };
    match run(&context, arguments.output, arguments.command) {
        Ok(Finding::Nothing) => ExitCode::SUCCESS,
        Ok(Finding::Something) => ExitCode::from(2),
        Err(failure) => {
            note!("assimcli: {}", model::text::printable(&failure.message));
            if !failure.hint.is_empty() {
                note!("  {}", model::text::printable(&failure.hint));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(context: &Context, output: Option<Output>, command: Command) -> Result<Finding, Failure> {
    if let Some(output) = output.filter(|output| output.format().is_none())
        && !matches!(command, Command::Draw(_))
    {
        return Err(Failure::new(format!("-o {} is for `assimcli draw` only", output.name()))
            .hint("Here it is one of table, json, jsonl, csv and script."));
    }
    match command {
        Command::Draw(options) => draw::run(context, output, &options),
        Command::Query(options) => query::run(context, &options),
        Command::Sql(options) => sql::run(context, &options),
        Command::Genkeys => genkeys::run(context),
        Command::Keys(options) => keys::run(context, &options),
        Command::Rules(options) => rules::run(context, &options),
        Command::Events(options) => events::run(context, &options),
        Command::Score(options) => score::run(context, &options),
        Command::Hosts(options) => hosts::run(context, &options),
        Command::Groups(options) => groups::run(context, &options),
        Command::Tokens(options) => tokens::run(context, &options),
        Command::Impact(options) => impact::run(context, &options),
        Command::Path(options) => path::run(context, &options),
        Command::History(options) => history::run(context, &options),
        Command::Changes(options) => changes::run(context, &options),
        Command::Coverage(options) => coverage::run(context, &options),
        Command::Notify(options) => notify::run(context, &options),
        Command::Backup(options) => backup_command::run(context, &options),
        Command::Restore(options) => restore::run(context, &options),
        Command::Doctor(options) => doctor::run(context, &options),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "assimcli", &mut text);
            std::io::Write::write_all(&mut std::io::stdout(), &text)?;
            Ok(Finding::Nothing)
        }
    }
}
