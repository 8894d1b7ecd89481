//! From bytes to frames, incrementally.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::fixed::{FixedHeader, UNSIGNED_LEN};
use super::header::{CachedHeader, Header, MAX_CACHED, repeats};
use super::{FIXED_HEADER_LEN, Frame, FrameError, FrameKind, HeaderFault, Limits};
use crate::seal::SessionKey;
use crate::sign::{Digest, HeaderState, Piece, Scheme, Signing};
use crate::{Key, Message};

/// Reads frames from a stream of bytes, however it is split.
///
/// Every byte is looked at once: contents are checked as they arrive. Memory grows with what has
/// arrived, never with what was declared, and is given back after each frame. What is wrong is
/// refused at the earliest byte that proves it (PROTOCOL.md §2.3); after that the stream has no
/// next frame, and every further call returns the same error.
pub struct Decoder {
    scheme: Scheme,
    limits: Limits,
    stage: Stage,
    /// Part of the fixed header, then the JSON header until it can be trusted.
    head: Vec<u8>,
    last: Option<Box<CachedHeader>>,
    /// The digest of the content of the last frame, where it was needed.
    digest: Option<Digest>,
    /// Where small contents are kept.
    shelf: Shelf,
    /// A handshake that may lead to `sec` goes on.
    in_hello: bool,
    /// The last frame of such a handshake.
    hello: Option<Box<Hello>>,
}

/// A frame of the handshake as it came: `sec` signs its bytes (PROTOCOL.md §4.7).
pub(crate) struct Hello {
    /// Whether its authentication code is right under the shared key.
    pub(crate) is_verified: bool,
    /// The fixed header before the code.
    pub(crate) unsigned: [u8; UNSIGNED_LEN],
    pub(crate) code: [u8; 32],
    pub(crate) json: Vec<u8>,
}

/// Where in a frame it is: in boxes, for an idle connection keeps room for it.
enum Stage {
    Fixed,
    Header(Box<FixedHeader>),
    Content(Box<(FixedHeader, Content)>),
    Failed(FrameError),
}

/// A content on its way in.
struct Content {
    received: BytesMut,
    crc: crc32fast::Hasher,
    signing: Signing,
    /// What is known of a JSON header that is not the last one again.
    fresh: Option<HeaderState>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(key: Key, limits: Limits) -> Self {
        Self {
            scheme: Scheme::Shared(key),
            limits,
            stage: Stage::Fixed,
            head: Vec::new(),
            last: None,
            digest: None,
            shelf: Shelf::default(),
            in_hello: false,
            hello: None,
        }
    }

    /// A decoder for a handshake that may lead to `sec`: a frame whose authentication code is wrong is
    /// given all the same, if it is one in every other way. [`take_hello`](Self::take_hello) says
    /// whether it was.
    pub(crate) fn for_hello(key: Key, limits: Limits) -> Self {
        Self {
            in_hello: true,
            ..Self::new(key, limits)
        }
    }

    /// The last frame of such a handshake, as it came.
    pub(crate) fn take_hello(&mut self) -> Option<Hello> {
        self.hello.take().map(|hello| *hello)
    }

    /// The handshake is over: nothing is given any more whose authentication code is wrong. `key` is
    /// that of the session, if it has one.
    pub(crate) fn end_hello(&mut self, key: Option<SessionKey>) {
        self.in_hello = false;
        if let Some(key) = key {
            self.scheme = Scheme::Session(key);
            // What was worked out under another key.
            self.last = None;
        }
    }

    /// From now on frames have no codes (PROTOCOL.md §4.8).
    pub(crate) fn trust(&mut self) {
        self.scheme = Scheme::Trusted;
        // What was worked out under a key.
        self.last = None;
    }

    /// The digest of the content of the last frame, if it was worked out.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Sets the limits for the frames whose fixed header has not been read yet.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Lets go of what was kept from the last frame, unless the next has begun and may need it.
    pub(crate) fn forget(&mut self) {
        if matches!(self.stage, Stage::Fixed) {
            self.last = None;
        }
    }

    /// Lets go of an unfinished frame and of what was kept from the last: nothing will follow.
    pub(crate) fn clear(&mut self) {
        self.stage = Stage::Fixed;
        self.head = Vec::new();
        self.last = None;
    }

    /// How many bytes of an unfinished frame have been taken. Zero between frames.
    pub fn partial_len(&self) -> usize {
        match &self.stage {
            Stage::Fixed => self.head.len(),
            Stage::Header(_) => FIXED_HEADER_LEN + self.head.len(),
            Stage::Content(frame) => {
                let (fixed, content) = &**frame;
                FIXED_HEADER_LEN + fixed.header_len + content.received.len()
            }
            Stage::Failed(_) => 0,
        }
    }

    /// Takes bytes from the front of `input`, up to the end of one frame.
    ///
    /// `Ok(None)` means that all of `input` was taken and the frame goes on.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let decoded = self.step(input);
        match &decoded {
            Ok(Some(_)) => {}
            // The input has been gone through: an idle connection holds no buffers.
            Ok(None) => self.shelf = Shelf::default(),
            Err(error) => {
                self.stage = Stage::Failed(*error);
                self.head = Vec::new();
            }
        }
        decoded
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(content) = self.repeated(input, |_| true)? {
            let last = self.last.as_ref();
            return Ok(last.map(|last| last.header.frame(content)));
        }
        loop {
            match mem::replace(&mut self.stage, Stage::Fixed) {
                Stage::Failed(error) => return Err(error),
                Stage::Fixed => match self.fixed_header(input)? {
                    None => return Ok(None),
                    Some(fixed) => match self.header(&fixed, input)? {
                        None => {
                            self.stage = Stage::Header(Box::new(fixed));
                            return Ok(None);
                        }
                        Some(content) => self.stage = Stage::Content(Box::new((fixed, content))),
                    },
                },
                Stage::Header(fixed) => match self.header(&fixed, input)? {
                    None => {
                        self.stage = Stage::Header(fixed);
                        return Ok(None);
                    }
                    Some(content) => self.stage = Stage::Content(Box::new((*fixed, content))),
                },
                Stage::Content(mut frame) => {
                    let (fixed, content) = &mut *frame;
                    match content.take(fixed, input) {
                        None => {
                            self.stage = Stage::Content(frame);
                            return Ok(None);
                        }
                        Some(bytes) => {
                            let (fixed, content) = *frame;
                            return self.finish(&fixed, content, bytes).map(Some);
                        }
                    };
                }
            }
        }
    }

    /// Takes a whole message of this session that has the header of the last frame: most frames are
    /// such. `None`: it is none, or not here yet, and nothing was taken.
    pub(crate) fn decode_message(
        &mut self,
        input: &mut &[u8],
        session: Option<Uuid>,
    ) -> Result<Option<Message>, FrameError> {
        let is_message =
            |header: &Header| header.kind == FrameKind::Message && header.session == session;
        let decoded = self.repeated(input, is_message);
        let content = decoded.inspect_err(|error| self.stage = Stage::Failed(*error))?;
        Ok(content.zip(self.last.as_ref()).map(|(bytes, last)| {
            let digest = self.digest;
            Message::of(last.header.content_type.clone(), Piece { bytes, digest })
        }))
    }

    /// Takes the content of a whole frame that has the header of the last one, and a header that is
    /// wanted.
    fn repeated(
        &mut self,
        input: &mut &[u8],
        wanted: impl Fn(&Header) -> bool,
    ) -> Result<Option<Bytes>, FrameError> {
        if !matches!(self.stage, Stage::Fixed) || !self.head.is_empty() {
            return Ok(None);
        }
        let Some(last) = self.last.as_ref().filter(|last| wanted(&last.header)) else {
            return Ok(None);
        };
        let Some((fixed, rest)) = input.split_first_chunk::<FIXED_HEADER_LEN>() else {
            return Ok(None);
        };
        let Some(rest) = rest.strip_prefix(&*last.json) else {
            return Ok(None);
        };
        let fixed = FixedHeader::parse(fixed, self.limits)?;
        let same = fixed.header_len == last.json.len() && fixed.header_crc == last.crc;
        let Some((content, rest)) = rest.split_at_checked(fixed.content_len).filter(|_| same)
        else {
            return Ok(None);
        };
        *input = rest;
        if crc32fast::hash(content) != fixed.content_crc {
            return Err(FrameError::ContentCrc);
        }
        let (is_verified, digest) =
            self.scheme
                .verify_whole(&last.state, &fixed.unsigned(), content, &fixed.mac);
        self.digest = digest;
        if !is_verified {
            return Err(FrameError::Mac);
        }
        Ok(Some(self.shelf.put(content, rest.len())))
    }

    fn fixed_header(&mut self, input: &mut &[u8]) -> Result<Option<FixedHeader>, FrameError> {
        if self.head.is_empty()
            && let Some((bytes, rest)) = input.split_first_chunk()
        {
            let fixed = FixedHeader::parse(bytes, self.limits)?;
            *input = rest;
            return Ok(Some(fixed));
        }
        let wanted = FIXED_HEADER_LEN - self.head.len();
        let (part, rest) = input.split_at(wanted.min(input.len()));
        *input = rest;
        self.head.extend_from_slice(part);
        let Some(bytes) = self.head.first_chunk() else {
            FixedHeader::check_prefix(&self.head)?;
            return Ok(None);
        };
        let fixed = FixedHeader::parse(bytes, self.limits)?;
        self.head.clear();
        Ok(Some(fixed))
    }

    fn header(
        &mut self,
        fixed: &FixedHeader,
        input: &mut &[u8],
    ) -> Result<Option<Content>, FrameError> {
        let wanted = fixed.header_len - self.head.len();
        let (part, rest) = input.split_at(wanted.min(input.len()));
        // Its first byte alone can prove it wrong.
        if self.head.is_empty() && !part.is_empty() && part[0] != b'{' {
            return Err(FrameError::HeaderJson(HeaderFault::Border));
        }
        *input = rest;
        if let Some(last) = &self.last
            && self.head.is_empty()
            && part == last.json
            && part.len() == wanted
        {
            if fixed.header_crc != last.crc {
                return Err(FrameError::HeaderCrc);
            }
            return Ok(Some(Content::new(&last.state, None)));
        }
        self.head.extend_from_slice(part);
        if part.len() < wanted {
            return Ok(None);
        }
        if crc32fast::hash(&self.head) != fixed.header_crc {
            return Err(FrameError::HeaderCrc);
        }
        if self.head.last() != Some(&b'}') {
            return Err(FrameError::HeaderJson(HeaderFault::Border));
        }
        let state = self.scheme.header(&self.head);
        Ok(Some(Content::new(&state, Some(state.clone()))))
    }

    fn finish(
        &mut self,
        fixed: &FixedHeader,
        content: Content,
        bytes: Bytes,
    ) -> Result<Frame, FrameError> {
        if content.crc.finalize() != fixed.content_crc {
            return Err(FrameError::ContentCrc);
        }
        let unsigned = fixed.unsigned();
        let (is_verified, digest) =
            self.scheme
                .verify(content.signing, &unsigned, &bytes, &fixed.mac);
        self.digest = digest;
        if !is_verified && !self.in_hello {
            return Err(FrameError::Mac);
        }
        let header = match (content.fresh, &self.last) {
            (None, Some(last)) => return Ok(last.header.frame(bytes)),
            (fresh, _) => {
                let mut json = mem::take(&mut self.head);
                let header = Header::parse(&json);
                if self.in_hello {
                    if !is_verified && header.is_err() {
                        return Err(FrameError::Mac);
                    }
                    self.hello = Some(Box::new(Hello {
                        is_verified,
                        unsigned,
                        code: fixed.mac,
                        json: json.clone(),
                    }));
                }
                let header = header?;
                let keep = repeats(header.kind, &header.extra)
                    && json.len() <= MAX_CACHED
                    && !self.in_hello;
                if let Some(state) = fresh.filter(|_| keep) {
                    json.shrink_to_fit();
                    self.last = Some(Box::new(CachedHeader {
                        header: header.clone(),
                        json,
                        crc: fixed.header_crc,
                        state,
                    }));
                }
                header
            }
        };
        Ok(header.frame(bytes))
    }
}

impl Content {
    fn new(header: &HeaderState, fresh: Option<HeaderState>) -> Self {
        Self {
            received: BytesMut::new(),
            crc: crc32fast::Hasher::new(),
            signing: Signing::new(header),
            fresh,
        }
    }

    /// Takes what `input` has of the content; returns it when it is complete.
    fn take(&mut self, fixed: &FixedHeader, input: &mut &[u8]) -> Option<Bytes> {
        let wanted = fixed.content_len - self.received.len();
        let (part, rest) = input.split_at(wanted.min(input.len()));
        *input = rest;
        self.crc.update(part);
        self.signing.update(part);
        if part.len() == fixed.content_len {
            return Some(Bytes::copy_from_slice(part));
        }
        append(&mut self.received, part, wanted);
        (part.len() == wanted).then(|| mem::take(&mut self.received).freeze())
    }
}

/// Small contents that arrive together share an allocation.
#[derive(Default)]
struct Shelf(BytesMut);

impl Shelf {
    /// How much is allocated at once: a content that is kept keeps no more than this.
    const LEN: usize = 2 * 1024;
    /// Larger contents have allocations of their own.
    const SMALL: usize = 256;

    /// Keeps a content, behind which so many bytes of input follow.
    fn put(&mut self, content: &[u8], following: usize) -> Bytes {
        let room = self.0.capacity();
        if content.len() > Self::SMALL || following == 0 && room < content.len() {
            return Bytes::copy_from_slice(content);
        }
        if room < content.len() {
            self.0 = BytesMut::with_capacity(Self::LEN.min(content.len() + following));
        }
        self.0.extend_from_slice(content);
        let content = self.0.split().freeze();
        if following == 0 {
            self.0 = BytesMut::new();
        }
        content
    }
}

/// Adds a part to what has arrived, of which `wanted` bytes are still to come.
pub(crate) fn append(received: &mut BytesMut, part: &[u8], wanted: usize) {
    if received.capacity() - received.len() < part.len() {
        // Four times what is here, for growing copies, but never past what is still to come.
        let here = received.len() + part.len();
        received.reserve((4 * here - received.len()).min(wanted));
    }
    received.extend_from_slice(part);
}
