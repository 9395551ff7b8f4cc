//! The graph of a large site: loading it, asking it in the CMA and by `assimcli`, and a month of its history.

use super::{figure, percentile};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use system::network::Network;
use system::process::capture;
use system::site::{Programs, Site};

/// Decides what the site looks like.
const SEED: &str = "1";
/// Runs of each command, after one that is not counted.
const RUNS: usize = 30;

pub fn measure(programs: &Programs, hosts: usize) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("assimilation-graph-{}", std::process::id()));
    let result = in_folder(&folder, programs, hosts);
    let _ = fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path, programs: &Programs, hosts: usize) -> Result<(), String> {
    // A namespace without a way out: the CMA asks for the names of addresses, and these are made up.
    let network = Network::new(&["center"])?;
    let center = network.host("center")?;
    let address = format!("{}:1984", center.address);
    let site = Site::create_at(folder, programs.clone(), &address, Some(center.clone()))?;
    let config = site.paths.cma_config();
    fs::write(&config, "[notify]\nscripts = false\nsyslog = false\n")
        .map_err(|error| format!("{}: {error}", config.display()))?;
    for what in ["load", "ask"] {
        figures(programs, what, &site.paths.database(), hosts)?;
    }
    figures(programs, "keys", &site.paths.crypto(), hosts)?;
    {
        let _cma = site.start_cma(&[])?;
        commands(&site)?;
    }
    figures(programs, "history", &site.paths.database(), hosts)
}

/// Prints what the example `graph` of the simulator measures, as it comes.
fn figures(programs: &Programs, what: &str, place: &Path, hosts: usize) -> Result<(), String> {
    let mut command = Command::new(programs.path("examples/graph"));
    command.arg(what).arg(place).arg(hosts.to_string()).arg(SEED);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the example graph of the simulator does not start: {error}"))?;
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
        let line = line.map_err(|error| format!("graph {what}: {error}"))?;
        let mut parts = line.split('\t');
        let (name, value, goal) = (parts.next(), parts.next(), parts.next());
        figure(name.unwrap_or_default(), value.unwrap_or_default(), goal.unwrap_or_default());
    }
    let status = child.wait().map_err(|error| format!("graph {what}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("graph {what} ended with {status}")) }
}

/// `assimcli` from start to finish, against a CMA that runs on the database.
fn commands(site: &Site) -> Result<(), String> {
    let found = site.ask(&[
        "sql",
        "SELECT host, ipaddr FROM addresses WHERE ifname = 'eth0' AND ipaddr LIKE '10.%' LIMIT 1",
    ])?;
    let text = |field: &str| found[0][field].as_str().map(str::to_owned).ok_or("no host has an address");
    let (host, ip) = (text("host")?, text("ipaddr")?);
    for words in
        [["query", "findip", &ip].as_slice(), &["query", "hostdependencies", &host], &["impact", &host]]
    {
        let mut times = Vec::new();
        for _ in 0..=RUNS {
            // Not in the namespace: the socket is a file, and entering one would be part of the time.
            let mut command = Command::new(site.programs.path("assimcli"));
            command.arg("--root").arg(site.paths.root()).args(words);
            let begun = Instant::now();
            let output = capture(&mut command)?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            if !matches!(output.status.code(), Some(0 | 2)) {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(format!("assimcli {} failed: {said}", words.join(" ")));
            }
        }
        // The first one has to read the program from the disk.
        let mut times = times.split_off(1);
        times.sort_by(f64::total_cmp);
        figure(
            &format!("assimcli {}, start to finish", words[..words.len() - 1].join(" ")),
            &format!("{:.0} / {:.0} ms", percentile(&times, 0.5), percentile(&times, 0.95)),
            "≤ 60 ms",
        );
    }
    Ok(())
}
