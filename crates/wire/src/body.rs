//! Bodies of reports: zstd (RFC 8878), always with a cap on what comes out.

use model::envelope::MAX_DOCUMENT_BYTES;
use zstd::bulk::{Compressor, Decompressor};

const LEVEL: i32 = 3;

/// Why a body was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the document has {bytes} bytes, more than the limit of {limit_bytes}")]
    TooLarge { bytes: u64, limit_bytes: usize },
    #[error(
        "the compressed document is damaged, or larger than the limit of {limit_bytes} bytes when unpacked"
    )]
    Damaged { limit_bytes: usize },
}

/// Compresses a document. Refuses what [`decompress`] would refuse.
pub fn compress(document: &[u8]) -> Result<Vec<u8>, BodyError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(too_large(document.len() as u64));
    }
    Compressor::new(LEVEL)
        .and_then(|mut compressor| compressor.compress(document))
        .map_err(|_| BodyError::Damaged { limit_bytes: MAX_DOCUMENT_BYTES })
}

/// Unpacks a body that came from outside into at most `MAX_DOCUMENT_BYTES`.
///
/// The size that the frame announces is checked before anything is allocated; a frame that announces none gets a
/// buffer of the limit, which the kernel backs with memory only as far as it is written.
pub fn decompress(body: &[u8]) -> Result<Vec<u8>, BodyError> {
    decompress_within(body, MAX_DOCUMENT_BYTES)
}

/// As [`decompress`] with another limit.
pub fn decompress_within(body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, BodyError> {
    let damaged = BodyError::Damaged { limit_bytes };
    let capacity = match zstd::zstd_safe::get_frame_content_size(body) {
        Ok(Some(bytes)) if bytes > limit_bytes as u64 => {
            return Err(BodyError::TooLarge { bytes, limit_bytes });
        }
        Ok(Some(bytes)) => bytes as usize,
        Ok(None) => limit_bytes,
        Err(_) => return Err(damaged),
    };
    // One frame exactly: further frames would let a small announcement carry a large document.
    match zstd::zstd_safe::find_frame_compressed_size(body) {
        Ok(bytes) if bytes == body.len() => {}
        _ => return Err(damaged),
    }
    let mut document = Vec::with_capacity(capacity);
    let Ok(mut decompressor) = Decompressor::new() else { return Err(damaged) };
    match decompressor.decompress_to_buffer(body, &mut document) {
        Ok(_) => {
            document.shrink_to_fit();
            Ok(document)
        }
        Err(_) => Err(damaged),
    }
}

fn too_large(bytes: u64) -> BodyError {
    BodyError::TooLarge { bytes, limit_bytes: MAX_DOCUMENT_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    #[test]
    fn documents_come_back_and_shrink() {
        let document = br#"{"package":"bash","version":"5.2"}"#.repeat(200);
        let body = compress(&document).unwrap();
        assert!(body.len() * 5 < document.len(), "{} of {}", body.len(), document.len());
        assert_eq!(decompress(&body).unwrap(), document);
        assert_eq!(decompress(&compress(b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn a_bomb_that_announces_its_size_is_refused_by_the_announcement() {
        let bomb = Compressor::new(1).unwrap().compress(&vec![0; MAX_DOCUMENT_BYTES + 1]).unwrap();
        assert!(bomb.len() < 4096, "{}", bomb.len());
        let bytes = MAX_DOCUMENT_BYTES as u64 + 1;
        assert_eq!(decompress(&bomb), Err(BodyError::TooLarge { bytes, limit_bytes: MAX_DOCUMENT_BYTES }));
    }

    #[test]
    fn a_bomb_without_an_announced_size_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..17 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(matches!(zstd::zstd_safe::get_frame_content_size(&bomb), Ok(None)));
        assert_eq!(decompress(&bomb), Err(BodyError::Damaged { limit_bytes: MAX_DOCUMENT_BYTES }));
    }

    #[test]
    fn several_frames_in_one_body_are_refused() {
        let frame = compress(b"document").unwrap();
        assert!(decompress(&frame).is_ok());
        assert!(decompress(&[frame.clone(), frame].concat()).is_err());
    }

    #[test]
    fn a_document_at_the_limit_passes_and_one_byte_more_does_not() {
        let document = vec![b'x'; MAX_DOCUMENT_BYTES];
        assert_eq!(decompress(&compress(&document).unwrap()).unwrap().len(), MAX_DOCUMENT_BYTES);
        assert!(compress(&vec![b'x'; MAX_DOCUMENT_BYTES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_exceed_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(document) = decompress_within(&bytes, 64) {
                prop_assert!(document.len() <= 64);
            }
        }

        #[test]
        fn damage_never_exceeds_the_limit(at in 0usize..100, with in any::<u8>()) {
            let mut body = compress(&b"some text that repeats, some text that repeats".repeat(4)).unwrap();
            let at = at % body.len();
            body[at] = with;
            if let Ok(document) = decompress_within(&body, 4096) {
                prop_assert!(document.len() <= 4096);
            }
        }
    }
}
