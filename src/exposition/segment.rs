//! Segments: parts of a page that are compressed on their own and concatenated to one gzip stream.
//!
//! A deflate stream may be cut after a flush at a byte boundary, so parts compressed with windows of their own can follow
//! each other in one gzip member; only their checksums have to be combined. So the series of a target are compressed
//! once, independent of scrapes and other targets.

use std::io::{self, Write};

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// A compressed text.
#[derive(Clone, Debug)]
pub struct Segment {
    deflated: Bytes,
    checksum: Hasher,
    length: usize,
}

/// Compresses segments, one after the other.
#[derive(Debug)]
pub struct Compressor(DeflateEncoder<Vec<u8>>);

impl Default for Compressor {
    fn default() -> Self {
        Self(DeflateEncoder::new(Vec::new(), Compression::fast()))
    }
}

impl Compressor {
    /// Compresses `text`.
    pub fn segment(&mut self, text: &[u8]) -> Segment {
        let mut writer = self.begin();
        writer.push(text);
        writer.finish()
    }

    /// Starts a segment that is written in parts.
    pub fn begin(&mut self) -> SegmentWriter<'_> {
        self.0.reset(Vec::new()).expect(INFALLIBLE);
        SegmentWriter { encoder: &mut self.0, checksum: Hasher::new(), length: 0 }
    }
}

const INFALLIBLE: &str = "writing to a vector does not fail";

/// A segment that is being written, without holding its text. Writing to it does not fail.
#[derive(Debug)]
pub struct SegmentWriter<'a> {
    encoder: &'a mut DeflateEncoder<Vec<u8>>,
    checksum: Hasher,
    length: usize,
}

impl SegmentWriter<'_> {
    /// Returns true if nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the segment.
    pub fn finish(self) -> Segment {
        self.encoder.flush().expect(INFALLIBLE);
        let mut deflated = std::mem::take(self.encoder.get_mut());
        deflated.shrink_to_fit();
        Segment { deflated: deflated.into(), checksum: self.checksum, length: self.length }
    }

    fn push(&mut self, text: &[u8]) {
        self.checksum.update(text);
        self.length += text.len();
        self.encoder.write_all(text).expect(INFALLIBLE);
    }
}

impl Write for SegmentWriter<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Concatenates segments to the chunks of one gzip stream, without copying them.
pub fn gzip(segments: impl IntoIterator<Item = Segment>) -> Vec<Bytes> {
    // Magic, deflate, no flags, no time, no hint, unknown system.
    let mut chunks = vec![Bytes::from_static(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])];
    let (mut checksum, mut length) = (Hasher::new(), 0_usize);
    for segment in segments {
        checksum.combine(&segment.checksum);
        length = length.wrapping_add(segment.length);
        chunks.push(segment.deflated);
    }
    // An empty last block, then the checksum and the length modulo 2^32.
    let mut end = vec![3, 0];
    end.extend_from_slice(&checksum.finalize().to_le_bytes());
    end.extend_from_slice(&(length as u64).to_le_bytes()[..4]);
    chunks.push(end.into());
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn unzipped(chunks: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(chunks.concat().as_slice()).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn segments_in_a_row_are_one_gzip_stream_of_all_their_texts() {
        let mut compressor = Compressor::default();
        let random: Vec<u8> =
            (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let texts = [
            Vec::new(),
            b"a".to_vec(),
            b"redis_stream_group_lag{stream=\"s\"} 12\n".repeat(20_000),
            random,
            Vec::new(),
            b"end".to_vec(),
        ];
        let segments = texts.iter().map(|text| compressor.segment(text)).collect::<Vec<_>>();
        assert_eq!(unzipped(&gzip(segments.clone())), texts.concat());
        let reversed = texts.iter().rev().flatten().copied().collect::<Vec<_>>();
        assert_eq!(
            unzipped(&gzip(segments.into_iter().rev())),
            reversed,
            "in any order, any number of times"
        );
        assert_eq!(unzipped(&gzip([])), b"");
    }

    #[test]
    fn a_segment_can_come_piece_by_piece() {
        let text = b"redis_stream_group_lag{stream=\"s\"} 12\n".repeat(20_000);
        let mut compressor = Compressor::default();
        let mut writer = compressor.begin();
        assert!(writer.is_empty());
        text.chunks(7_777).for_each(|piece| writer.write_all(piece).unwrap());
        assert!(!writer.is_empty());
        let segments = [writer.finish(), compressor.begin().finish(), compressor.segment(b"end")];
        assert_eq!(unzipped(&gzip(segments)), [&text[..], b"end"].concat());
    }

    proptest::proptest! {
        #[test]
        fn any_texts_survive(texts in proptest::collection::vec(
            proptest::collection::vec(proptest::prelude::any::<u8>(), 0..5_000), 0..6)) {
            let mut compressor = Compressor::default();
            let segments: Vec<_> = texts.iter().map(|text| compressor.segment(text)).collect();
            proptest::prop_assert_eq!(unzipped(&gzip(segments)), texts.concat());
        }
    }
}
