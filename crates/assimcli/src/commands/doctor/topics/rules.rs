//! Rule files that cannot be used.

use super::{Check, Look, Topic};

const NAME: &str = "rules";

pub static TOPIC: Topic = Topic { name: NAME, check };

fn check(look: &Look) -> Vec<Check> {
    let problems = crate::commands::rules::problems(look.context);
    problems.into_iter().map(|problem| Check::bad(NAME, problem)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;

    #[test]
    fn a_broken_rule_file_is_a_problem() {
        let rig = Rig::new();
        assert_eq!(check(&rig.look()), []);
        let folder = rig.paths().site("best_practices").join("own");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("broken.json"), "{").unwrap();
        std::fs::write(folder.join("broken.toml"), "[[rule]]\nid = 3\n").unwrap();
        let found = check(&rig.look());
        assert!(found.iter().any(|c| c.is_bad() && c.text.contains("broken")), "{found:?}");
    }
}
