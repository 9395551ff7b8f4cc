//! What holds for every discovery, whatever the host: it ends, it does not panic, its document is bounded and its
//! meaning for the graph can be told. New discoveries are included without a line here.

mod fixtures;
mod replaced;

use discovery::{Discovery, Envelope, Host, Instance, Parameters, all, run};
use model::envelope::MAX_DOCUMENT_BYTES;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

const TOO_LONG: Duration = Duration::from_secs(60);

fn instances() -> impl Iterator<Item = (&'static Discovery, &'static Instance)> {
    all().iter().flat_map(|discovery| discovery.instances.iter().map(|instance| (*discovery, instance)))
}

/// Runs an instance on a tree and checks what must hold for every document. Returns it with the files looked at,
/// as paths within the tree.
fn checked(
    discovery: &'static Discovery,
    instance: &'static Instance,
    root: &Path,
) -> (Envelope, Vec<PathBuf>) {
    let name = instance.name;
    let (sender, receiver) = mpsc::channel();
    let host = Host::at(root);
    std::thread::spawn(move || {
        let envelope = run(discovery, name, &host, &Parameters::new());
        // Nobody listens any more if this took too long.
        let _ = sender.send((envelope, host.touched()));
    });
    let (envelope, touched) =
        receiver.recv_timeout(TOO_LONG).unwrap_or_else(|_| panic!("{name} does not end"));
    assert!(envelope.data.is_object(), "{name}: {:?}", envelope.data);
    assert!(envelope.canonical().len() <= MAX_DOCUMENT_BYTES, "{name}");
    for error in &envelope.errors {
        assert!(!error.contains("defect"), "{name}: {error}");
        assert_eq!(model::text::printable(error), *error, "{name}");
        assert!(error.len() < 4096, "{name}: an error of {} bytes", error.len());
    }
    (discovery.graph)("host", &envelope);
    let root = fs::canonicalize(root).unwrap();
    let files = touched.files.iter().map(|file| file.strip_prefix(&root).unwrap().to_owned()).collect();
    (envelope, files)
}

/// What is not there is one sentence for people: what, and by which file one would see it; no error beside it.
#[test]
fn what_is_not_there_is_one_sentence() {
    let tree = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for (discovery, instance) in instances() {
        let (envelope, _) = checked(discovery, instance, tree.path());
        let Some(sentence) = envelope.data.get("NODATA") else { continue };
        let sentence = sentence.as_str().unwrap().to_owned();
        if sentence.starts_with("ERROR: ") {
            assert!(!envelope.errors.is_empty(), "{}: {sentence}", instance.name);
            continue;
        }
        assert!(envelope.errors.is_empty(), "{}: {:?}", instance.name, envelope.errors);
        let tells_why = sentence.contains(": there is n") || sentence.ends_with("this is a file tree");
        let is_short = !sentence.ends_with('.') && !sentence.contains(". ") && sentence.len() < 150;
        if !tells_why || !is_short {
            told.push(format!("{}: {sentence}", instance.name));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}
