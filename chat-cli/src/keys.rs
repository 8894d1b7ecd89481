//! Key files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use chat_tokio::Key;

use crate::exit::Failure;

/// More than any key needs: a larger file is some other file.
const MAX_KEY: u64 = 4096;

/// Reads a key: the bytes of the file as they are.
pub(crate) fn load(path: &Path) -> Result<Key, Failure> {
    let refuse = |why: String| Failure::key(format!("key file {}: {why}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("not a file".into()));
    }
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(refuse(format!(
            "others have access to it; run: chmod 600 {}",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_KEY + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(error.to_string()))?;
    if bytes.is_empty() {
        return Err(refuse("empty; make one with: chat-cli keygen".into()));
    }
    if bytes.len() as u64 > MAX_KEY {
        return Err(refuse(format!("longer than {MAX_KEY} bytes")));
    }
    Ok(Key::new(&bytes))
}

/// Writes 32 random bytes to a new file that only its owner can read.
pub(crate) fn generate(path: &Path) -> Result<(), Failure> {
    let fail = |error: String| Failure::io(format!("cannot make {}: {error}", path.display()));
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| fail(error.to_string()))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                fail("it exists, and no file is overwritten; choose another path".into())
            }
            _ => fail(error.to_string()),
        })?;
    file.write_all(&key)
        .and_then(|()| file.sync_all())
        .map_err(|error| fail(error.to_string()))?;
    writeln!(io::stdout(), "{}", path.display())
        .map_err(|error| Failure::io(format!("cannot write to standard output: {error}")))
}
