//! Packages of rpm(8). Its database of today, in SQLite, is read as it is. The older ones (Berkeley DB, ndb) and what
//! cannot be understood are for rpm itself to read: it is asked without a shell, with a clean environment and a time
//! limit.

use super::{Found, Lines, MAX_PACKAGES, Packages, rpm_sqlite};
use crate::Host;
use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// One of these exists where rpm manages the system; a change of it is a change of the packages.
const DATABASES: [&str; 6] = [
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/Packages",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];
const PROGRAMS: [&str; 2] = ["/usr/bin/rpm", "/bin/rpm"];
const FORMAT: &str = "%{NAME}::%{ARCH}\\t%{VERSION}-%{RELEASE}\\n";
const LIMIT: Duration = Duration::from_secs(60);
const MAX_OUTPUT_BYTES: u64 = 32 * 1024 * 1024;

pub(super) fn installed(host: &Host) -> Found {
    // All are looked at, so that all are watched.
    let databases: Vec<&str> =
        DATABASES.iter().copied().filter(|path| host.stat(path).is_ok_and(is_database)).collect();
    let Some(database) = databases.first() else { return Ok(None) };
    let mut why = String::new();
    if database.ends_with(".sqlite") {
        match rpm_sqlite::installed(host, database) {
            // Debian's rpm, a tool there, makes an empty database for itself.
            Ok(packages) => return Ok((!packages.is_empty()).then_some(packages)),
            Err(error) => why = format!("{error}; "),
        }
    }
    let (directory, _) = database.rsplit_once('/').unwrap_or(("/", database));
    // The program of this machine reads a tree too: never the one in the tree.
    let running = Host::running();
    let there =
        |path: &&&str| if host.is_running_system() { host.stat(path) } else { running.stat(path) }.is_ok();
    let program = PROGRAMS.iter().find(there);
    let Some(program) = program else {
        return Err(format!(
            "{why}{database}: only rpm can read it, and rpm is not installed on this machine: install it"
        ));
    };
    let mut command = Command::new(program);
    command.args(["-qa", "--queryformat", FORMAT]);
    if !host.is_running_system() {
        // rpm would follow a symbolic link of the tree to the database of this machine.
        if let Some(link) = link_on_the_way(host, directory) {
            return Err(format!(
                "{database}: {link} is a symbolic link, so rpm would leave the file tree: unpack it"
            ));
        }
        command.arg("--root").arg(host.root()).args(["--dbpath", directory]);
    }
    let output = output_within(&mut command, LIMIT).map_err(|error| format!("{program}: {error}"))?;
    let mut packages = Packages::new();
    parse(&mut Lines::new(program, BufReader::new(output.as_slice())), &mut packages)?;
    Ok((!packages.is_empty()).then_some(packages))
}

fn is_database(attributes: crate::Attributes) -> bool {
    attributes.kind == crate::Kind::Regular && attributes.size_bytes > 0
}

/// The first symbolic link among the directories of a path.
pub(super) fn link_on_the_way<'a>(host: &Host, path: &'a str) -> Option<&'a str> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    ends.map(|end| &path[..end])
        .find(|part| host.lstat(part).is_ok_and(|attributes| attributes.kind == crate::Kind::Symlink))
}

/// Lines `name::arch<TAB>version-release`.
pub(super) fn parse<R: std::io::BufRead>(
    lines: &mut Lines<R>,
    packages: &mut Packages,
) -> Result<(), String> {
    while let Some(line) = lines.next()? {
        // Signature keys are kept as packages without an architecture; they are none.
        if let Some((key, version)) = line.split_once('\t')
            && !key.starts_with("gpg-pubkey::")
            && !version.is_empty()
            && packages.len() <= MAX_PACKAGES
        {
            packages.insert((key.to_owned(), version.to_owned()));
        }
    }
    Ok(())
}

/// What a program prints; killed when it takes longer than `limit`.
pub(super) fn output_within(command: &mut Command, limit: Duration) -> Result<Vec<u8>, String> {
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}: reinstall it"))?;
    let (sender, receiver) = mpsc::channel();
    let Some(stdout) = child.stdout.take() else { return Err("has no output".into()) };
    // The reader ends with the pipe; if a grandchild keeps that open, only this thread waits for it.
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut output);
        let _ = sender.send(read.map(|_| output));
    });
    let answer = receiver.recv_timeout(limit);
    if answer.is_err() {
        kill(&mut child);
        return Err(format!(
            "no answer within {} seconds: check its database with rpm --verifydb",
            limit.as_secs_f32()
        ));
    }
    let output = match answer {
        Ok(Ok(output)) if output.len() as u64 <= MAX_OUTPUT_BYTES => output,
        Ok(Ok(_)) => {
            kill(&mut child);
            return Err(format!("printed more than {MAX_OUTPUT_BYTES} bytes: check its database"));
        }
        Ok(Err(error)) => {
            kill(&mut child);
            return Err(format!("its output could not be read: {error}"));
        }
        Err(_) => Vec::new(),
    };
    // It closed its output, so it is about to end; one that does not is ended.
    for _ in 0..100 {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(output),
            Ok(Some(status)) => return Err(format!("failed ({status}): run it by hand to see why")),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("its end was not seen: {error}")),
        }
    }
    kill(&mut child);
    Err("did not end after closing its output".into())
}

fn kill(child: &mut Child) {
    // It may have ended by itself meanwhile: then there is nothing to kill, but still something to wait for.
    let _ = child.kill();
    let _ = child.wait();
}
