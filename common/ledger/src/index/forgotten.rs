//! How sled is had to forget the nodes that it read and wrote.
//!
//! Its cache has 256 parts, and a node is in the one that its number says. However little the cache may take, a part keeps the
//! node that was asked for last, and finds out which one that is after 64 others. Nodes of buckets have some thousands of octets, and are
//! hardly ever needed again. So there are trees that hold nothing: the root and the leaf of each, of some hundred octets, are
//! numbered one after the other, and so there is one in every part. They are asked for often enough that it is they that
//! are kept. Nodes that sled keeps in files of their own, of more than 16 KiB, count for little there and stay longer.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many trees that hold nothing: with two nodes each, one for every part of the cache.
const TREES: u8 = 128;

/// How often each is asked for: so often that every part finds out, by what was asked for before and by all but the last of these.
const ASKED: usize = 65;

/// After how many nodes that were read they are asked for.
pub(super) const READ_MAX: u32 = 256;

/// As how many nodes read a run counts that was written.
pub(super) const WRITTEN: u32 = 64;

/// What sled is asked for in place of what it is to forget; by default there is nothing.
#[derive(Default)]
pub(super) struct Forgotten {
    trees: Vec<sled::Tree>,
    /// How many nodes were touched since it was asked.
    touched: AtomicU32,
}

impl Forgotten {
    /// Makes the trees where they are missing.
    pub(super) fn open(db: &sled::Db) -> sled::Result<Self> {
        let trees = (0..TREES).map(|tree| db.open_tree([tree]));
        Ok(Self {
            trees: trees.collect::<sled::Result<_>>()?,
            ..Self::default()
        })
    }

    /// So many nodes were touched; now and then, they are forgotten.
    pub(super) fn touch(&self, nodes: u32) -> sled::Result<()> {
        if self.touched.fetch_add(nodes, Ordering::Relaxed) + nodes < READ_MAX {
            return Ok(());
        }
        self.touched.store(0, Ordering::Relaxed);
        for _ in 0..ASKED {
            for tree in &self.trees {
                tree.get([])?;
            }
        }
        Ok(())
    }
}
