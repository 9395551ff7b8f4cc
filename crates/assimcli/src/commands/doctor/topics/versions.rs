//! Which versions run: this program, the CMA, the nanoprobe of this host, those of all hosts.

use super::{Check, Look, Topic};
use output::text;

const NAME: &str = "versions";

pub static TOPIC: Topic = Topic { name: NAME, check };

const OWN: &str = env!("CARGO_PKG_VERSION");

fn check(look: &Look) -> Vec<Check> {
    let mut checks = Vec::new();
    let cma = look.told("version").map(str::to_owned);
    match &cma {
        Some(cma) if cma != OWN => checks.push(
            Check::bad(NAME, format!("the CMA that runs is {cma}, and assimcli is {OWN}: it runs since before an upgrade, or one was forgotten"))
                .fix("systemctl restart assimilation-cma"),
        ),
        Some(cma) => checks.push(Check::good(NAME, format!("assimcli and the CMA are {cma}"))),
        None => checks.push(Check::good(NAME, format!("assimcli is {OWN}"))),
    }
    if look.is_machine() && look.has_nanoprobe() {
        let installed = look.program("nanoprobe", &["--version"]);
        let installed =
            installed.as_deref().and_then(|answer| answer.split_whitespace().nth(1)).map(str::to_owned);
        if let Some(installed) = installed.filter(|installed| installed != OWN) {
            let text = format!("the nanoprobe installed here is {installed}, and assimcli is {OWN}");
            checks.push(Check::bad(NAME, text).fix("nanoprobe --version; assimcli --version"));
        }
    }
    let software = look.sql("SELECT software, count(*) AS hosts, min(host) FROM hosts GROUP BY software ORDER BY hosts DESC LIMIT 20");
    let reference = cma.as_deref().unwrap_or(OWN);
    for row in software.into_iter().flatten() {
        let [version, hosts, example] = row.as_slice() else { continue };
        // A nanoprobe may tell more than its number.
        let version = text(version);
        let same = version.split_whitespace().any(|word| word == reference);
        let hosts = hosts.as_u64().unwrap_or(0);
        let those = if hosts == 1 { "1 host has".into() } else { format!("{hosts} hosts have") };
        checks.push(if same {
            Check::good(NAME, format!("{those} {version}"))
        } else {
            let text = format!("{those} {version}, such as {}; the CMA is {reference}", text(example));
            Check::bad(NAME, text).fix("assimcli sql \"SELECT host, software FROM hosts ORDER BY software\"")
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_that_differ_are_problems() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look()), [Check::good(NAME, format!("assimcli is {OWN}"))]);
        rig.file("/var/lib/assimilation/nanoprobe/queue/x", "");
        rig.program("nanoprobe --version", &format!("nanoprobe {OWN}\n"));
        rig.status = Ok(json!({"version": OWN}));
        rig.questions
            .push(("FROM hosts".into(), vec![vec![json!(format!("nanoprobe {OWN}")), json!(9), json!("a")]]));
        assert!(check(&rig.look()).iter().all(|c| !c.is_bad()));
        rig.program("nanoprobe --version", "nanoprobe 0.0.1\n");
        rig.status = Ok(json!({"version": "0.0.2"}));
        rig.questions[0].1.push(vec![json!("nanoprobe 0.0.3"), json!(1), json!("b")]);
        let found = check(&rig.look());
        for version in ["0.0.1", "0.0.2", "1 host has nanoprobe 0.0.3, such as b;"] {
            assert!(found.iter().any(|c| c.is_bad() && c.text.contains(version)), "{version}: {found:?}");
        }
    }
}
