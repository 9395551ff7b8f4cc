//! Clocks that are far off and jump. The programs see the real one through a few lines of C that add what a file says,
//! loaded before the C library; the monotonic clock stays as it is, as on a machine whose time somebody sets.

use crate::rig::{Scene, texts, wrapped};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use system::process::run;

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile const long long *offset_seconds;
__attribute__((constructor)) static void start(void) {
    const char *path = getenv("CLOCK_OFFSET_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(0, sizeof *offset_seconds, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset_seconds = found;
    close(file);
}
int clock_gettime(clockid_t which, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, which, time);
    if (result == 0 && which == CLOCK_REALTIME && offset_seconds) time->tv_sec += *offset_seconds;
    return result;
}
"#;

/// One program's idea of the time.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path, name: &str) -> Clock {
        let clock = Clock(folder.join(format!("clock-{name}")));
        clock.set(0);
        clock
    }

    /// Seconds that are added from now on.
    fn set(&self, offset_seconds: i64) {
        // In place: the program has the file mapped.
        let mut file = fs::File::options().create(true).truncate(false).write(true).open(&self.0).unwrap();
        std::io::Write::write_all(&mut file, &offset_seconds.to_ne_bytes()).unwrap();
    }

    fn line(&self, shim: &Path) -> String {
        format!("CLOCK_OFFSET_FILE='{}' LD_PRELOAD='{}' exec REAL", self.0.display(), shim.display())
    }
}

const DAY: i64 = 86_400;

#[test]
fn clocks_that_are_wrong_or_jump_are_named_and_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (source, shim) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
    fs::write(&source, SHIM).unwrap();
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source)).unwrap();
    let (center, probe) = (Clock::new(folder.path(), "cma"), Clock::new(folder.path(), "nanoprobe"));
    let lines = [("cma", center.line(&shim)), ("nanoprobe", probe.line(&shim))];
    let lines = lines.each_ref().map(|(name, line)| (*name, line.as_str()));
    let programs = wrapped(folder.path(), &lines);
    let scene = Scene::with_programs(&["picard"], programs, folder);

    // Ten years behind from the start.
    probe.set(-3650 * DAY);
    let mut cma = scene.site.start_cma(&[]).unwrap();
    let mut nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    let log = scene.log("nanoprobe-picard");
    assert!(log.contains("this host's clock and the CMA's differ seconds=3153"), "{log}");
    let (code, text) = scene.assimcli(&["-o", "script", "doctor", "clock"]);
    assert!(code == 2 && text.contains("the clock of picard is 10 years behind the CMA's"), "{text}");
    scene.prove_that_changes_arrive("picard");
    let by_host = "SELECT seen FROM documents WHERE instance = '_auto_proc_sys' AND seen < since";
    assert_eq!(scene.site.count(by_host), 1, "what the host says about its time is kept as it is");

    // Jumps while everything runs, forward and back, on either side: nothing waits for the old time to come again.
    for (clock, offset) in [
        (&probe, 3650 * DAY),
        (&probe, -2 * DAY),
        (&center, 30 * DAY),
        (&center, -30 * DAY),
        (&center, 0),
        (&probe, 0),
    ] {
        clock.set(offset);
        scene.prove_that_changes_arrive("picard");
    }
    let expected = ["warn", "unwarn"].repeat(7);
    assert_eq!(
        scene.transitions("picard"),
        expected,
        "in the order in which it happened, whatever the clocks said"
    );
    let inverted = "SELECT host FROM rule_history WHERE until <= since UNION ALL SELECT host FROM changes WHERE until <= since";
    assert_eq!(
        texts(&scene.site.ask(&["sql", inverted]).unwrap(), "host"),
        Vec::<String>::new(),
        "no period ends before it began"
    );
    cma.still_running().unwrap();
    nanoprobe.still_running().unwrap();
}
