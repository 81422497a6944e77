//! What a receipt names: the bytes as stored, chunk by chunk (PROTOCOL.md, I-16 to I-19).

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::leaf::{RootError, require_ascending};
use crate::manifest::ContentDigest;
use crate::merkle::{self, Node, Root, RootBuilder};

/// Bytes of a chunk; the last is shorter. Small enough to be answered with on chain.
pub const CHUNK_BYTES: usize = 1024;

/// Root over the chunks of bytes as stored.
pub type ChunkRoot = Root;

/// One unit's output as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredUnit {
    /// The unit's index within its job.
    pub unit: u32,
    /// BLAKE3 of the bytes as stored.
    pub address: ContentDigest,
    /// Length of the bytes as stored.
    pub length: u64,
    /// Root over their chunks.
    pub chunk_root: ChunkRoot,
}

impl StoredUnit {
    /// The unit's leaf.
    pub fn leaf(&self) -> Node {
        Node::of(&[
            &[0x03],
            &self.unit.to_be_bytes(),
            self.address.as_bytes(),
            &self.length.to_be_bytes(),
            self.chunk_root.as_bytes(),
        ])
    }
}

/// The root over a round's stored units, which must ascend.
pub fn stored_root(units: &[StoredUnit]) -> Result<Root, RootError> {
    require_ascending(units.iter().map(|unit| unit.unit))?;
    merkle::root(units.iter().map(StoredUnit::leaf)).ok_or(RootError::Empty)
}

/// The leaf of one chunk.
pub fn chunk_leaf(index: u32, chunk: &[u8]) -> Node {
    Node::of(&[&[0x04], &index.to_be_bytes(), chunk])
}

/// Digests bytes as stored while they pass: address, length and chunk root in one go.
#[derive(Debug, Clone, Default)]
pub struct StoredDigest {
    blake3: blake3::Hasher,
    chunk: Vec<u8>,
    chunks: u32,
    tree: RootBuilder,
    length: u64,
    overflow: bool,
}

impl StoredDigest {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.blake3.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.chunk.len();
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            bytes = rest;
            if self.chunk.is_empty() && part.len() == CHUNK_BYTES {
                self.close_chunk(part);
                continue;
            }
            self.chunk.extend_from_slice(part);
            if self.chunk.len() == CHUNK_BYTES {
                let chunk = std::mem::take(&mut self.chunk);
                self.close_chunk(&chunk);
                self.chunk = chunk;
                self.chunk.clear();
            }
        }
    }

    fn close_chunk(&mut self, chunk: &[u8]) {
        match (
            self.tree.push(chunk_leaf(self.chunks, chunk)),
            self.chunks.checked_add(1),
        ) {
            (Some(()), Some(chunks)) => self.chunks = chunks,
            _ => self.overflow = true,
        }
    }

    /// Address, length and chunk root; `None` of 4 TiB or more, which the chunk index cannot count.
    pub fn finish(mut self) -> Option<(ContentDigest, u64, ChunkRoot)> {
        if !self.chunk.is_empty() || self.length == 0 {
            let last = std::mem::take(&mut self.chunk);
            self.close_chunk(&last);
        }
        if self.overflow {
            return None;
        }
        Some((self.blake3.finalize().into(), self.length, self.tree.finish()?))
    }
}

impl io::Write for StoredDigest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Address, length and chunk root of everything that `input` gives.
pub fn chunk_root(mut input: impl Read) -> io::Result<(ContentDigest, u64, ChunkRoot)> {
    let mut digest = StoredDigest::new();
    io::copy(&mut input, &mut digest)?;
    digest
        .finish()
        .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "4 TiB or more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_bytes_are_one_empty_chunk() {
        let (address, length, chunks) = chunk_root(&b""[..]).unwrap();
        assert_eq!((address, length), (ContentDigest::of(b""), 0));
        assert_eq!(Some(chunks), merkle::root([chunk_leaf(0, b"")]));
    }

    proptest! {
        #[test]
        fn digests_do_not_depend_on_how_bytes_arrive(
            bytes in prop::collection::vec(any::<u8>(), 0..5000), cuts in prop::collection::vec(1_usize..1500, 1..20)
        ) {
            let mut streamed = StoredDigest::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (part, after) = rest.split_at(rest.len().min(*cut));
                streamed.update(part);
                rest = after;
            }
            let (address, length, chunks) = streamed.finish().unwrap();
            let leaves: Vec<_> = if bytes.is_empty() {
                vec![chunk_leaf(0, b"")]
            } else {
                bytes.chunks(CHUNK_BYTES).zip(0..).map(|(chunk, index)| chunk_leaf(index, chunk)).collect()
            };
            prop_assert_eq!(address, ContentDigest::of(&bytes));
            prop_assert_eq!(length, bytes.len() as u64);
            prop_assert_eq!(Some(chunks), merkle::root(leaves));
        }
    }
}
