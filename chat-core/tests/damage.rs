//! Damaged frames, and the order in which they are found out (PROTOCOL.md §2.3).

mod support;

use chat_core::Key;
use chat_core::frame::{
    Decoder, Encoder, Frame, FrameError, FrameKind, HeaderFault, Limits, MAGIC,
};

use support::{byte_by_byte, encode, frame, header_json, raw_frame, whole};

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
    bytes
}

/// The fixed header is not part of what is signed, but nothing in it is free: each field is
/// compared with a constant, with a limit, or with what is signed. So no flip is harmless.
#[test]
fn a_frame_with_any_bit_flipped_is_never_taken_for_a_frame() {
    let bytes = encode(&frame(FrameKind::Message, "Hello, World!"));
    let header_end = 64 + header_json(&bytes).len();
    for bit in 0..8 * bytes.len() {
        let damaged = flipped(&bytes, bit);
        let decoded = whole(&damaged);
        assert_eq!(decoded, byte_by_byte(&damaged), "bit {bit}");
        assert!(decoded.frames.is_empty(), "bit {bit} makes another frame");
        let error = decoded.end;
        let plausible = match bit / 8 {
            at @ 0..8 => {
                let found = damaged[at];
                error == Err(FrameError::BadMagic { offset: at, found })
            }
            8..10 => error == Err(FrameError::UnsupportedVersion),
            10..12 => error == Err(FrameError::UnsupportedFrameType),
            // A longer header reaches into the content, or is still to come.
            12..16 => matches!(
                error,
                Ok(_) | Err(FrameError::HeaderTooLarge { .. } | FrameError::HeaderCrc)
            ),
            16..20 => error == Err(FrameError::HeaderCrc),
            20..28 => matches!(
                error,
                Ok(_) | Err(FrameError::ContentTooLarge { .. } | FrameError::ContentCrc)
            ),
            28..32 => error == Err(FrameError::ContentCrc),
            32..64 => error == Err(FrameError::Mac),
            64 => error == Err(FrameError::HeaderJson(HeaderFault::Border)),
            at if at < header_end => error == Err(FrameError::HeaderCrc),
            _ => error == Err(FrameError::ContentCrc),
        };
        assert!(plausible, "bit {bit}: {error:?}");
    }
}

#[test]
fn refuses_magic_at_its_first_wrong_byte() {
    for offset in 0..MAGIC.len() {
        for found in [0, MAGIC[offset] ^ 1, 0xff] {
            let mut bytes = encode(&frame(FrameKind::Message, "Hello, World!"));
            bytes[offset] = found;
            let error = Err(FrameError::BadMagic { offset, found });
            assert_eq!(byte_by_byte(&bytes[..offset]).end, Ok(offset));
            assert_eq!(byte_by_byte(&bytes[..=offset]).end, error);
            assert_eq!(whole(&bytes).end, error);
        }
    }
}

/// Each step of PROTOCOL.md §2.3 comes before the next: a frame that fails at all of them is
/// mended one by one.
#[test]
fn checks_come_in_the_order_of_the_specification() {
    const JSON: &[u8] = b" \"not\": JSON ";
    const GOOD: &[u8] = b"{\"type\":\"message\",\"content_type\":\"a/b\"}";
    let good = raw_frame(GOOD, b"payload");
    let mut bytes = raw_frame(JSON, b"payload");
    let end = |bytes: &[u8]| whole(bytes).end.expect_err("it is damaged still");
    let fault = FrameError::HeaderJson;

    // 1. magic number, version, frame type
    bytes[..64].fill(0xff);
    let wrong = FrameError::BadMagic {
        offset: 0,
        found: 0xff,
    };
    assert_eq!(end(&bytes), wrong);
    bytes[..8].copy_from_slice(&MAGIC);
    assert_eq!(end(&bytes), FrameError::UnsupportedVersion);
    bytes[8..10].copy_from_slice(&[0, 1]);
    assert_eq!(end(&bytes), FrameError::UnsupportedFrameType);
    bytes[10..12].fill(0);
    // 2. both lengths
    assert!(matches!(end(&bytes), FrameError::HeaderTooLarge { .. }));
    bytes[12..16].copy_from_slice(&[0, 0, 0, 13]);
    assert!(matches!(end(&bytes), FrameError::ContentTooLarge { .. }));
    bytes[20..28].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 7]);
    // 3. the JSON header's first byte, its CRC-32, its last byte
    assert_eq!(end(&bytes), fault(HeaderFault::Border));
    bytes[64] = b'{';
    assert_eq!(end(&bytes), FrameError::HeaderCrc);
    let crc = crc32fast::hash(&bytes[64..77]);
    bytes[16..20].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(end(&bytes), fault(HeaderFault::Border));
    bytes[76] = b'}';
    let crc = crc32fast::hash(&bytes[64..77]);
    bytes[16..20].copy_from_slice(&crc.to_be_bytes());
    // 4. the CRC-32 of the content
    assert_eq!(end(&bytes), FrameError::ContentCrc);
    bytes[28..32].copy_from_slice(&good[28..32]);
    // 5. the HMAC, before the JSON header is parsed
    assert_eq!(end(&bytes), FrameError::Mac);
    // 6. the JSON header
    let signed = raw_frame(&bytes[64..77], b"payload");
    assert_eq!(end(&signed), fault(HeaderFault::Syntax));
    assert_eq!(whole(&good).frames.len(), 1);
}

#[test]
fn the_border_between_header_and_content_cannot_be_moved() {
    // Header and content are signed as one string: moved together with its checksums, the border
    // would leave the HMAC right.
    let json = b"{\"type\":\"message\",\"content_type\":\"a/b\"}";
    let signed = [&json[..], b"   {\"x\":1}"].concat();
    let frame = raw_frame(json, &signed[json.len()..]);
    for border in (2..signed.len()).filter(|border| *border != json.len()) {
        let (header, content) = signed.split_at(border);
        let moved = raw_frame(header, content);
        assert_eq!(moved[32..64], frame[32..64], "the HMAC is the same");
        let error = whole(&moved).end;
        assert!(
            matches!(error, Err(FrameError::HeaderJson(_))),
            "border at {border}: {error:?}"
        );
    }
}

#[test]
fn a_frame_under_another_key_is_refused() {
    let message = frame(FrameKind::Message, "Hello, World!");
    let bytes = encode(&message);
    for key in [&b""[..], b"default-kez", b"default-key\x01", &[0; 64]] {
        let mut decoder = Decoder::new(Key::new(key), Limits::default());
        assert_eq!(decoder.decode(&mut &bytes[..]), Err(FrameError::Mac));
        let mut encoder = Encoder::new(Key::new(key));
        let bytes = encoder.encode(&message, 0).expect("it fits").to_vec();
        assert_eq!(whole(&bytes).end, Err(FrameError::Mac));
        let mut decoder = Decoder::new(Key::new(key), Limits::default());
        let read: Option<Frame> = decoder.decode(&mut &bytes[..]).expect("its own key");
        assert_eq!(read.as_ref(), Some(&message));
    }
}
