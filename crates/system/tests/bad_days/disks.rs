//! Disks that are full or read-only, and files that are no database of ours.

use crate::rig::{PARAMETER, RULE, Scene, ended, wrapped};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use system::process::Running;
use system::site::Programs;
use system::wait_for;

/// A mount namespace with a small file system of its own on one directory; gone when dropped.
struct SmallDisk {
    holder: Child,
    place: PathBuf,
}

impl SmallDisk {
    /// `options` as mount(8) takes them: `size=8m`, `ro`.
    fn mount(place: &Path, options: &str) -> SmallDisk {
        fs::create_dir_all(place).unwrap();
        let script = r#"mount -t tmpfs -o "$1" none "$0" && echo ready && exec sleep 600"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(place).arg(options);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
        SmallDisk { holder, place: place.to_owned() }
    }

    /// A line of shell that starts a program where this disk is.
    fn enter(&self) -> String {
        format!("exec nsenter --mount=/proc/{}/ns/mnt REAL", self.holder.id())
    }

    /// A path on the disk as it looks from here.
    fn at(&self, name: &str) -> PathBuf {
        let inside = self.place.join(name);
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(inside.strip_prefix("/").unwrap())
    }

    /// Takes the room that is left, but for so many bytes.
    fn fill(&self, rest_bytes: u64) {
        let mut file = fs::File::options().create(true).append(true).open(self.at("filler")).unwrap();
        for block in [vec![1; 65536], vec![1; 512], vec![1]] {
            while file.write_all(&block).is_ok() {}
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(rest_bytes)).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.at("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The state directory of the site that `Scene` makes in `folder`.
fn state_in(folder: &Path) -> PathBuf {
    folder.join("site/var/lib/assimilation")
}

#[test]
fn a_full_disk_of_the_cma_loses_nothing_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&state_in(folder.path()), "size=16m");
    let programs = wrapped(folder.path(), &[("cma", &disk.enter()), ("assimcli", &disk.enter())]);
    let scene = Scene::with_programs(&["picard"], programs, folder);
    let cma = scene.site.start_cma(&[]).unwrap();
    let nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    scene.wait("the queue to be empty", || (scene.queue("picard").is_empty()).then_some(()));

    // With its journal taken in and little room for another, SQLite meets the end of the disk soon.
    drop(cma);
    take_in_journal(&scene, &disk.at("cma.sqlite"));
    disk.fill(2 * 1024 * 1024);
    let cma = scene.site.start_cma(&[]).unwrap();
    scene.prove_that_changes_arrive("picard");
    disk.fill(0);
    let full = |text: &str| text.contains("nothing can be stored");
    let mut flips = scene.transitions("picard").len();
    let mut flip = || {
        scene.flip("picard", ["0", "1"][flips % 2]);
        flips += 1;
    };
    scene.wait("doctor to name the full disk", || {
        flip();
        full(&scene.assimcli(&["doctor"]).1).then_some(())
    });
    let (code, text) = scene.assimcli(&["doctor"]);
    assert!(code == 2 && full(&text), "{code} {text}");
    assert!(text.contains("make room") && text.contains("0 MB free"), "{text}");
    let waiting = scene.queue("picard");
    assert!(!waiting.is_empty(), "something was acknowledged that is not stored");
    (0..3).for_each(|_| flip());
    let more = scene.queue("picard");
    assert!(
        more.is_superset(&waiting) && more.len() >= waiting.len() + 3,
        "all of it stays: {waiting:?} {more:?}"
    );
    // What was stored before can still be asked for.
    assert_eq!(scene.assimcli(&["hosts"]).0, 0);

    // A nanoprobe that comes anew meanwhile is told why it has to wait, and still has its queue.
    nanoprobe.kill();
    let mut nanoprobe = scene.start("picard");
    scene.wait_until_logged("nanoprobe-picard", "the CMA cannot store anything at the moment");
    nanoprobe.still_running().unwrap();

    // A CMA that is started on the full disk answers questions, and says the same.
    cma.kill();
    disk.fill(0);
    let mut cma = scene.site.start_cma(&[]).unwrap();
    assert_eq!(scene.site.count("SELECT 1 FROM hosts WHERE host = 'picard'"), 1);
    scene.wait("doctor to name the full disk again", || {
        flip();
        full(&scene.assimcli(&["doctor"]).1).then_some(())
    });
    assert!(!scene.queue("picard").is_empty(), "something was acknowledged that is not stored");

    disk.make_room();
    scene.wait("everything to arrive", || (scene.queue("picard").is_empty()).then_some(()));
    scene.wait_until_judged("picard", ["pass", "fail"][flips % 2]);
    let transitions = scene.transitions("picard");
    assert_eq!(transitions.len(), flips, "each transition once: {transitions:?}");
    assert!(
        transitions.iter().enumerate().all(|(n, event)| event == ["warn", "unwarn"][n % 2]),
        "{transitions:?}"
    );
    let periods = format!("SELECT 1 FROM rule_history WHERE host = 'picard' AND rule_id = '{RULE}'");
    assert_eq!(scene.site.count(&periods), flips + 1);
    assert!(!full(&scene.assimcli(&["doctor"]).1));
    scene.wait_until_logged("cma", "the database can be written again");
    cma.still_running().unwrap();
}

#[test]
fn a_read_only_state_directory_is_named_by_the_cma_and_survived_by_the_nanoprobe() {
    let folder = tempfile::tempdir().unwrap();
    let nanoprobes_state = folder.path().join("site/hosts/picard/var/lib/assimilation");
    let disk = SmallDisk::mount(&nanoprobes_state, "size=1m,ro");
    let programs = wrapped(folder.path(), &[("nanoprobe", &disk.enter())]);
    let scene = Scene::with_programs(&["picard"], programs, folder);

    // The CMA in front of a read-only directory does not start.
    let state = scene.site.paths.state();
    let cmas = SmallDisk::mount(&state, "size=1m,ro");
    let only = wrapped(&scene.folder.path().join("only"), &[("cma", &cmas.enter())]);
    let text = cma_refuses(&scene, &only);
    assert!(text.contains(&state.display().to_string()), "{text}");
    assert!(
        text.contains("Read-only file system") && text.contains("mount its file system writable"),
        "{text}"
    );

    // The nanoprobe works from memory and says what that means.
    let _cma = scene.site.start_cma(&[]).unwrap();
    let mut nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    let log = scene.log("nanoprobe-picard");
    assert!(log.contains("changes are not safe from a restart"), "{log}");
    assert!(log.contains(&nanoprobes_state.display().to_string()) && log.contains("ead-only"), "{log}");
    scene.prove_that_changes_arrive("picard");
    let lines = |text: &str| text.matches("changes are not safe from a restart").count();
    assert_eq!(lines(&scene.log("nanoprobe-picard")), 1, "said once, not for every change");
    nanoprobe.still_running().unwrap();
}

/// Where a reader was the last to close the database, its journal is still there: the next CMA takes it in.
fn take_in_journal(scene: &Scene, database: &Path) {
    let journal = database.with_extension("sqlite-wal");
    scene.wait("the journal to be taken in", || {
        if fs::metadata(&journal).is_ok_and(|journal| journal.len() > 0) {
            drop(scene.site.start_cma(&[]).unwrap());
            return None;
        }
        Some(())
    });
}

/// Starts the CMA, which must end with exit code 1; what it printed.
fn cma_refuses(scene: &Scene, programs: &Programs) -> String {
    let log = scene.folder.path().join("refusal");
    let _ = fs::remove_file(&log);
    let mut command = scene.host("unimatrixzero").command(&programs.path("cma"));
    command.arg("--root").arg(scene.site.paths.root()).args([
        "--user",
        "root",
        "--bind",
        &scene.site.address,
    ]);
    let status = ended(&mut Running::start("cma", &mut command, &log).unwrap());
    let text = fs::read_to_string(log).unwrap();
    assert!(status.contains("exit status: 1"), "{status} {text}");
    text
}

#[test]
fn a_newer_or_foreign_database_is_refused_and_left_as_it_is() {
    let scene = Scene::new(&["picard"]);
    let database = scene.site.paths.database();
    let cma = scene.site.start_cma(&[]).unwrap();
    let nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    drop(nanoprobe);
    drop(cma);
    take_in_journal(&scene, &database);

    let good = fs::read(&database).unwrap();
    let refused = |content: &[u8]| {
        fs::write(&database, content).unwrap();
        let text = cma_refuses(&scene, &scene.site.programs);
        assert!(text.contains(&database.display().to_string()), "the file is not named: {text}");
        assert!(fs::read(&database).unwrap() == content, "a refused file was changed");
        text
    };
    // The version is the big-endian number at byte 60 of the header (SQLite's file format, 1.3).
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&9999u32.to_be_bytes());
    let text = refused(&newer);
    assert!(text.contains("9999") && text.contains("newer"), "{text}");
    let text = refused(b"Dear diary, this is no database.\n");
    assert!(text.contains("is no SQLite database") && text.contains("--store"), "{text}");
    // Another program's: its application id is at byte 68.
    let mut foreign = good.clone();
    foreign[68..72].copy_from_slice(&7u32.to_be_bytes());
    let text = refused(&foreign);
    assert!(text.contains("another program") && text.contains("--store"), "{text}");

    fs::write(&database, &good).unwrap();
    let _cma = scene.site.start_cma(&[]).unwrap();
    assert_eq!(scene.site.count("SELECT 1 FROM hosts WHERE host = 'picard'"), 1, "the good one is as it was");
    scene.host("picard").sysctl(PARAMETER, "1").unwrap();
    let _nanoprobe = scene.start("picard");
    wait_for("picard to be up again", crate::rig::PATIENCE, || {
        (scene.site.count("SELECT 1 FROM hosts WHERE status = 'up'") == 1).then_some(())
    })
    .unwrap();
}
