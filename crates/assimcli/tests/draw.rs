//! `assimcli draw` and the queries of subgraphs, with a CMA of a few lines that answers what it is told to.

mod common;

use common::{assimcli, cma};
use serde_json::{Value, json};
use std::process::Output;

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A host with a service that another one uses; the other's name tries to break out of everything.
fn subgraph() -> Value {
    json!({
        "nodes": [
            {"id": 1, "kind": "Drone", "key": "web1", "properties": {}, "status": "up", "reason": "STARTUP", "scores": {"security": 12.0}},
            {"id": 2, "kind": "Drone", "key": "db\"]; <script>\u{1b}[2J\u{202e}", "properties": {}, "status": "dead", "reason": "HBDEAD"},
            {"id": 3, "kind": "ProcessNode", "key": "web1/nginx:1", "properties": {"pathname": "/usr/sbin/nginx", "roles": ["client"]}},
            {"id": 4, "kind": "ProcessNode", "key": "db/postgres:1", "is_monitored": true,
                "properties": {"pathname": "/usr/bin/postgres", "roles": ["server"]}},
            {"id": 5, "kind": "IPtcpportNode", "key": "@global/5432_tcp_10.0.0.2", "properties": {"ipaddr": "10.0.0.2", "port": 5432}},
            {"id": 6, "kind": "NICNode", "key": "web1/eth0", "properties": {"ifname": "eth0"}}
        ],
        "relationships": [
            {"type": "hosting", "source": 1, "target": 3}, {"type": "hosting", "source": 2, "target": 4},
            {"type": "tcpclient", "source": 3, "target": 5}, {"type": "tcpservice", "source": 4, "target": 5},
            {"type": "nicowner", "source": 1, "target": 6}
        ],
        "cut": false
    })
}

#[test]
fn every_language_draws_what_the_cma_told() {
    let root = tempfile::tempdir().unwrap();
    for (format, words) in [
        (
            None,
            &["digraph", "n0 [label=\"db\\\"]; <script>\\\\u{1b}", "label=\"tcpclient\"", "shape=house"][..],
        ),
        (Some("dot"), &["digraph", "security risk 12"]),
        (Some("svg"), &["<svg ", ">postgres 5432</text>", ">web1</text>", ">dead: HBDEAD</text>"]),
        (Some("mermaid"), &["flowchart LR", "-->|\"postgres 5432\"|"]),
        (Some("graphml"), &["<graphml ", "<data key=\"n_kind\">IPtcpportNode</data>"]),
        (Some("json"), &["\"relationships\"", "\\u202e"]),
    ] {
        let told = cma(root.path(), vec![subgraph()]);
        let mut words_given = vec!["draw", "service"];
        words_given.extend(format.map(|format| ["-o", format]).into_iter().flatten());
        let output = assimcli(root.path(), &words_given);
        let text = stdout(&output);
        for word in words {
            assert!(text.contains(word), "{format:?} lacks {word}:\n{text}");
        }
        assert!(
            !text.contains("<script>alert") && !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{text}"
        );
        assert!(!text.contains("eth0") || format == Some("json"), "no interface belongs there: {text}");
        assert_eq!(stderr(&output), "");
        let request = told.recv().unwrap();
        assert!(request.contains("/v1/subgraph?kinds=Drone,ChildSystem,ProcessNode,IPtcpportNode&edges=hosting,tcpservice,tcpclient"), "{request}");
        assert!(!request.contains("host="), "{request}");
    }
}

#[test]
fn hosts_and_hops_are_asked_for() {
    let root = tempfile::tempdir().unwrap();
    for (words, expected) in [
        (&["draw", "rings", "--host", "web1"][..], "kinds=Drone&edges=ringnext&host=web1&hops=1 "),
        (&["draw", "monring"], "kinds=Drone&edges=ringnext "),
        (
            &["draw", "network", "--host", "a&b=c", "--host", "d", "--hops", "3"],
            "&host=a%26b%3Dc%2Cd&hops=3 ",
        ),
        (
            &["draw"],
            "edges=nicowner,ipowner,linkaddr,wiredto,parentsys,hosting,tcpservice,tcpclient,baseip,monitoring ",
        ),
    ] {
        let told = cma(root.path(), vec![subgraph()]);
        stdout(&assimcli(root.path(), words));
        let request = told.recv().unwrap();
        assert!(request.contains(expected), "{words:?}: {request}");
    }
}

#[test]
fn what_cannot_be_drawn_is_told() {
    let root = tempfile::tempdir().unwrap();
    for (words, part) in [
        (&["draw", "service", "-o", "table"][..], "as table"),
        (&["draw", "services"], "services"),
        (&["draw", "network", "--hops", "2"], "--host"),
        (&["hosts", "-o", "svg"], "assimcli draw"),
        (&["draw", "network"], "no CMA answers"),
    ] {
        let output = assimcli(root.path(), words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(output.stdout.is_empty() && stderr(&output).contains(part), "{words:?}: {}", stderr(&output));
    }
    let mut large = subgraph();
    large["nodes"] =
        (0..2001).map(|id| json!({"id": id, "kind": "Drone", "key": format!("h{id}")})).collect();
    let _told = cma(root.path(), vec![large.clone()]);
    let output = assimcli(root.path(), &["draw", "network", "-o", "svg"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout).chars().take(600).collect::<String>()
    );
    assert!(
        stderr(&output).contains("2001 boxes") && stderr(&output).contains("--hops 1"),
        "{}",
        stderr(&output)
    );
    let _told = cma(root.path(), vec![large]);
    assert!(stdout(&assimcli(root.path(), &["draw", "network", "-o", "graphml"])).contains("h2000"));

    let mut cut = subgraph();
    cut["cut"] = json!(true);
    let _told = cma(root.path(), vec![cut]);
    let output = assimcli(root.path(), &["draw", "service", "-o", "svg"]);
    assert!(
        stdout(&output).contains("(a part: there are more)")
            && stderr(&output).contains("more than one answer")
    );
}

#[test]
fn a_subgraph_is_one_object_in_the_forms_for_people_and_scripts() {
    let root = tempfile::tempdir().unwrap();
    let queries = json!([{"name": "hostsubgraph", "parameters": [
        {"name": "hostname", "type": "list"}, {"name": "nodetypes", "type": "list", "default": []},
        {"name": "reltypes", "type": "list", "default": []}]}]);
    let answer = json!({"columns": ["nodes", "relationships"], "rows": [[[{"id": 1, "key": "\u{9b}31m"}], []]], "truncated": false,
        "object": true, "templates": {"human": "${nodes}\t${relationships}", "script": "${nodes}\t${relationships}"}});
    for format in ["table", "script", "jsonl"] {
        let told = cma(root.path(), vec![queries.clone(), answer.clone()]);
        let output = assimcli(root.path(), &["-o", format, "query", "hostsubgraph", "web1"]);
        let text = stdout(&output);
        assert_eq!(
            text, "{\"nodes\":[{\"id\":1,\"key\":\"\\u009b31m\"}],\"relationships\":[]}\n",
            "{format}"
        );
        told.recv().unwrap();
        assert!(told.recv().unwrap().ends_with(r#"{"parameters":{"hostname":"web1"}}"#));
    }
}
