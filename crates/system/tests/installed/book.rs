//! The book's walks, typed word for word on freshly installed machines, in the order in which a reader does them.

use crate::release::Release;
use std::path::Path;
use std::time::{Duration, Instant};
use system::book::{self, Step};
use system::booted::{Machine, ROOT_PASSWORD, quoted};
use system::network::Network;

/// How long a question may be asked again before its answer has to be the one of the chapter.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the reader has unpacked the release.
const RELEASE: &str = "/root/release";

fn chapter(name: &str) -> Vec<Step> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let steps = book::steps(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(steps.len() > 5, "{name} has only {} commands", steps.len());
    steps
}

/// Types a command at a terminal 200 columns wide, as the reader does: exit status and everything that is shown.
fn typed(machine: &Machine, command: &str) -> (i32, String) {
    let at_terminal = format!("stty cols 200; cd {RELEASE}; {command}");
    let script = format!(
        "NO_COLOR=1 script --quiet --return --command {} /dev/null < /dev/null",
        quoted(&at_terminal)
    );
    let output = machine.run(&script).unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    (output.status.code().unwrap_or(-1), shown)
}

fn follow(name: &str, machines: &[&Machine]) {
    for step in chapter(name) {
        let machine = machines
            .iter()
            .find(|machine| machine.hostname() == step.machine)
            .unwrap_or_else(|| panic!("{name}, {step}: there is no such machine"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (exit, shown) = typed(machine, &step.command);
            let Some(problem) = step.problem(exit, &shown) else { break };
            if !step.asks() || Instant::now() > deadline {
                let wanted = step.shown.join("\n");
                let journal = machine.journal(&["assimilation-cma", "assimilation-nanoprobe"]);
                panic!(
                    "{name}, {step}\n{problem}\n── the chapter shows\n{wanted}\n── the machine showed\n{shown}\n{journal}"
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

#[test]
fn the_three_walks_are_as_the_book_says() {
    let release = Release::built().unwrap();
    let network = Network::new(&["unimatrixzero", "picard"]).unwrap();
    let machine = |name: &str| {
        let mut machine = Machine::create(network.host(name).unwrap()).unwrap();
        machine.boot().unwrap();
        machine
    };
    let (cma, picard) = (machine("unimatrixzero"), machine("picard"));
    release.copy_to(&cma, RELEASE).unwrap();
    picard.start_ssh().unwrap();
    cma.ok("useradd --create-home admin 2> /dev/null || true").unwrap();
    // The administrator's own access to picard, which the book takes for granted.
    cma.ok(&format!("printf '%s picard\\n' {} >> /etc/hosts", network.host("picard").unwrap().address))
        .unwrap();
    cma.ok("mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519").unwrap();
    cma.ok("ssh-keyscan -t ed25519 picard > /root/.ssh/known_hosts").unwrap();
    let key = cma.ok("cat /root/.ssh/id_ed25519.pub").unwrap();
    picard.ok("mkdir -m 700 -p /root/.ssh").unwrap();
    picard.write("/root/.ssh/authorized_keys", &key).unwrap();
    let _ = ROOT_PASSWORD;

    follow("fifteen-minutes.md", &[&cma]);
    follow("an-hour.md", &[&cma]);
    follow("half-day.md", &[&cma, &picard]);
}
