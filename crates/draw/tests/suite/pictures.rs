//! What a picture shows, and the pictures of the manual.

use crate::made_up;
use draw::{Kind, Language, MAX_BOXES, render};
use model::subgraph::Subgraph;

const KINDS: [Kind; 5] = [Kind::Network, Kind::Service, Kind::Monitoring, Kind::Rings, Kind::Everything];

fn svg(kind: Kind, subgraph: &Subgraph) -> String {
    render(kind, subgraph, Language::Svg).unwrap()
}

/// `DRAW_TO=DIR cargo test -p draw --test suite samples` writes pictures to look at.
#[test]
fn samples_can_be_drawn_in_every_language() {
    for (name, subgraph) in [("1", made_up::one()), ("10", made_up::ten()), ("100", made_up::many(100))] {
        for kind in KINDS {
            for (language, ending) in
                [(Language::Svg, "svg"), (Language::Dot, "dot"), (Language::Mermaid, "mmd"), (Language::Graphml, "graphml")]
            {
                let text = render(kind, &subgraph, language).unwrap();
                assert!(text.contains("web"), "{name} {kind:?} {ending}");
                if let Some(directory) = std::env::var_os("DRAW_TO") {
                    let file = format!("{}-{name}.{ending}", kind.as_str());
                    std::fs::write(std::path::Path::new(&directory).join(file), &text).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_pictures_of_the_manual_are_current() {
    for (file, kind) in [("network.svg", Kind::Network), ("service.svg", Kind::Service)] {
        let path = format!("{}/../../docs/pictures/{file}", env!("CARGO_MANIFEST_DIR"));
        let picture = svg(kind, &made_up::ten());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &picture).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == picture, "docs/pictures/{file} is not current; write it with UPDATE=1 cargo test -p draw");
    }
}
