//! JSON headers, right and wrong.

use chat_core::frame::{Frame, FrameError, HeaderFault};

use super::wire::{raw_frame, whole};

/// A header with what a test is about as its last keys.
pub(crate) fn with(keys: &str) -> String {
    format!("{{\"type\": \"message\", \"content_type\": \"text/plain\", {keys}}}")
}

/// What a frame with this header is.
pub(crate) fn read(json: impl AsRef<[u8]>) -> Result<Frame, FrameError> {
    let bytes = raw_frame(json.as_ref(), b"payload");
    let mut decoded = whole(&bytes);
    decoded.end.map(|_| decoded.frames.remove(0))
}

#[track_caller]
pub(crate) fn accepts(json: impl AsRef<[u8]>) -> Frame {
    read(json).expect("the header is right")
}

#[track_caller]
pub(crate) fn refuses(json: impl AsRef<[u8]>, fault: HeaderFault) {
    let json = json.as_ref();
    let shown = String::from_utf8_lossy(json);
    assert_eq!(read(json), Err(FrameError::HeaderJson(fault)), "{shown}");
}
