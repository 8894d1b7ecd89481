//! Key files.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use chat_tokio::Key;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::exit::Failure;

/// More than any key needs: a larger file is some other file.
const MAX_KEY: u16 = 4096;

/// Reads a key: the bytes of the file as they are.
pub(crate) fn load(path: &Path) -> Result<Key, Failure> {
    let refuse = |why: String| Failure::key(format!("key file {}: {why}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("not a file".into()));
    }
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
    if !is_ours(&metadata) {
        return Err(refuse(format!("it belongs to user {}", metadata.uid())));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(refuse(format!(
            "others have access to it; run: chmod 600 {}",
            path.display()
        )));
    }
    // Room for all of it: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::from(MAX_KEY) + 1));
    file.take(u64::from(MAX_KEY) + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(error.to_string()))?;
    if bytes.is_empty() {
        return Err(refuse("empty; make one with: chat-cli keygen".into()));
    }
    if bytes.len() > usize::from(MAX_KEY) {
        return Err(refuse(format!("longer than {MAX_KEY} bytes")));
    }
    if *bytes == *Key::DEFAULT_BYTES {
        return Err(refuse(
            "it holds the default key, which is public; make one with: chat-cli keygen".into(),
        ));
    }
    Ok(Key::new(&bytes))
}

/// Whether nobody but this user and root can change what is there.
fn is_ours(metadata: &Metadata) -> bool {
    [0, geteuid().as_raw()].contains(&metadata.uid())
}

/// Reads the keys of a directory, each with the name that it has there without `.key`.
pub(crate) fn load_dir(dir: &Path) -> Result<Vec<(String, Key)>, Failure> {
    let refuse = |why: String| Failure::key(format!("key directory {}: {why}", dir.display()));
    let metadata = fs::metadata(dir).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(refuse("not a directory".into()));
    }
    if !is_ours(&metadata) {
        return Err(refuse(format!("it belongs to user {}", metadata.uid())));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(refuse(format!(
            "others can put keys into it; run: chmod go-w {}",
            dir.display()
        )));
    }
    let mut keys: Vec<(String, Key)> = Vec::new();
    let entries = fs::read_dir(dir).map_err(|error| refuse(error.to_string()))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    paths.sort();
    for path in paths {
        if path.extension() != Some(OsStr::new("key")) {
            tracing::warn!(?path, "not a key: its name does not end with .key");
            continue;
        }
        let name = path.file_stem().and_then(OsStr::to_str);
        let is_plain = |c: char| c.is_alphanumeric() || "-_.@+ ".contains(c);
        let Some(name) = name.filter(|name| name.chars().all(is_plain)) else {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(refuse(format!(
                "{}: a name is letters, digits, spaces, and -_.@+; rename it",
                file.escape_debug()
            )));
        };
        let key = load(&path)?;
        if let Some((other, _)) = keys.iter().find(|(_, other)| other.id() == key.id()) {
            return Err(refuse(format!(
                "{name} and {other} have the same key; make one for each with: chat-cli keygen"
            )));
        }
        keys.push((name.to_owned(), key));
    }
    if keys.is_empty() {
        return Err(refuse(format!(
            "there is no key in it; make one with: chat-cli keygen {}",
            dir.join("NAME.key").display()
        )));
    }
    for (name, key) in &keys {
        tracing::info!(name, id = %key.id(), "key");
    }
    Ok(keys)
}

/// A key that nobody else holds.
pub(crate) fn random() -> Result<Key, Failure> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key)
        .map_err(|error| Failure::io(format!("the system has no random bytes: {error}")))?;
    Ok(Key::new(&*key))
}

/// Writes 32 random bytes to a new file that only its owner can read.
pub(crate) fn generate(path: &Path) -> Result<(), Failure> {
    let fail = |error: String| Failure::io(format!("cannot make {}: {error}", path.display()));
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|error| fail(error.to_string()))?;
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
    file.write_all(&*key)
        .and_then(|()| file.sync_all())
        .map_err(|error| {
            // Half a key is none.
            let _ = fs::remove_file(path);
            fail(error.to_string())
        })?;
    writeln!(io::stdout(), "{}", path.display())
        .map_err(|error| Failure::io(format!("cannot write to standard output: {error}")))
}
