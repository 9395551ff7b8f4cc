//! `backup`: everything of a CMA that cannot be made again, in one file, while it runs.

use crate::backup::archive::{self, Manifest};
use crate::backup::parts::{self, DATABASE, Part};
use crate::backup::{Progress, directory_of, need_room, place, scratch, target, temporary_directory};
use crate::{Context, Failure, Finding};
use model::Timestamp;
use output::{Rows, note};
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use store::sqlite;
use tempfile::NamedTempFile;
use wire::keys::id::is_host_secret;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Options {
    /// Where to write it, or - for standard output
    #[arg(required = true)]
    file: Option<PathBuf>,
    /// With all secret keys: whoever has the file can be this CMA
    #[arg(long, conflicts_with = "no_keys")]
    with_keys: bool,
    /// Without secret keys (the default)
    #[arg(long)]
    no_keys: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Read a backup completely and tell whether it is sound
    Verify {
        /// The backup
        file: PathBuf,
    },
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    if let Some(Command::Verify { file }) = &options.command {
        let read = place::verify(file)?;
        return show(context, file, read.manifest.as_ref(), read.schema, read.database_bytes);
    }
    let file = options.file.as_deref().ok_or_else(|| Failure::new("no file is given"))?;
    let is_stream = file == Path::new("-");
    if is_stream && io::stdout().is_terminal() {
        return Err(Failure::new("a backup is no text for a terminal").hint(
            "Write `assimcli backup - | ssh elsewhere 'cat > cma.tar.zst'`, or give the name of a file.",
        ));
    }
    if !is_stream && file.exists() {
        return Err(Failure::new(format!("{} exists", file.display()))
            .hint("Give another name; a date in it helps: cma-$(date +%F).tar.zst"));
    }
    let database = target(context)?.database;
    // Beside the file there must be room for the backup anyway.
    let place = if is_stream { temporary_directory() } else { directory_of(file).to_owned() };
    let cannot = |error: io::Error| Failure::new(format!("{} cannot be written: {error}", place.display()));
    let directory = scratch(&place).map_err(cannot)?;
    let (files, schema) = collect(context, &database, directory.path(), options.with_keys)?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let manifest = describe(host, schema, options.with_keys, &files)?;
    if options.with_keys {
        note!("assimcli: this backup holds every secret key: keep it where you would keep the keys");
    }
    let mut progress = Progress::new("writing the backup");
    let (mut done, all) = (0, manifest.bytes());
    let mut tick = |piece: u64| {
        done += piece;
        progress.at(done, all);
    };
    if is_stream {
        let mut out = io::stdout().lock();
        archive::write(&mut out, &manifest, &files, &mut tick)?;
        out.flush()?;
    } else {
        // Mode 0600, and gone when this is interrupted.
        let mut written = NamedTempFile::new_in(directory.path()).map_err(cannot)?;
        archive::write(&mut written, &manifest, &files, &mut tick)?;
        written.as_file().sync_all().map_err(cannot)?;
        drop(progress);
        let mut progress = Progress::new("verifying the backup");
        let mut done = 0;
        let read = archive::check(written.path(), &mut |piece| {
            done += piece;
            progress.at(done, all);
        })?;
        if read != manifest {
            return Err(Failure::new("what was written is not what is read back")
                .hint("Something is wrong with the disk; the kernel's log may tell more."));
        }
        written.persist_noclobber(file).map_err(|error| cannot(error.error))?;
        archive::sync_directory(file).map_err(cannot)?;
    }
    remember(context, file, &manifest);
    if is_stream {
        return Ok(Finding::Nothing);
    }
    let bytes = manifest.parts.iter().find(|part| part.name == DATABASE).map_or(0, |part| part.bytes);
    show(context, file, Some(&manifest), schema, bytes)
}

/// Copies the database into `directory`, and finds what else belongs into the backup.
fn collect(
    context: &Context,
    database: &Path,
    directory: &Path,
    with_keys: bool,
) -> Result<(Vec<Part>, i64), Failure> {
    let failed = |error: store::StoreError| {
        Failure::new(error.to_string()).hint("Make backups as root or as the user that the CMA runs as.")
    };
    let bytes = sqlite::identify(database).map_err(failed)?.bytes;
    // The copy, and the backup beside it, which is hardly ever larger.
    need_room(directory, bytes.saturating_mul(2))?;
    let copy = directory.join("cma.sqlite");
    let mut progress = Progress::new("copying the database");
    let schema =
        sqlite::copy(database, &copy, &mut |done, all| progress.at(done, all)).map_err(failed)?.schema;
    drop(progress);
    sqlite::verify(&copy).map_err(failed)?;
    let (others, left_out) = parts::of_site(&context.paths, with_keys)?;
    for path in left_out {
        let is_secret = path.file_name().and_then(|name| name.to_str()).is_some_and(is_host_secret);
        let why = if is_secret { "is root's, not ours," } else { "is no plain file" };
        note!("assimcli: {} {why} and is not in the backup", path.display());
    }
    let database = Part { name: DATABASE.into(), path: copy, mode: 0o600 };
    Ok(([vec![database], others].concat(), schema))
}

fn describe(host: String, schema: i64, with_keys: bool, files: &[Part]) -> Result<Manifest, Failure> {
    let mut progress = Progress::new("reading what is backed up");
    let all = files.iter().filter_map(|part| part.path.metadata().ok()).map(|file| file.len()).sum();
    let mut done = 0;
    let mut tick = |piece: u64| {
        done += piece;
        progress.at(done, all);
    };
    let entries = files.iter().map(|part| archive::entry(part, &mut tick)).collect::<Result<_, _>>()?;
    Ok(archive::manifest(host, Timestamp::now(), schema, with_keys, entries))
}

/// For `doctor`, which tells when the last one was. Not worth failing for.
fn remember(context: &Context, file: &Path, manifest: &Manifest) {
    let shown = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let shown = if file == Path::new("-") { "standard output".into() } else { shown.display().to_string() };
    let text = json!({"made": manifest.made, "file": shown, "with_keys": manifest.with_keys}).to_string();
    let place = context.paths.state().join("last-backup.json");
    let written = (|| -> io::Result<()> {
        let mut file = NamedTempFile::new_in(context.paths.state())?;
        file.write_all(text.as_bytes())?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        File::set_permissions(file.as_file(), readable)?;
        file.persist(&place).map_err(|error| error.error)?;
        Ok(())
    })();
    if let Err(error) = written {
        note!(
            "assimcli: `doctor` will not know of this backup: {} cannot be written: {error}",
            place.display()
        );
    }
}

fn show(
    context: &Context,
    file: &Path,
    manifest: Option<&Manifest>,
    schema: i64,
    bytes: u64,
) -> Result<Finding, Failure> {
    let mut rows =
        Rows::new(&["file", "made", "host", "program", "schema", "database_bytes", "files", "with_keys"]);
    let file = file.display().to_string();
    rows.rows.push(match manifest {
        Some(all) => vec![
            json!(file),
            json!(all.made),
            json!(all.host),
            json!(all.program),
            json!(schema),
            json!(bytes),
            json!(all.parts.len() - 1),
            json!(all.with_keys),
        ],
        None => {
            vec![
                json!(file),
                json!(null),
                json!(null),
                json!(null),
                json!(schema),
                json!(bytes),
                json!(0),
                json!(false),
            ]
        }
    });
    rows.print(context.format)?;
    Ok(Finding::Nothing)
}
