//! Arbitrary frames and splits, for property tests.

use chat_core::frame::{Extra, Frame, FrameKind};
use chat_core::{ContentType, Uuid};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;

/// How a property is tested: with the same cases in every run. `PROPTEST_RNG_SEED` gives other
/// ones; `PROPTEST_CASES` (256 as it is) more or fewer.
pub(crate) fn property(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: (cases * default.cases).div_ceil(256),
        failure_persistence: None,
        rng_seed: match default.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            fixed @ RngSeed::Fixed(_) => fixed,
        },
        ..default
    }
}

/// Any frame that can be encoded, with a content of at most `max` bytes.
pub(crate) fn any_frame(max: usize) -> impl Strategy<Value = Frame> {
    (
        select(&FrameKind::ALL[..]),
        any_content_type(),
        proptest::option::of(any_uuid()),
        vec(any::<u8>(), 1..=max),
    )
        .prop_map(|(kind, content_type, session, content)| Frame {
            kind,
            content_type,
            session,
            content: content.into(),
            extra: Extra::None,
        })
}

/// A frame with one of few headers, so that headers repeat.
pub(crate) fn similar_frame(max: usize) -> impl Strategy<Value = Frame> {
    (
        select(&FrameKind::ALL[..2]),
        select(vec!["a/b".to_owned(), "c/d".to_owned(), "long".repeat(300)]),
        proptest::option::of(Just(super::SESSION)),
        vec(any::<u8>(), 1..=max),
    )
        .prop_map(|(kind, content_type, session, content)| Frame {
            kind,
            content_type: content_type.into(),
            session,
            content: content.into(),
            extra: Extra::None,
        })
}

/// Where to cut a stream into pieces.
pub(crate) fn any_cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..8)
}

/// A stream cut into pieces.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

fn any_content_type() -> impl Strategy<Value = ContentType> {
    vec(any::<char>(), 1..40).prop_map(|name| name.into_iter().collect::<String>().into())
}

fn any_uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}
