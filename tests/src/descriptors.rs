//! How many descriptors a process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises what this process and its children may have to `wanted`, or as far as it goes; returns how
/// far that is.
pub(crate) fn raise_descriptors(wanted: u64) -> u64 {
    let allowed = || {
        let limit = getrlimit(Resource::Nofile);
        (limit.current.unwrap_or(u64::MAX), limit.maximum)
    };
    let (current, maximum) = allowed();
    if current >= wanted {
        return current;
    }
    let set = |current, maximum| {
        let limit = Rlimit {
            current: Some(current),
            maximum,
        };
        setrlimit(Resource::Nofile, limit).is_ok()
    };
    let most = maximum.unwrap_or(u64::MAX);
    // Beyond the hard limit goes only who may raise that.
    if most >= wanted || !set(wanted, Some(wanted)) {
        set(wanted.min(most), maximum);
    }
    allowed().0
}
