//! A Unix socket's place in the file system: taken with care, given back.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};

/// The mode of a lock file.
const LOCK_MODE: u32 = 0o600;
const BACKLOG: i32 = 1024;

/// The file of a listening socket; dropping it removes the file, if it is still ours.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    _lock: LockFile,
}

/// Device and inode: which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Listens on a Unix socket, which only those may connect to from the moment it exists whom `mode`
/// allows.
///
/// A socket that a stopped server left behind is replaced. A socket of a live server is not, nor
/// is anything that is not a socket. Two servers that start at the same time cannot both win.
pub(super) fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let lock = LockFile::take(path)?;
    remove_stale(path)?;

    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux takes the mode of the new file from the socket's own. Elsewhere the mode is set below,
    // still before `listen`: until then nobody can connect.
    let file = File::from(OwnedFd::from(socket));
    let _ = file.set_permissions(Permissions::from_mode(mode));
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.into(),
        identity: Identity::of(&metadata),
        _lock: lock,
    };
    if metadata.mode() & 0o777 != mode {
        set_mode(path, file.identity, mode)?;
    }
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    listener.set_nonblocking(true)?;
    Ok((listener, file))
}

/// Sets the mode of a file, if that is still the one: whoever can write to its directory may have put
/// something else there, a link to a key, say.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_mode(path: &Path, identity: Identity, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if Identity::of(&file.metadata()?) != identity {
        let text = "the socket was replaced while it was made";
        return Err(io::Error::other(text));
    }
    // Through the descriptor: only its owner can replace what that means.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Sets the mode of a file, and of nothing that it links to.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_mode(path: &Path, _identity: Identity, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode as _);
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chmodat(rustix::fs::CWD, path, mode, flags)?)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && (Identity::of(&metadata) == self.identity || planted!("any file is unlinked"))
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes way for a new socket, if what is there is a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is not a socket; remove it or choose another path",
        ));
    }
    // Not waiting: a listener that accepts nobody is a listener.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Connected, or not allowed to, or too many are waiting: somebody is there.
        Ok(()) | Err(_) => Err(in_use()),
    }
}

fn in_use() -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        "a running server listens there; stop it or choose another path",
    )
}

/// `PATH.lock`, locked as long as the server runs: between looking at a stale socket and replacing
/// it nobody else may.
struct LockFile {
    path: PathBuf,
    _file: File,
}

impl LockFile {
    fn take(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(LOCK_MODE)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(|error| {
                    let text = format!("cannot open the lock file {}: {error}", path.display());
                    io::Error::new(error.kind(), text)
                })?;
            let metadata = file.metadata()?;
            if !metadata.is_file() || metadata.len() > 0 {
                // Somebody's file, which must not be removed in the end.
                let text = format!("{} exists and is not a lock file", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(in_use()),
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
            // Whoever held it may have removed it before letting go: then this is a lock on a file
            // that nobody else will find.
            let locked = Identity::of(&metadata);
            let named = fs::symlink_metadata(&path).map(|metadata| Identity::of(&metadata));
            if named.is_ok_and(|named| named == locked) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Still locked, so it is the one that others wait for.
        let _ = fs::remove_file(&self.path);
    }
}
