//! The book's walks, typed word for word on freshly installed machines, in the order in which a reader does them.

use crate::journey::{RELEASE, copy_release, machine};
use std::path::Path;
use std::time::{Duration, Instant};
use system::book::{self, Step};
use system::booted::{Machine, quoted};
use system::network::Network;

/// How long a question may be asked again before its answer has to be the one of the chapter.
const PATIENCE: Duration = Duration::from_secs(60);

fn chapter(name: &str) -> Vec<Step> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let steps = book::steps(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(steps.len() > 5, "{name} has only {} commands", steps.len());
    steps
}

/// Types a command at a terminal 200 columns wide, as the reader does: exit status and everything that is shown.
fn typed(machine: &Machine, command: &str) -> (i32, String) {
    let at_terminal = format!("stty cols 200; cd {RELEASE} 2> /dev/null; {command}");
    let script = format!(
        "NO_COLOR=1 script --quiet --return --command {} /dev/null < /dev/null",
        quoted(&at_terminal)
    );
    let output = machine.run(&script).unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    (output.status.code().unwrap_or(-1), shown)
}

/// Types all of a chapter. What is shown otherwise than the chapter says is gathered; a deed that fails ends the walk, because
/// what follows builds on it.
fn follow(name: &str, machines: &[&Machine]) {
    let mut wrong = Vec::new();
    for step in chapter(name) {
        let machine = machines
            .iter()
            .find(|machine| machine.hostname() == step.machine)
            .unwrap_or_else(|| panic!("{name}, {step}: there is no such machine"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (exit, shown) = typed(machine, &step.command);
            let Some(problem) = step.problem(exit, &shown) else { break };
            let told = format!(
                "{name}, {step}\n{problem}\n── the chapter shows\n{}\n── the machine showed\n{shown}",
                step.shown.join("\n")
            );
            if !step.asks() {
                let journal = machine.journal(&["assimilation-cma", "assimilation-nanoprobe"]);
                panic!("{}{told}\n{journal}", wrong.concat());
            }
            if Instant::now() > deadline {
                wrong.push(told);
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_three_walks_are_as_the_book_says() {
    let network = Network::new(&["unimatrixzero", "picard"]).unwrap();
    let (cma, picard) = (machine(&network, "unimatrixzero"), machine(&network, "picard"));
    copy_release(&cma);
    cma.write("/etc/hosts", "127.0.0.1 localhost\n10.84.0.1 unimatrixzero\n10.84.0.2 picard\n").unwrap();
    // The administrator's own access to picard, which the book takes for granted.
    cma.ok("mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519").unwrap();
    cma.ok("ssh-keyscan -t ed25519 picard > /root/.ssh/known_hosts").unwrap();
    let key = cma.ok("cat /root/.ssh/id_ed25519.pub").unwrap();
    picard.ok("mkdir -m 700 -p /root/.ssh").unwrap();
    picard.write("/root/.ssh/authorized_keys", &key).unwrap();

    follow("fifteen-minutes.md", &[&cma]);
    follow("an-hour.md", &[&cma]);
    cma.ok("systemctl start opensmtpd").unwrap();
    follow("half-day.md", &[&cma, &picard]);
    // What `notify test` sent, to the address that the chapter sets. The mails of transitions have tests of their own: whoever
    // types as fast as this one breaks and mends a rule before anybody looks.
    cma.ok("grep -rlx 'To: admin@localhost' /home/admin/Maildir/new").unwrap();
}
