//! Segments: pieces of a page, each compressed by itself, that make up one gzip stream when they are put in
//! a row.
//!
//! A deflate stream may be cut after a flush at a byte's boundary, so pieces compressed with a window of their
//! own can follow each other in one gzip member; only the checksum has to be combined. So what one target
//! found out is compressed once, however often it is scraped and whatever other targets do meanwhile.

use std::io::{self, Write};

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};

/// A piece of text, compressed.
#[derive(Clone, Debug)]
pub struct Segment {
    deflated: Bytes,
    checksum: Hasher,
    length: usize,
}

/// Makes segments, one after the other.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Default for Compressor {
    fn default() -> Self {
        Self(Compress::new(Compression::fast(), false))
    }
}

impl Compressor {
    /// Compresses `text`.
    pub fn segment(&mut self, text: &[u8]) -> Segment {
        let mut unfinished = self.begin();
        unfinished.push(text);
        unfinished.finish()
    }

    /// Begins a segment that comes piece by piece.
    pub fn begin(&mut self) -> Unfinished<'_> {
        self.0.reset();
        Unfinished { compress: &mut self.0, deflated: Vec::new(), checksum: Hasher::new(), length: 0 }
    }
}

/// A segment that grows: its text is never there as a whole. Writing to it does not fail.
#[derive(Debug)]
pub struct Unfinished<'a> {
    compress: &'a mut Compress,
    deflated: Vec<u8>,
    checksum: Hasher,
    length: usize,
}

impl Unfinished<'_> {
    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The segment of all that was written.
    #[must_use]
    pub fn finish(mut self) -> Segment {
        self.deflate(&[], FlushCompress::Sync);
        self.deflated.shrink_to_fit();
        Segment { deflated: self.deflated.into(), checksum: self.checksum, length: self.length }
    }

    fn push(&mut self, text: &[u8]) {
        self.checksum.update(text);
        self.length += text.len();
        self.deflate(text, FlushCompress::None);
    }

    fn deflate(&mut self, mut text: &[u8], flush: FlushCompress) {
        loop {
            // Room left over after everything was taken means that a flush is complete.
            self.deflated.reserve(4 * 1024);
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(text, &mut self.deflated, flush);
            let taken = usize::try_from(self.compress.total_in() - before).unwrap_or(text.len());
            text = &text[taken..];
            let is_full = self.deflated.len() == self.deflated.capacity();
            match status {
                Ok(Status::Ok | Status::BufError) if text.is_empty() && !is_full => return,
                Ok(Status::StreamEnd) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

impl Write for Unfinished<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts segments in a row: the chunks of one gzip stream, without copying them.
#[must_use]
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
        let mut unfinished = compressor.begin();
        assert!(unfinished.is_empty());
        text.chunks(7_777).for_each(|piece| unfinished.write_all(piece).unwrap());
        assert!(!unfinished.is_empty());
        let segments = [unfinished.finish(), compressor.begin().finish(), compressor.segment(b"end")];
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
