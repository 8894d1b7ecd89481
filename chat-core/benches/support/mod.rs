//! What the benchmarks share.

use chat_core::{Connection, Instant};

/// When everything happens.
pub(crate) const NOW: Instant = Instant::EPOCH;

/// Everything that one end shows goes to the other.
pub(crate) fn pump(from: &mut Connection, to: &mut Connection) -> bool {
    let mut slices = [&[][..]; 2];
    let count = from.poll_transmit(&mut slices);
    let len = slices[..count]
        .iter()
        .map(|slice| to.handle_input(NOW, slice))
        .sum();
    from.consume_transmit(NOW, len);
    len > 0
}
