//! `draw`: pictures of what is connected to what.

use crate::client::{encoded, get};
use crate::{Context, Failure, Finding, Output};
use draw::{Kind, Language, without_far_services};
use model::graph::NodeKind;
use model::subgraph::Subgraph;
use output::{json_text, note, print};

/// How far around the hosts that are named, unless `--hops` says.
const DEFAULT_HOPS: usize = 1;
/// What Mermaid draws unless it is configured otherwise: characters of its text, and lines.
const MERMAID_MAX_CHARS: usize = 50_000;
const MERMAID_MAX_LINES: usize = 500;

#[derive(clap::Args)]
pub struct Options {
    /// What to draw
    #[arg(value_enum, default_value_t = What::Everything)]
    what: What,
    /// Only what is around this host; may be given several times
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// How far around: 0 is what is on the hosts, each hop leads on to the next host or switch [default: 1]
    #[arg(long, value_name = "N", requires = "hosts")]
    hops: Option<usize>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// Hosts, interfaces, addresses, switches and neighbours
    Network,
    /// Services, and who uses them
    Service,
    /// What looks after which service
    Monitoring,
    /// Which hosts watch each other
    #[value(alias = "monring")]
    Rings,
    /// All of that but the rings
    Everything,
}

pub fn run(context: &Context, output: Option<Output>, options: &Options) -> Result<Finding, Failure> {
    let kind = match options.what {
        What::Network => Kind::Network,
        What::Service => Kind::Service,
        What::Monitoring => Kind::Monitoring,
        What::Rings => Kind::Rings,
        What::Everything => Kind::Everything,
    };
    let language = match output {
        None | Some(Output::Dot) => Language::Dot,
        Some(Output::Svg) => Language::Svg,
        Some(Output::Mermaid) => Language::Mermaid,
        Some(Output::Graphml) => Language::Graphml,
        Some(Output::Json) => Language::Json,
        Some(other) => {
            return Err(Failure::new(format!("a drawing cannot be printed as {}", other.name()))
                .hint("-o is one of dot, svg, mermaid, graphml and json."));
        }
    };
    let kinds: Vec<&str> = kind.nodes().iter().copied().map(NodeKind::as_str).collect();
    let mut path = format!("/v1/subgraph?kinds={}&edges={}", kinds.join(","), kind.edges().join(","));
    if !options.hosts.is_empty() {
        let hops = options.hops.unwrap_or(DEFAULT_HOPS);
        path += &format!("&host={}&hops={hops}", encoded(&options.hosts.join(",")));
    }
    let answer = get(context, &path)?;
    let subgraph: Subgraph = serde_json::from_value(answer).map_err(|error| {
        Failure::new(format!("the CMA's answer is not understood: {error}"))
            .hint("assimcli and cma may be of different versions.")
    })?;
    // On the host itself, what it uses elsewhere is of interest; what those around it use elsewhere is not.
    let far = options.hosts.is_empty()
        || options.hops == Some(0)
        || matches!(language, Language::Json | Language::Graphml);
    let subgraph = if far { subgraph } else { without_far_services(subgraph) };
    let less = if options.hosts.is_empty() {
        "Draw a part of the site with --host HOST --hops 1; -o graphml and -o json have no such limit."
    } else {
        "Name fewer hosts, or take fewer --hops; -o graphml and -o json have no such limit."
    };
    let text = draw::render(kind, &subgraph, language)
        .map_err(|error| Failure::new(error.to_string()).hint(less))?;
    if subgraph.cut {
        note!("assimcli: there is more than one answer holds: what was cut off is missing here");
        note!("  Draw a part of the site with --host HOST, or with fewer --hops.");
    }
    if language == Language::Mermaid
        && (text.chars().count() > MERMAID_MAX_CHARS || text.lines().count() > MERMAID_MAX_LINES)
    {
        note!("assimcli: Mermaid draws this only with larger `maxTextSize` and `maxEdges` than usual");
    }
    // What could move a cursor is escaped in the other languages already.
    print(&if language == Language::Json { json_text(&text) } else { text })?;
    Ok(Finding::Nothing)
}
