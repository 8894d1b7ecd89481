//! What users and logs are told of an end, and of how a connection is protected.

use chat_core::{CloseReason, ProtocolError, Security, Timeout};

/// Every reason, and the words for it.
fn reasons() -> Vec<(CloseReason, &'static str)> {
    vec![
        (
            CloseReason::Local {
                reason: "bye".into(),
            },
            "closed by this end: bye",
        ),
        (
            CloseReason::Peer {
                reason: "bye".into(),
            },
            "closed by the peer: bye",
        ),
        (
            CloseReason::Refused {
                reason: "full".into(),
            },
            "refused by the server: full",
        ),
        (
            CloseReason::Eof { mid_frame: false },
            "truncated: the peer ended without a goodbye",
        ),
        (
            CloseReason::Eof { mid_frame: true },
            "truncated: the peer ended in the middle of a frame",
        ),
        (
            CloseReason::Unproven,
            "the server ended the connection before it showed that it holds the key",
        ),
        (
            CloseReason::Protocol(ProtocolError::TooManyErrors),
            "protocol error: too many errors",
        ),
        (
            CloseReason::Timeout(Timeout::Handshake),
            "timed out: the handshake was not done in time",
        ),
        (
            CloseReason::Timeout(Timeout::Idle),
            "timed out: nothing was heard from the peer",
        ),
        (
            CloseReason::Timeout(Timeout::Stall),
            "timed out: the peer took none of the bytes sent to it",
        ),
        (
            CloseReason::Timeout(Timeout::Answer),
            "timed out: the peer did not answer",
        ),
        (
            CloseReason::Transport {
                error: "broken pipe".into(),
            },
            "transport error: broken pipe",
        ),
    ]
}

#[test]
fn every_end_says_what_happened() {
    for (reason, words) in reasons() {
        assert_eq!(reason.to_string(), words, "{reason:?}");
    }
}

#[test]
fn the_protections_have_the_names_that_the_specification_gives_them() {
    assert_eq!(Security::Legacy.to_string(), "legacy");
    assert_eq!(Security::Sec.to_string(), "sec");
}
