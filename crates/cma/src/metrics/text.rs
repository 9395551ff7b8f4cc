//! The two texts: OpenMetrics 1.0 as it is encoded, and the older text format 0.0.4 of Prometheus for whoever asks for nothing
//! (curl, and checkers of metrics).

use std::collections::BTreeSet;

pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// OpenMetrics in the older format: there the family of a counter has the name of its samples, with `_total`, and neither units
/// nor an end are told.
pub fn plain(open_metrics: &str) -> String {
    let counters: BTreeSet<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len() + 256);
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let told = ["# HELP ", "# TYPE "].iter().find_map(|start| Some((start, line.strip_prefix(start)?)));
        match told.and_then(|(start, rest)| Some((start, rest.split_once(' ')?))) {
            Some((start, (name, rest))) if counters.contains(name) => {
                text.push_str(&format!("{start}{name}_total {rest}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_called_as_their_samples() {
        let open = "# HELP a_events Things.\n# TYPE a_events counter\na_events_total{x=\"# EOF\"} 1\n\
                    # HELP a_seconds Time.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 2\n# EOF\n";
        let expected = "# HELP a_events_total Things.\n# TYPE a_events_total counter\na_events_total{x=\"# EOF\"} 1\n\
                        # HELP a_seconds Time.\n# TYPE a_seconds gauge\na_seconds 2\n";
        assert_eq!(plain(open), expected);
    }
}
