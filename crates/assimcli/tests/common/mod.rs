//! A CMA of a few lines that answers what it is told to.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};

/// Answers requests below `root` with `answers` in turn; tells the first line of each request.
pub fn cma(root: &Path, answers: Vec<Value>) -> Receiver<String> {
    let run = root.join("run/assimilation");
    std::fs::create_dir_all(&run).unwrap();
    let _ = std::fs::remove_file(run.join("cma.sock"));
    let listener = UnixListener::bind(run.join("cma.sock")).unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = number.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            std::io::Read::read_exact(&mut reader, &mut body).unwrap();
            let text = answer.to_string();
            let mut stream = stream;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            )
            .unwrap();
            tell.send(first.trim().to_owned() + " " + &String::from_utf8(body).unwrap()).unwrap();
        }
    });
    told
}

/// Runs the program below `root`.
pub fn assimcli(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_assimcli")).arg("--root").arg(root).args(arguments).output().unwrap()
}
