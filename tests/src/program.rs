//! Programs under test: found, started, bounded and ended.
