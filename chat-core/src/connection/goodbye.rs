//! ERROR and DISCONNECT: how an end is put into words (PROTOCOL.md §5.3 and §5.4).

use alloc::borrow::ToOwned;
use alloc::string::String;

use bytes::Bytes;

use super::{Connection, Sort};
use crate::ContentType;
use crate::Instant;
use crate::frame::{ChunkOp, EncodedFrame, Extra, FrameKind, push_json_string};

/// How much of a reason or an error text is sent, and kept of the peer's.
const MAX_TEXT: usize = 1024;

/// How much of the reason of a refusal is sent: with its headers it stays below 1,024 bytes
/// (PROTOCOL.md §4.2).
const MAX_REFUSAL: usize = 870;

impl Connection {
    pub(super) fn push_error(&mut self, now: Instant, text: &str, min_len: usize) {
        let frame = self.error_frame(text, min_len);
        self.push(now, frame, Sort::Other);
    }

    pub(super) fn push_refusal(&mut self, now: Instant, reason: &str) {
        self.push_error(now, &reason[..reason.floor_char_boundary(MAX_REFUSAL)], 0);
    }

    pub(super) fn error_frame(&mut self, text: &str, min_len: usize) -> EncodedFrame {
        let text = match cut(text) {
            "" => "unspecified error",
            text => text,
        };
        self.encode(
            FrameKind::Error,
            ContentType::TEXT,
            Bytes::copy_from_slice(text.as_bytes()),
            Extra::None,
            min_len,
        )
        // Not empty, and at most `MAX_TEXT` bytes.
        .expect("an error text fits")
    }

    /// A transfer is given up.
    pub(super) fn abort_frame(&mut self, id: u64, reason: &str) -> EncodedFrame {
        let reason = match cut(reason) {
            "" => "unspecified reason",
            reason => reason,
        };
        let reason = Bytes::copy_from_slice(reason.as_bytes());
        self.encode_chunk(id, ChunkOp::Abort, ContentType::TEXT, reason)
    }

    pub(super) fn push_disconnect(&mut self, now: Instant, reason: &str) {
        let mut json = String::from("{\"message\": \"Disconnecting\", \"reason\": ");
        push_json_string(&mut json, cut(reason));
        json.push('}');
        let frame = self
            .encode(
                FrameKind::Disconnect,
                ContentType::JSON,
                Bytes::from(json),
                Extra::None,
                self.min_len(),
            )
            // At most six times `MAX_TEXT` bytes.
            .expect("a reason fits");
        self.push(now, frame, Sort::Other);
    }
}

/// The text of an ERROR.
pub(super) fn error_text(content: &[u8]) -> String {
    // Three bytes more, so that the last character that may stay is whole.
    let text = String::from_utf8_lossy(&content[..content.len().min(MAX_TEXT + 3)]);
    cut(&text).to_owned()
}

/// The reason in a DISCONNECT; empty where there is none that can be read.
pub(super) fn disconnect_reason(content: &[u8]) -> String {
    // A reason of full length, every character of it escaped, with room for the rest.
    if content.len() > 8 * MAX_TEXT {
        return String::new();
    }
    serde_json::from_slice::<serde_json::Value>(content)
        .ok()
        .and_then(|value| Some(cut(value.get("reason")?.as_str()?).to_owned()))
        .unwrap_or_default()
}

/// The first [`MAX_TEXT`] bytes of a text, in whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
