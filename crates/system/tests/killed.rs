//! `kill -9` at random moments: every transition that a nanoprobe saw reaches the notification script, in order,
//! and a repeated delivery carries the same event id.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use system::network::{Host, Network};
use system::site::{Programs, Site, last_lines};
use system::wait_for;

const RULE: &str = "nist_V-38528";
const PARAMETER: &str = "net.ipv4.conf.all.log_martians";

struct Scene {
    site: Site,
    picard: Host,
    record: PathBuf,
    _network: Network,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::new(&["unimatrixzero", "picard"]).unwrap();
        let center = network.host("unimatrixzero").unwrap().clone();
        let picard = network.host("picard").unwrap().clone();
        let address = format!("{}:1984", center.address);
        let site =
            Site::create_at(&folder.path().join("site"), Programs::built().unwrap(), &address, Some(center))
                .unwrap();
        let record = folder.path().join("alerts");
        let script = site.paths.shared("notification.d").join("record.sh");
        let text = format!(
            "#!/bin/sh\n[ \"$ASSIM_ruleid\" = {RULE} ] || exit 0\necho \"$1 $ASSIM_eventid\" >> '{}'\n",
            record.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // 200 changes in as few seconds cost more than the budget of an idle host, the more so in a debug build.
        fs::write(site.paths.cma_config(), "[discovery]\ncpu_budget_percent = 0\n").unwrap();
        picard.sysctl(PARAMETER, "1").unwrap();
        Scene { site, picard, record, _network: network, _folder: folder }
    }

    fn wait_until_judged(&self) {
        let judged = format!(
            "SELECT 1 FROM rule_results WHERE host = 'picard' AND rule_id = '{RULE}' AND status = 'pass'"
        );
        wait_for("picard to be judged", Duration::from_secs(60), || {
            (self.site.count(&judged) == 1).then_some(())
        })
        .unwrap_or_else(|e| {
            panic!(
                "{e}\n{}\n{}",
                last_lines(&self.site.log("cma")),
                last_lines(&self.site.log("nanoprobe-picard"))
            )
        });
    }

    /// (event, id) of every delivery, repeats included.
    fn deliveries(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(event, id)| (event.to_owned(), id.to_owned()))
            .collect()
    }

    /// Event types in the order of their first delivery.
    fn transitions(&self) -> Vec<String> {
        let mut seen = BTreeMap::new();
        let mut order = Vec::new();
        for (event, id) in self.deliveries() {
            let first = seen.entry(id).or_insert_with(|| {
                order.push(event.clone());
                event.clone()
            });
            assert_eq!(*first, event, "a repeat changed its meaning");
        }
        order
    }

    /// When the nanoprobe last wrote down a change of /proc/sys: the newest such document in its queue, or the one it
    /// keeps after the acknowledgement (the same file, renamed).
    fn noticed(&self) -> Option<SystemTime> {
        let state = self.site.paths.root().join("hosts/picard/var/lib/assimilation/nanoprobe");
        let queued =
            fs::read_dir(state.join("queue")).into_iter().flatten().flatten().map(|entry| entry.path());
        // What has its temporary name is not written down yet: a kill at that moment loses it, and rightly so.
        let queued = queued.filter(|path| path.extension().is_none_or(|extension| extension != "new"));
        let files = queued.chain([state.join("kept/_auto_proc_sys")]);
        let about_proc_sys = |path: &PathBuf| {
            fs::read(path).is_ok_and(|bytes| bytes.windows(14).any(|w| w == b"_auto_proc_sys"))
        };
        files.filter(about_proc_sys).filter_map(|path| path.metadata().ok()?.modified().ok()).max()
    }

    /// Sets the parameter and waits until the nanoprobe has written the change down.
    fn flip(&self, value: &str) {
        let before = self.noticed();
        self.picard.sysctl(PARAMETER, value).unwrap();
        wait_for("the nanoprobe to notice", Duration::from_secs(90), || {
            (self.noticed() > before).then_some(())
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", last_lines(&self.site.log("nanoprobe-picard"))));
    }
}

/// A small generator, so that a failure can be repeated from the printed seed (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(u64::from(std::process::id()) | 1);
        eprintln!("SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn alternate(transitions: &[String]) {
    for (index, event) in transitions.iter().enumerate() {
        let expected = if index % 2 == 0 { "warn" } else { "unwarn" };
        assert_eq!(event, expected, "out of order at {index}: {transitions:?}");
    }
}

#[test]
fn two_hundred_transitions_survive_kills_of_the_cma() {
    let scene = Scene::new();
    let mut random = Random::new();
    let first = scene.site.start_cma(&[]).unwrap();
    let _nanoprobe = scene
        .site
        .start_nanoprobe("picard", Some(&scene.picard), &["--cmaaddr", &scene.site.address])
        .unwrap();
    scene.wait_until_judged();

    let done = AtomicBool::new(false);
    // Also when the test fails: the killer must not go on for ever.
    let stop = StopWhenDropped(&done);
    let kills = std::thread::scope(|threads| {
        let stop = stop;
        let (done, scene, random) = (&done, &scene, &mut random);
        let killer = threads.spawn(move || {
            let mut cma = first;
            let mut kills = 0;
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50 + random.below(1500)));
                cma.kill();
                kills += 1;
                std::thread::sleep(Duration::from_millis(random.below(300)));
                cma = scene.site.start_cma(&[]).unwrap();
            }
            (cma, kills)
        });
        for round in 0..200 {
            let value = if round % 2 == 0 { "0" } else { "1" };
            scene.flip(value);
        }
        drop(stop);
        let (cma, kills) = killer.join().unwrap();
        wait_for("all transitions", Duration::from_secs(120), || {
            (scene.transitions().len() >= 200).then_some(())
        })
        .unwrap_or_else(|e| {
            panic!(
                "{e}: {} of 200\nCMA:\n{}\nnanoprobe:\n{}",
                scene.transitions().len(),
                last_lines(&scene.site.log("cma")),
                last_lines(&scene.site.log("nanoprobe-picard"))
            )
        });
        drop(cma);
        kills
    });
    assert!(kills >= 3, "only {kills} kills: the test tested nothing");
    let transitions = scene.transitions();
    alternate(&transitions);
    assert_eq!(transitions.len(), 200);
    eprintln!("{kills} kills, {} deliveries of 200 transitions", scene.deliveries().len());
}

#[test]
fn what_a_killed_nanoprobe_had_seen_arrives_and_its_last_state_too() {
    let scene = Scene::new();
    let mut random = Random::new();
    let _cma = scene.site.start_cma(&[]).unwrap();
    let start = || {
        scene
            .site
            .start_nanoprobe("picard", Some(&scene.picard), &["--cmaaddr", &scene.site.address])
            .unwrap()
    };
    let mut nanoprobe = start();
    scene.wait_until_judged();

    for round in 0..40 {
        let value = if round % 2 == 0 { "0" } else { "1" };
        scene.flip(value);
        if random.below(3) == 0 {
            // Some kills hit while it is still sending or storing.
            std::thread::sleep(Duration::from_millis(random.below(60)));
            nanoprobe.kill();
            nanoprobe = start();
        }
    }
    // The last flip mended the rule: the CMA must end up knowing that.
    let mended = format!(
        "SELECT 1 FROM rule_results WHERE host = 'picard' AND rule_id = '{RULE}' AND status = 'pass'"
    );
    wait_for("the last state", Duration::from_secs(60), || {
        (scene.site.count(&mended) == 1 && scene.transitions().len() >= 40).then_some(())
    })
    .unwrap_or_else(|e| {
        panic!(
            "{e}: {} transitions\n{}",
            scene.transitions().len(),
            last_lines(&scene.site.log("nanoprobe-picard"))
        )
    });
    alternate(&scene.transitions());
    assert_eq!(scene.transitions().len(), 40);
}
