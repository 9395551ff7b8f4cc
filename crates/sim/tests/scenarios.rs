//! Every directed history with the shipped cores.

use sim::scenario;

#[test]
fn every_bad_day_ends_as_it_should() {
    let mut wrong = Vec::new();
    for scenario in scenario::ALL {
        let world = scenario.run(1, None);
        for violation in world.ledger().violations() {
            wrong.push(format!("{}: {violation}", scenario.name));
        }
        if !world.ledger().violations().is_empty() {
            wrong.push(format!("  again: cargo xtask sim --scenario {} --seed 1 --log", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
