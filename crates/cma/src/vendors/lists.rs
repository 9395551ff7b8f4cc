//! How the lists of vendors are written. What is no assignment is passed over.

use super::Prefix;

/// Takes an assignment.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Prefix, &str);

/// The ways of writing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `MA-L,002272,"Maker, Inc.","Address"`, as the IEEE publishes it.
    Csv,
    /// `00-22-72   (hex)\t\tMaker`, and for parts of a block a second line with the part: `A00000-AFFFFF   (base 16)\t\tMaker`.
    Registry,
    /// `OUI:002272*` and in the next line ` ID_OUI_FROM_DATABASE=Maker` (hwdb(7)).
    Hwdb,
    /// `00:22:72\tShort\tMaker`, with `/28` behind longer ones.
    Manuf,
    /// `002272 Maker`
    Nmap,
}

impl Format {
    pub(super) fn read(self, text: &str, sink: Sink<'_>) {
        match self {
            Self::Csv => csv(text, sink),
            Self::Registry => registry(text, sink),
            Self::Hwdb => hwdb(text, sink),
            Self::Manuf => manuf(text, sink),
            Self::Nmap => nmap(text, sink),
        }
    }
}

/// RFC 4180, as far as the first three fields need it: an address may go on in further lines, which are no assignments.
fn csv(text: &str, sink: Sink<'_>) {
    for line in text.lines() {
        let Some((registry, rest)) = line.split_once(',') else { continue };
        let Some((digits, rest)) = rest.split_once(',') else { continue };
        if !matches!(registry, "MA-L" | "MA-M" | "MA-S") {
            continue;
        }
        let vendor = match rest.strip_prefix('"') {
            Some(quoted) => until_quote(quoted),
            None => rest.split(',').next().unwrap_or(rest).to_owned(),
        };
        if let Some(prefix) = Prefix::from_hex(digits) {
            sink(prefix, &vendor);
        }
    }
}

/// Up to the quotation mark that is not doubled.
fn until_quote(text: &str) -> String {
    let mut found = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '"' && rest.next_if_eq(&'"').is_none() {
            break;
        }
        found.push(c);
    }
    found
}

fn registry(text: &str, sink: Sink<'_>) {
    // The block of the line before, with its vendor: what follows tells whether it is one of its parts.
    let mut block: Option<(String, &str)> = None;
    for line in text.lines() {
        if let Some((start, vendor)) = line.split_once("(hex)") {
            whole(block.take(), sink);
            block = Some((start.trim().replace('-', ""), vendor));
        } else if let Some((range, _)) = line.split_once("(base 16)")
            && let Some((from, to)) = range.trim().split_once('-')
            && let Some((digits, vendor)) = block.take()
        {
            // The digits that are the same in all of the part.
            let same = from.bytes().zip(to.bytes()).take_while(|(a, b)| a == b).count();
            let part = from.get(..same).and_then(|part| Prefix::from_hex(&(digits + part)));
            if let Some(prefix) = part {
                sink(prefix, vendor);
            }
        }
    }
    whole(block, sink);
}

fn whole(block: Option<(String, &str)>, sink: Sink<'_>) {
    if let Some((digits, vendor)) = block
        && let Some(prefix) = Prefix::from_hex(&digits)
    {
        sink(prefix, vendor);
    }
}

fn hwdb(text: &str, sink: Sink<'_>) {
    let mut prefix = None;
    for line in text.lines() {
        if let Some(pattern) = line.strip_prefix("OUI:") {
            prefix = Prefix::from_hex(pattern.trim_end().trim_end_matches('*'));
        } else if let (Some(found), Some(vendor)) =
            (prefix, line.trim_start().strip_prefix("ID_OUI_FROM_DATABASE="))
        {
            sink(found, vendor);
            prefix = None;
        }
    }
}

fn manuf(text: &str, sink: Sink<'_>) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t').map(str::trim);
        let (Some(start), Some(short)) = (fields.next(), fields.next()) else { continue };
        let vendor = fields.next().filter(|long| !long.is_empty()).unwrap_or(short);
        let (start, bits) = match start.split_once('/') {
            Some((start, bits)) => (start, bits.parse().ok()),
            None => (start, None),
        };
        let Some(whole) = Prefix::from_hex(&start.replace([':', '-', '.'], "")) else { continue };
        let bits: u8 = bits.unwrap_or(whole.bits);
        if (24..=whole.bits).contains(&bits) {
            sink(Prefix::new(whole.value, bits), vendor);
        }
    }
}

fn nmap(text: &str, sink: Sink<'_>) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((digits, vendor)) = line.split_once(' ')
            && let Some(prefix) = Prefix::from_hex(digits)
        {
            sink(prefix, vendor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        format.read(text, &mut |prefix, vendor| {
            found.push(format!("{:012x}/{} {}", prefix.value, prefix.bits, vendor.trim()));
        });
        found
    }

    #[test]
    fn every_way_of_writing_is_read() {
        let csv = "Registry,Assignment,Organization Name,Organization Address\n\
            MA-L,0A1B2C,Plain Maker,\"Street 1\nMA-L is no registry, 2\"\n\
            MA-M,0A1B2D5,\"Quoted, \"\"the\"\" Maker\",Street\nMA-S,0A1B2E123,Small,\nIAB,0050C2,x,\nMA-L,0A1B,x,\n";
        assert_eq!(
            read(Format::Csv, csv),
            ["0a1b2c000000/24 Plain Maker", "0a1b2d500000/28 Quoted, \"the\" Maker", "0a1b2e123000/36 Small"]
        );
        let registry = "OUI/MA-L                                                    Organization\n\
            company_id                                                  Organization\n\n\
            00-22-72   (hex)\t\tPlain Maker\n002272     (base 16)\t\tPlain Maker\n\t\t\t\tStreet 1\n\n";
        assert_eq!(read(Format::Registry, registry), ["002272000000/24 Plain Maker"]);
        let hwdb = "# comment\nOUI:002272*\n ID_OUI_FROM_DATABASE=Plain Maker\n\nOUI:0022735*\n ID_OUI_FROM_DATABASE=Part\n\
            pci:v0000*\n ID_VENDOR_FROM_DATABASE=No\n";
        assert_eq!(read(Format::Hwdb, hwdb), ["002272000000/24 Plain Maker", "002273500000/28 Part"]);
        let manuf = "# comment\n00:22:72\tPlain\tPlain Maker\n00:22:73:50:00:00/28\tPart\tPart Maker\n00:22:74\tOnly\n\
            00:22\tx\tx\n00:22:75/99\tx\tx\n";
        assert_eq!(
            read(Format::Manuf, manuf),
            ["002272000000/24 Plain Maker", "002273500000/28 Part Maker", "002274000000/24 Only"]
        );
        let nmap = "# comment\n002272 Plain Maker\n0022735 Part\nnonsense\n";
        assert_eq!(read(Format::Nmap, nmap), ["002272000000/24 Plain Maker", "002273500000/28 Part"]);
    }

    #[test]
    fn parts_of_a_block_have_names_of_their_own() {
        let text = "70-B3-D5   (hex)\t\tSmall Maker\n123000-123FFF     (base 16)\t\tSmall Maker\n\n\
            70-B3-D5   (hex)\t\tMedium Maker\nA00000-AFFFFF     (base 16)\t\tMedium Maker\n";
        let found = read(Format::Registry, text);
        assert_eq!(found, ["70b3d5123000/36 Small Maker", "70b3d5a00000/28 Medium Maker"]);
    }

    #[test]
    fn anything_else_is_passed_over() {
        for format in [Format::Csv, Format::Registry, Format::Hwdb, Format::Manuf, Format::Nmap] {
            for text in [
                "",
                "\n\n",
                ",,,",
                "(hex)",
                "- (hex)",
                "é-\n1-2 (base 16)",
                "OUI:*\n ID_OUI_FROM_DATABASE=",
                "\t\t",
                " ",
            ] {
                assert!(read(format, text).is_empty(), "{format:?} {text:?}");
            }
        }
    }
}
