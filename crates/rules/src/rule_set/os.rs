//! Which operating system a host has, as far as the choice of rules depends on it.

use crate::rule_file::Pick;
use serde_json::Value;

/// The operating system by os-release(5), as the discovery `os` delivers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatingSystem {
    /// `ID`, in lower case.
    pub id: String,
    /// `ID_LIKE`: what it is derived from, nearest first.
    pub like: Vec<String>,
    /// `VERSION_ID`; empty where there is none.
    pub version: String,
}

impl OperatingSystem {
    /// From the `data` of an os document; `None` when it does not tell.
    pub fn of(data: &Value) -> Option<OperatingSystem> {
        let text = |name: &str| match data.get(name)? {
            Value::String(text) => Some(text.trim().to_ascii_lowercase()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        // Without os-release, what lsb_release says comes near: `Debian`, `12`.
        let id = text("id").or_else(|| text("Distributor ID")).filter(|id| !id.is_empty())?;
        let like = match data.get("id_like") {
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
            }
            Some(Value::String(words)) => words.split_whitespace().map(str::to_ascii_lowercase).collect(),
            _ => Vec::new(),
        };
        let version = text("version_id").or_else(|| text("Release")).unwrap_or_default();
        Some(OperatingSystem { id, like, version })
    }

    /// Whether a set means this system: by its own name, or by one that it is derived from.
    pub fn fits(&self, pick: &Pick) -> bool {
        let version = |wanted: &String| {
            self.version == *wanted
                || self.version.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        let named = self.id == pick.os || self.like.contains(&pick.os);
        named && (pick.versions.is_empty() || pick.versions.iter().any(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn systems_fit_by_name_kinship_and_version() {
        let pick = |os: &str, versions: &[&str]| Pick {
            os: os.into(),
            versions: versions.iter().map(ToString::to_string).collect(),
            set: String::new(),
        };
        let rocky =
            OperatingSystem::of(&json!({"id": "rocky", "id_like": ["rhel", "centos"], "version_id": "9.4"}))
                .unwrap();
        assert!(rocky.fits(&pick("rhel", &["8", "9"])) && rocky.fits(&pick("rocky", &[])));
        assert!(!rocky.fits(&pick("rhel", &["8"])) && !rocky.fits(&pick("debian", &[])));
        let ubuntu = OperatingSystem::of(&json!({"id": "ubuntu", "version_id": "22.04"})).unwrap();
        assert!(ubuntu.fits(&pick("ubuntu", &["22.04"])) && !ubuntu.fits(&pick("ubuntu", &["2"])));
        let old = OperatingSystem::of(&json!({"Distributor ID": "Debian", "Release": "12"})).unwrap();
        assert!(old.fits(&pick("debian", &["12"])));
        assert_eq!(OperatingSystem::of(&json!({"id": ""})), None);
        assert_eq!(OperatingSystem::of(&json!({"kernel-name": "Linux"})), None);
    }
}
