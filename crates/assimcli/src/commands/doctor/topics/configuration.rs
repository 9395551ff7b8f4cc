//! cma.toml and nanoprobe.toml.

use super::{Check, Look, Topic};
use model::config::{CmaConfig, NanoprobeConfig};

const NAME: &str = "configuration";

pub static TOPIC: Topic = Topic { name: NAME, check };

fn check(look: &Look) -> Vec<Check> {
    let cma = daemon::settings::read::<CmaConfig>(&look.paths().cma_config()).err();
    let nanoprobe = daemon::settings::read::<NanoprobeConfig>(&look.paths().nanoprobe_config()).err();
    let errors: Vec<Check> =
        cma.into_iter().chain(nanoprobe).map(|error| Check::bad(NAME, error.to_string())).collect();
    if errors.is_empty() {
        vec![Check::good(NAME, "cma.toml and nanoprobe.toml are readable, or absent (defaults)")]
    } else {
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;

    #[test]
    fn a_misspelt_key_is_a_problem() {
        let rig = Rig::new();
        assert!(!check(&rig.look())[0].is_bad());
        rig.file("/etc/assimilation/cma.toml", "bindd = 1\n");
        assert!(check(&rig.look())[0].text.contains("bindd"));
    }
}
