//! The graph of a large site, for `cargo xtask bench graph`: loads it through the CMA's own ingest, asks it, and lives
//! through a month of changes. Prints one figure a line: name, value and goal, separated by tabs.
//!
//! `graph load|ask|history DATABASE HOSTS SEED`; `graph keys DIRECTORY HOSTS SEED` writes the key files of the hosts, which a
//! CMA that is started on the database would make one by one, each synced to the disk.

mod ask;
mod history;
mod load;

use load::Failure;
use model::Designation;
use sim::documents::DocumentSite;
use std::path::Path;
use std::process::ExitCode;
use store::sqlite::SqliteStore;
use wire::keys::KeyId;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, path, hosts, seed] = words.as_slice() else {
        return Err("usage: graph load|ask|history|keys DATABASE|DIRECTORY HOSTS SEED".into());
    };
    let site = DocumentSite::new(seed.parse()?, hosts.parse()?);
    let path = Path::new(path);
    match what.as_str() {
        "load" => loaded(&site, path),
        "ask" => ask::measure(&site, path),
        "history" => history::measure(&site, path),
        "keys" => key_files(&site, path),
        other => Err(format!("{other:?} is none of load, ask, history, keys").into()),
    }
}

fn loaded(site: &DocumentSite, path: &Path) -> Result<(), Failure> {
    let store = SqliteStore::open(path)?;
    let cost = load::load(site, Box::new(store), load::knowledge())?;
    let documents = cost.documents as f64;
    let hosts = site.hosts();
    figure(
        &format!("load of {hosts} hosts, {} documents, rules and all", cost.documents),
        &format!("{:.0} s", cost.seconds),
        "",
    );
    figure("documents a second, one writer", &format!("{:.0} /s", documents / cost.seconds), "");
    let each = |seconds: f64| format!("{:.0} s, {:.2} ms each", seconds, seconds / documents * 1000.0);
    figure("CPU of the writer: graph, rules, events, database", &each(cost.writer_seconds), "");
    figure("CPU for opening reports, on other threads", &each(cost.opening_seconds), "");
    let bytes = size_bytes(path)?;
    figure("database", &format!("{:.0} MB, {:.0} kB a host", bytes / 1e6, bytes / 1e3 / hosts as f64), "");
    Ok(())
}

fn key_files(site: &DocumentSite, directory: &Path) -> Result<(), Failure> {
    for host in 0..site.hosts() {
        let key = load::key(host);
        let file = KeyId::host(&Designation::new(&site.name(host))?, &key).public_file();
        std::fs::write(directory.join(file), key.0)?;
    }
    Ok(())
}

/// Bytes on disk; nobody has the database open, so there is no journal beside it.
fn size_bytes(path: &Path) -> Result<f64, Failure> {
    Ok(std::fs::metadata(path)?.len() as f64)
}

fn figure(name: &str, value: &str, goal: &str) {
    println!("{name}\t{value}\t{goal}");
}
