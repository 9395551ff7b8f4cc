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
            for (language, ending) in [
                (Language::Svg, "svg"),
                (Language::Dot, "dot"),
                (Language::Mermaid, "mmd"),
                (Language::Graphml, "graphml"),
            ] {
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
        assert!(
            written == picture,
            "docs/pictures/{file} is not current; write it with UPDATE=1 cargo test -p draw"
        );
    }
}

#[test]
fn a_picture_that_nobody_could_read_is_refused() {
    let subgraph = made_up::many(MAX_BOXES + 1);
    for language in [Language::Svg, Language::Dot, Language::Mermaid] {
        let error = render(Kind::Rings, &subgraph, language).unwrap_err();
        assert_eq!(error.boxes, MAX_BOXES + 1);
        assert!(error.to_string().contains("2001 boxes"), "{error}");
    }
    assert!(
        render(Kind::Rings, &subgraph, Language::Graphml).is_ok()
            && render(Kind::Rings, &subgraph, Language::Json).is_ok()
    );
    // Services and interfaces are lines on cards: there may be more of them than boxes.
    assert!(render(Kind::Everything, &made_up::many(500), Language::Svg).is_ok());
}

#[test]
fn cards_say_what_the_original_said_by_looks() {
    let network = svg(Kind::Network, &made_up::ten());
    let texts: Vec<String> = texts(&network);
    let says = |text: &str| texts.iter().any(|own| own == text);
    for text in [
        "sw-office",
        "mail1 eth0 · VLAN 20",
        "10.0.2.0/24",
        "eth0 10.0.1.11",
        "ge-0/0/1",
        "dead: HBDEAD",
        "registry",
        "security risk 31",
        "b8-27-eb-12-34-56",
        "Raspberry Pi Foundation",
    ] {
        assert!(says(text), "{text} is not among {texts:?}");
    }
    let card = |name: &str| {
        let document = roxmltree::Document::parse(&network).unwrap();
        let title = document.descendants().find(|node| {
            node.is_text() && node.text() == Some(name) && node.parent_element().unwrap().has_tag_name("text")
        });
        let group =
            document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "g")));
        let group =
            group.into_iter().find(|group| title.unwrap().ancestors().any(|node| node == *group)).unwrap();
        let rect =
            group.children().find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "rect"))).unwrap();
        let get = |name: &str| rect.attribute(name).unwrap_or("").to_owned();
        (get("stroke"), get("fill"), get("stroke-dasharray"))
    };
    let of = |stroke: &str, fill: &str, dashes: &str| (stroke.to_owned(), fill.to_owned(), dashes.to_owned());
    assert_eq!(card("web2"), of("#1f9d55", "#ffffff", ""));
    assert_eq!(card("web1"), of("#d9a400", "#ffffff", ""), "4 points");
    assert_eq!(card("db1"), of("#e8730c", "#ffffff", ""), "13 points");
    assert_eq!(card("desk1"), of("#c81e1e", "#ffffff", ""), "31 points");
    assert_eq!(card("db2"), of("#1f9d55", "#ffc9e0", "5 3"), "dead");
    assert_eq!(card("build1"), of("#1f9d55", "#e3e6ea", "5 3"), "shut down");
}

#[test]
fn services_and_their_users_are_named() {
    let texts = texts(&svg(Kind::Service, &made_up::ten()));
    for text in [
        "tomcat",
        ":8080",
        "tomcat 8080",
        "postgres 5432",
        "198.51.100.20",
        "port 443",
        "elsewhere: no nanoprobe",
    ] {
        assert!(texts.iter().any(|own| own == text), "{text} is not among {texts:?}");
    }
    // Too many to draw each: bundles say how many, and each host names whom it uses.
    let texts = self::texts(&svg(Kind::Service, &made_up::many(100)));
    assert!(
        texts.iter().any(|text| text.starts_with("postgres 5432 ×") || text.starts_with("tomcat 8080 ×")),
        "{texts:?}"
    );
    assert!(
        texts.iter().any(|text| text == "db002")
            && texts.iter().filter(|text| *text == "postgres 5432").count() > 10
    );
}

#[test]
fn services_of_hosts_that_are_not_drawn_are_not_strangers() {
    let mut site = made_up::Site::default();
    let host = site.host("app1", "10.0.1.7", "10.0.1.0/24", None);
    let process = site.service(host, "tomcat", "10.0.1.7", 8080, true);
    for port in [5432, 5433] {
        site.client(process, "10.0.1.9", port);
        let end = site.port("10.0.1.9", port);
        site.get(end).owner = Some("db1/postgres:0123".into());
    }
    let picture = texts(&svg(Kind::Service, &site.subgraph));
    for text in ["db1", "on other hosts", "postgres 5432, postgres 5433", ":5433"] {
        assert!(picture.iter().any(|own| own == text), "{text} is not among {picture:?}");
    }
    assert!(!picture.iter().any(|text| text.contains("no nanoprobe")), "{picture:?}");
    let near = draw::without_far_services(site.subgraph);
    assert_eq!(
        near.nodes.iter().filter(|node| node.kind == "IPtcpportNode").count(),
        1,
        "its own service stays"
    );
}

#[test]
fn a_ring_has_its_hosts_in_order() {
    let texts = texts(&svg(Kind::Rings, &made_up::ten()));
    let position = |name: &str| {
        texts.iter().position(|text| text == name).unwrap_or_else(|| panic!("{name}: {texts:?}"))
    };
    let ring = position("subnet 10.0.1.0/24");
    let names: Vec<&str> = texts[ring + 2..ring + 7].iter().map(String::as_str).collect();
    assert_eq!(names, ["web1", "web2", "app1", "app2", "db1"], "from the one that stands for the place on");
    assert!(position("alone, or in no ring") < texts.iter().rposition(|text| text == "db2").unwrap());
}

/// All that is written in a picture.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let elements =
        document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
    elements.filter_map(|node| node.text().map(str::to_owned)).collect()
}
