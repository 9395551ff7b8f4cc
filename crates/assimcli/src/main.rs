//! `assimcli`; everything is in the library.

fn main() -> std::process::ExitCode {
    assimcli::main()
}
