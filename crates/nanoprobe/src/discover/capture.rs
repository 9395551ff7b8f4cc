//! `nanoprobe discover switch --pcap FILE`: the LLDP and CDP frames of a capture, one document a line.

use crate::cli::DiscoverArgs;
use discovery::{Host, link};
use model::text::printable;
use model::time::Timestamp;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// The only discovery that reads captures.
const TYPE: &str = "switch";
/// Its parameter with the interface that a capture was made on.
const DEVICE: &str = "device";

/// Decodes the capture `file` (`-`: standard input) and writes each document as it comes. Returns the exit code: 1 when the
/// capture cannot be read to its end, 2 when a frame was malformed, else 0. Other frames than LLDP and CDP are passed over.
pub fn run(
    arguments: &DiscoverArgs,
    file: &Path,
    host_root: &Path,
    output: &mut impl Write,
    messages: &mut impl Write,
) -> u8 {
    let mut say = |sentence: &str| {
        // Without a standard error there is nobody to tell.
        let _ = writeln!(messages, "nanoprobe: {}", printable(sentence));
    };
    let prepared = interface(arguments).and_then(|interface| Ok((interface, open(file)?)));
    let (interface, input) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => {
            say(&problem);
            return 1;
        }
    };
    let name = file.display();
    let frames = match link::pcap::Frames::open(BufReader::new(input)) {
        Ok(frames) => frames,
        Err(why) => {
            say(&format!("{name}: {why}"));
            return 1;
        }
    };
    let host = Host::at(host_root).name();
    let (mut all, mut told, mut code) = (0u64, 0u64, 0);
    for frame in frames {
        let frame = match frame {
            Ok(frame) => frame,
            Err(why) => {
                say(&format!("{name}: {why}"));
                return 1;
            }
        };
        all = frame.number;
        match link::decode_captured(&frame.bytes, frame.wire_bytes) {
            None => continue,
            Some(Err(why)) => {
                say(&format!("{name}: frame {}: {why}", frame.number));
                code = 2;
            }
            Some(Ok(neighbour)) => {
                let time = Timestamp(frame.microseconds).to_utc_text();
                let envelope = link::captured_document(&host, &interface, &neighbour, &time);
                for error in &envelope.errors {
                    say(&format!("{name}: frame {}: {error}", frame.number));
                }
                if writeln!(output, "{}", envelope.canonical()).and_then(|()| output.flush()).is_err() {
                    // The reader has seen enough.
                    return code;
                }
            }
        }
        told += 1;
    }
    if told == 0 {
        say(&format!("{name}: none of its {all} frames is LLDP or CDP"));
    }
    code
}

fn interface(arguments: &DiscoverArgs) -> Result<String, String> {
    let kind = arguments.kind.as_deref().unwrap_or_default();
    let discovery = match discovery::find(kind) {
        Some((discovery, _)) if discovery.name == TYPE => discovery,
        _ => return Err(format!("--pcap goes with `discover {TYPE}`, not with {kind:?}")),
    };
    let parameters = arguments.params.iter().cloned().collect();
    if let Some(problem) = super::unknown_parameter(discovery, &parameters) {
        return Err(problem);
    }
    let default = discovery.parameters.iter().find(|parameter| parameter.name == DEVICE);
    let default = default.map_or("", |parameter| parameter.default);
    let interface = parameters.get(DEVICE).map_or(default, String::as_str);
    match model::ids::check_instance(&format!("#SWITCH_{interface}")) {
        Ok(()) if !interface.is_empty() => Ok(interface.to_owned()),
        _ => Err(format!("--param {DEVICE}={interface}: this is no name of an interface")),
    }
}

fn open(file: &Path) -> Result<Box<dyn Read>, String> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Box::new(opened))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn capture(frames: &[&[u8]]) -> Vec<u8> {
        let mut file =
            [&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[0, 0, 4, 0, 1, 0, 0, 0]].concat();
        for frame in frames {
            let length = (frame.len() as u32).to_le_bytes();
            file.extend([&[1, 0, 0, 0, 2, 0, 0, 0][..], &length, &length, frame].concat());
        }
        file
    }

    fn lldp(port: u8) -> Vec<u8> {
        let mut frame = vec![1, 0x80, 0xc2, 0, 0, 0x0e, 0, 0x11, 0x22, 0x33, 0x44, 0x5c, 0x88, 0xcc];
        frame.extend([2, 7, 4, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 4, 2, 7, port, 6, 2, 0, 120, 0, 0]);
        frame
    }

    fn ask(words: &[&str], file: &Path) -> (u8, String, String) {
        let words = ["nanoprobe", "discover", "--pcap", file.to_str().unwrap()]
            .into_iter()
            .chain(words.iter().copied());
        let crate::cli::Parsed::Run(cli) = crate::cli::parse(words.map(std::ffi::OsString::from)) else {
            panic!("not taken")
        };
        let Some(crate::cli::Command::Discover(arguments)) = &cli.command else { panic!("not discover") };
        let (mut output, mut messages) = (Vec::new(), Vec::new());
        let file = arguments.pcap.as_deref().unwrap();
        let code = run(arguments, file, Path::new("/"), &mut output, &mut messages);
        (code, String::from_utf8(output).unwrap(), String::from_utf8(messages).unwrap())
    }

    #[test]
    fn each_frame_is_a_line_and_what_is_no_neighbour_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.pcap");
        std::fs::write(&file, capture(&[&lldp(b'1'), &[0xff; 60], &lldp(b'2')])).unwrap();
        let (code, output, messages) = ask(&["switch", "--param", "device=eth3"], &file);
        assert_eq!((code, messages.as_str()), (0, ""));
        let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        for (line, port) in lines.iter().zip(["1", "2"]) {
            assert_eq!(
                (&line["instance"], &line["discovertype"]),
                (&"#SWITCH_eth3".into(), &"__LinkDiscovery".into())
            );
            assert_eq!(line["data"]["ports"][port]["ConnectsToInterface"], "eth3");
            assert_eq!(line["localtime"], "1970-01-01T00:00:01.000002Z");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_number_of_the_frame() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.pcap");
        let good = lldp(b'1');
        let broken = &good[..good.len() - 2];
        std::fs::write(&file, capture(&[&good, broken, &good])).unwrap();
        let (code, output, messages) = ask(&["switch"], &file);
        assert_eq!((code, output.lines().count()), (2, 2));
        assert!(
            messages.contains("frame 2: no valid LLDP frame") && messages.lines().count() == 1,
            "{messages}"
        );
        let whole = capture(&[&good, &good]);
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let (code, output, messages) = ask(&["switch"], &file);
        assert!(code == 1 && output.lines().count() == 1 && messages.contains("after frame 1"), "{messages}");
        std::fs::write(&file, capture(&[&[0; 60]])).unwrap();
        let (code, output, messages) = ask(&["switch"], &file);
        assert!(code == 0 && output.is_empty() && messages.contains("none of its 1 frames"), "{messages}");
        // Cut by the capture: what is there is told.
        let mut cut = capture(&[&good[..31]]);
        cut[36] = 200;
        std::fs::write(&file, cut).unwrap();
        let (code, output, messages) = ask(&["switch"], &file);
        assert!(code == 0 && output.contains("only 31 of") && messages.contains("only 31 of"), "{messages}");
    }

    #[test]
    fn mistakes_end_with_one_and_name_the_word() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.pcap");
        let nothing = ask(&["switch"], &file);
        assert!(nothing.0 == 1 && nothing.2.contains("a.pcap: No such file"), "{nothing:?}");
        std::fs::write(&file, "text").unwrap();
        let text = ask(&["switch"], &file);
        assert!(text.0 == 1 && text.2.contains("no capture"), "{text:?}");
        for (words, wanted) in [
            (&["os"][..], "\"os\""),
            (&["switch", "--param", "colour=red"], "colour"),
            (&["switch", "--param", "device=a b"], "a b"),
            (&["switch", "--param", "device="], "device="),
        ] {
            let (code, output, messages) = ask(words, &file);
            assert!(code == 1 && output.is_empty() && messages.contains(wanted), "{messages}");
        }
    }
}
