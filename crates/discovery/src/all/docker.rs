//! Docker and its running containers, from the API of the daemon (Docker Engine API, `GET /version`, `/info`, `/networks`,
//! `/containers/json`, `/containers/<id>/json`) over its socket.
//!
//! `data` is `{"info": {...}, "networks": {"<name>": {"Driver", "Scope"}}, "containers": {"<id>": {...}}}`. `info` is what the daemon says about itself, with `version`, `build`,
//! `StorageProperties` and `Registry`; a container is what `docker inspect` shows of it. Left out are values that change by
//! themselves (process numbers, times, counters, results of health checks) and the values of environment variables, of
//! which only the names stay; secrets in command lines and labels are `***`.
//!
//! The extra `addresses` are those of the host, as in tcpdiscovery: a port published on `0.0.0.0` is reached there.
//!
//! A daemon that does not run is not woken: without its pid file nobody is asked. Containers belong to the running system: a
//! file tree has none.
//! ```json
//! {"containers":{"4f1c...":{"Config":{"Env":["PATH"],"Image":"nginx:1.25"},"Name":"/web"}},"info":{"version":"24.0.7"},
//!  "networks":{"bridge":{"Driver":"bridge","Scope":"local"}}}
//! ```

#[path = "docker/graph.rs"]
mod graph;
#[path = "docker/http.rs"]
mod http;

use crate::own_addresses;
use crate::parse::mask_secrets;
use crate::parse::presence::not_there;
use crate::{Collected, Discovery, Host, Instance, Kind, Parameters, Schedule, Trigger, documentation};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

pub static DISCOVERY: Discovery = Discovery {
    name: "docker",
    description: "Docker and its running containers",
    documentation: documentation::DOCKER,
    parameters: &[],
    instances: &[Instance { name: "_init_docker", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    // Containers that are made or removed show in the directory; those started or stopped with the next repeat.
    trigger: Trigger::Files,
    collect,
    graph: graph::graph,
};

const SOCKET: &str = "/run/docker.sock";
const PID_FILES: [&str; 2] = ["/run/docker.pid", "/var/run/docker.pid"];
const CONTAINERS: &str = "/var/lib/docker/containers";
/// More containers are left out.
const MAX_CONTAINERS: usize = 500;
const MAX_NETWORKS: usize = 500;
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// For all questions together.
const TIME: Duration = Duration::from_secs(30);

/// What changes by itself, at any depth of a container.
const VOLATILE: &[&str] = &[
    "ExecIDs",
    "FinishedAt",
    "Health",
    "LastTagTime",
    "Pid",
    "RestartCount",
    "SandboxID",
    "SandboxKey",
    "StartedAt",
];
/// The same in what the daemon says about itself.
const VOLATILE_INFO: &[&str] = &[
    "Containers",
    "ContainersPaused",
    "ContainersRunning",
    "ContainersStopped",
    "Images",
    "NEventsListener",
    "NFd",
    "NGoroutines",
    "SystemTime",
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    if !host.is_running_system() {
        return not_there("containers belong to a running system, and this is a file tree");
    }
    // Looked at for watching only.
    let _ = host.directory(CONTAINERS);
    let runs = PID_FILES.iter().filter(|path| host.stat(path).is_ok()).count() > 0;
    match host.stat(SOCKET) {
        // Anybody could answer at a socket that is not root's.
        Ok(found) if runs && found.kind == Kind::Socket && found.uid == 0 => {
            let deadline = Instant::now() + TIME;
            let mut collected = document(|path| {
                let bytes = http::get(SOCKET, path, deadline, MAX_ANSWER_BYTES)?;
                serde_json::from_slice(&bytes).map_err(|_| "the answer is no JSON".to_owned())
            });
            // Looked at by way of another `Host`: what it reads is not worth watching for the sake of containers.
            let addresses = own_addresses::collect(&Host::running());
            collected.extras.insert(own_addresses::EXTRA.into(), addresses.into());
            collected
        }
        _ => not_there("Docker does not run here: there is no /run/docker.pid with /run/docker.sock"),
    }
}

/// For the fuzzer: the bytes are what the daemon answers to everything.
pub(crate) fn any_answer(bytes: &[u8]) {
    let body = http::answer(bytes, bytes.len()).unwrap_or_else(|_| bytes.to_vec());
    document(|_| serde_json::from_slice(&body).map_err(|error| error.to_string()));
}

/// Asks what there is to ask; `ask` gives the answer to a path.
fn document(ask: impl Fn(&str) -> Result<Value, String>) -> Collected {
    let mut collected = Collected::new(json!({}));
    let failed = |path: &str, why: &str| format!("{SOCKET} {path}: {why}: look at docker info");
    let get = |path: &str, errors: &mut Vec<String>| match ask(path) {
        Ok(answer) => answer,
        Err(why) => {
            errors.push(failed(path, &why));
            Value::Null
        }
    };
    let version = get("/version", &mut collected.errors);
    if version.is_null() {
        collected.data = json!({ "NODATA": format!("ERROR: Cannot read {SOCKET}") });
        return collected;
    }
    let info = info(&version, get("/info", &mut collected.errors));
    let networks = networks(&get("/networks", &mut collected.errors));
    let listed = get("/containers/json", &mut collected.errors);
    let mut containers = Map::new();
    let ids = listed.as_array().into_iter().flatten().filter_map(|container| container["Id"].as_str());
    // What becomes part of a path is checked.
    let ids: Vec<&str> =
        ids.filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    if ids.len() > MAX_CONTAINERS {
        collected.errors.push(format!("more than {MAX_CONTAINERS} containers run: the rest is left out"));
    }
    for id in ids.into_iter().take(MAX_CONTAINERS) {
        // One that ended meanwhile is gone from the list next time, and no error.
        if let Ok(found) = ask(&format!("/containers/{id}/json")) {
            containers.insert(id.to_owned(), container(found));
        }
    }
    collected.data = json!({ "info": info, "networks": networks, "containers": containers });
    collected
}

/// What tells where an address of a network means something; containers have the rest.
fn networks(listed: &Value) -> Map<String, Value> {
    let networks = listed.as_array().into_iter().flatten().take(MAX_NETWORKS).filter_map(|network| {
        let name = network["Name"].as_str()?.to_owned();
        Some((name, json!({ "Driver": network["Driver"], "Scope": network["Scope"] })))
    });
    networks.collect()
}

fn info(version: &Value, info: Value) -> Value {
    let Value::Object(mut info) = info else { return json!({ "version": version["Version"] }) };
    info.retain(|name, _| !VOLATILE_INFO.contains(&name.as_str()));
    let pairs = info.remove("DriverStatus");
    let pairs = pairs.as_ref().and_then(Value::as_array).into_iter().flatten();
    let storage = pairs.filter_map(|pair| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.clone())));
    info.insert("StorageProperties".into(), Value::Object(storage.collect()));
    if let Some(registry) = info.remove("IndexServerAddress") {
        info.insert("Registry".into(), registry);
    }
    info.insert("version".into(), version["Version"].clone());
    info.insert("build".into(), version["GitCommit"].clone());
    cleaned(Value::Object(info), "")
}

fn container(mut container: Value) -> Value {
    if let Some(environment) = container.pointer_mut("/Config/Env").and_then(Value::as_array_mut) {
        for variable in environment {
            let name =
                variable.as_str().and_then(|text| text.split('=').next()).unwrap_or_default().to_owned();
            *variable = name.into();
        }
    }
    cleaned(container, "")
}

/// Without what changes by itself and without secrets. serde_json bounds the depth.
fn cleaned(value: Value, name: &str) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(name, _)| !VOLATILE.contains(&name.as_str()));
            Value::Object(
                kept.map(|(name, value)| {
                    let value = cleaned(value, &name);
                    (name, value)
                })
                .collect(),
            )
        }
        Value::Array(list) => {
            let mut is_secret = false;
            let list = list.into_iter().map(|value| {
                let option = value.as_str().is_some_and(|text| text.starts_with('-') && !text.contains('='));
                let masked = std::mem::replace(
                    &mut is_secret,
                    option && value.as_str().is_some_and(crate::parse::is_secret_name),
                );
                if masked && !option { "***".into() } else { cleaned(value, name) }
            });
            Value::Array(list.collect())
        }
        Value::String(_) if crate::parse::is_secret_name(name) => "***".into(),
        Value::String(text) => mask_secrets(&text).into_owned().into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_without_secrets_and_without_what_changes_by_itself() {
        let id = "ab".repeat(32);
        let other = "cd".repeat(32);
        let collected = document(|path| {
            Ok(match path {
                "/version" => json!({"Version": "24.0.7", "GitCommit": "311b9ff"}),
                "/info" => json!({"NFd": 23, "SystemTime": "now", "Driver": "overlay2", "Containers": 4,
                    "DriverStatus": [["Backing Filesystem", "extfs"], "junk"], "IndexServerAddress": "https://r/v1/",
                    "HttpProxy": "http://u:geheim@proxy/"}),
                "/networks" => {
                    json!([{"Name": "bridge", "Driver": "bridge", "Scope": "local", "Created": "t"}, {"Id": 7}, 8])
                }
                "/containers/json" => json!([{"Id": id}, {"Id": "../../evil"}, {"Id": other}, 7]),
                path if path.contains(&id) => {
                    json!({"Name": "/web", "State": {"Status": "running", "Pid": 7, "StartedAt": "t"},
                    "Args": ["--password", "geheim", "-v"], "Config": {"Env": ["PATH=/bin", "DB_PASSWORD=geheim", "X"],
                    "Labels": {"admin.token": "geheim", "a": "b"}, "Cmd": ["app", "--secret=geheim"]}})
                }
                _ => return Err("gone".into()),
            })
        });
        assert_eq!(collected.errors, [""; 0]);
        let expected = json!({
            "info": {"Driver": "overlay2", "StorageProperties": {"Backing Filesystem": "extfs"}, "Registry": "https://r/v1/",
                "HttpProxy": "http://u:***@proxy/", "version": "24.0.7", "build": "311b9ff"},
            "networks": {"bridge": {"Driver": "bridge", "Scope": "local"}},
            "containers": {id: {"Name": "/web", "State": {"Status": "running"}, "Args": ["--password", "***", "-v"],
                "Config": {"Env": ["PATH", "DB_PASSWORD", "X"], "Labels": {"admin.token": "***", "a": "b"},
                "Cmd": ["app", "--secret=***"]}}},
        });
        assert_eq!(collected.data, expected);
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_told() {
        let collected = document(|_| Err("timed out".into()));
        assert_eq!(collected.data, json!({"NODATA": "ERROR: Cannot read /run/docker.sock"}));
        assert!(collected.errors.len() == 1 && collected.errors[0].contains("timed out"));
        let partial =
            document(|path| if path == "/version" { Ok(json!({"Version": "1"})) } else { Err("no".into()) });
        assert_eq!(partial.data, json!({"info": {"version": "1"}, "networks": {}, "containers": {}}));
        assert_eq!(partial.errors.len(), 3);
    }

    #[test]
    fn a_file_tree_has_no_containers() {
        let tree = tempfile::tempdir().unwrap();
        let collected = collect(&Host::at(tree.path()), &Parameters::new());
        assert!(collected.data["NODATA"].is_string() && collected.errors.is_empty());
    }
}
