//! Where files that arrive are kept: `--save-dir`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::Failure;

/// What most file systems allow for a name, in bytes.
const MAX_NAME: usize = 255;
/// How many names are tried that are taken.
const ATTEMPTS: u32 = 10_000;

/// A directory in which files are stored: never outside it, never over another file, and under
/// their name only when they are complete.
#[derive(Debug)]
pub(crate) struct SaveDir(PathBuf);

impl SaveDir {
    /// Makes the directory, if there is none yet.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let fail = |error: io::Error| {
            Failure::io(format!("cannot save files in {}: {error}", path.display()))
        };
        fs::create_dir_all(path).map_err(fail)?;
        let dir = Self(path.to_owned());
        // Whether that works is found out now, and not when a file comes.
        dir.begin().map_err(fail)?;
        Ok(dir)
    }

    /// A file with a name that no complete one has. It is gone again if it is dropped.
    pub(crate) fn begin(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".chat-")
            .suffix(".part")
            // As any program's new files: the mask decides.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.0)
    }

    /// Gives a complete file its name, or one like it if that is taken.
    pub(crate) fn keep(&self, file: NamedTempFile, name: &str) -> io::Result<PathBuf> {
        file.as_file().sync_all()?;
        let name = safe_name(name);
        let mut file = file;
        for attempt in 0..ATTEMPTS {
            let path = self.0.join(numbered(&name, attempt));
            match file.persist_noclobber(&path) {
                Ok(_) => return Ok(path),
                Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => {
                    file = taken.file;
                }
                Err(failed) => return Err(failed.error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// A name that is one: the last part of whatever was given, visible and printable.
pub(crate) fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let printable = last.chars().map(|c| if is_printable(c) { c } else { '_' });
    let name: String = printable.collect();
    let name = name.trim();
    // Hidden files are settings of some program or other; a dash begins an option.
    let name = match name.strip_prefix(['.', '-']) {
        Some(rest) => format!("_{rest}"),
        None => name.to_owned(),
    };
    match name.as_str() {
        "" | "_" | "_." => "unnamed".into(),
        name => shortened(name, MAX_NAME - ".chat-".len()),
    }
}

fn is_printable(c: char) -> bool {
    !crate::screen::is_unsafe(c) && !matches!(c, '\t' | '\n')
}

/// The name for an attempt: `cat.png`, `cat (1).png`, …
fn numbered(name: &str, attempt: u32) -> String {
    if attempt == 0 {
        return name.into();
    }
    let number = format!(" ({attempt})");
    let (stem, extension) = split(name);
    let stem = &stem[..stem.floor_char_boundary(MAX_NAME - number.len() - extension.len())];
    format!("{stem}{number}{extension}")
}

/// At most `max` bytes of a name, its extension among them.
fn shortened(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.into();
    }
    let (stem, extension) = split(name);
    let stem = &stem[..stem.floor_char_boundary(max - extension.len())];
    format!("{stem}{extension}")
}

/// A name and its extension, with the dot; a long one is none.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= 16 => name.split_at(dot),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_name_stays_in_its_directory() {
        for (given, kept) in [
            ("cat.png", "cat.png"),
            ("/etc/passwd", "passwd"),
            ("../../x", "x"),
            ("..\\..\\x", "x"),
            ("..", "unnamed"),
            (".", "unnamed"),
            ("", "unnamed"),
            ("a/", "unnamed"),
            (".bashrc", "_bashrc"),
            ("-rf", "_rf"),
            ("a\0b\nc\x1b[2J", "a_b_c_[2J"),
            ("\u{202e}gnp.exe", "_gnp.exe"),
            ("  spaces  ", "spaces"),
            ("Grüße 世界.txt", "Grüße 世界.txt"),
        ] {
            assert_eq!(safe_name(given), kept, "{given:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let name = safe_name(&format!("{}.tar", "ü".repeat(500)));
        assert!(name.len() <= MAX_NAME && name.ends_with("ü.tar"), "{name}");
        let numbered = numbered(&name, 9_999);
        assert!(numbered.len() <= MAX_NAME && numbered.ends_with(" (9999).tar"));
        let name = safe_name(&"x.".repeat(300));
        assert!(name.len() <= MAX_NAME, "{name}");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_behind() {
        let place = tempfile::tempdir().unwrap();
        let dir = SaveDir::open(&place.path().join("new")).unwrap();
        std::os::unix::fs::symlink("/nowhere", place.path().join("new/a (1).txt")).unwrap();
        let mut kept = Vec::new();
        for content in ["one", "two"] {
            let mut file = dir.begin().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            kept.push(dir.keep(file, "a.txt").unwrap());
        }
        drop(dir.begin().unwrap());
        assert_eq!(kept[0].file_name().unwrap(), "a.txt");
        assert_eq!(kept[1].file_name().unwrap(), "a (2).txt");
        assert_eq!(fs::read(&kept[0]).unwrap(), b"one");
        assert_eq!(fs::read(&kept[1]).unwrap(), b"two");
        assert_eq!(fs::read_dir(place.path().join("new")).unwrap().count(), 3);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_found_out_at_once() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = SaveDir::open(&file).unwrap_err().to_string();
        assert!(error.starts_with("cannot save files in "), "{error}");
    }
}
