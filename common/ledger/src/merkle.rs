//! The Merkle tree over a vault's log: SHA-256, as in RFC 9162, section 2.1 (and RFC 6962).
//!
//! Verification says only that hashes fit together. That a root is the right one is for the
//! caller to know, from a signed checkpoint.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The largest tree, in leaves.
const SIZE_MAX: u64 = 1 << 62;

/// The hash of a leaf: SHA-256(0x00 || record).
#[must_use]
pub fn leaf_hash(record: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(record);
    hash.finalize().into()
}

/// The hash of an inner node: SHA-256(0x01 || left || right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// The root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root of the tree with these leaf hashes.
#[must_use]
pub fn root_of(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.append(leaf);
    }
    frontier.root()
}

/// The right edge of a tree: all that has to be kept to append to it and to know its root.
///
/// It holds the root of each complete subtree that the tree is made of, one for every bit set in
/// its size, from the largest, leftmost one to the smallest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    edge: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, given its [`leaf_hash`].
    pub fn append(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Every one at the end of the size is a subtree that the new one completes, as when
        // counting in binary.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.edge.push(node);
        // No log comes near the end of u64, and `from_bytes` refuses what would.
        self.size = self.size.saturating_add(1);
    }

    /// The right edge of the subtree that begins at a leaf, which has to be one where a subtree of such a tree begins.
    pub(crate) fn from(&self, begin: u64, end: u64) -> Self {
        let (mut at, mut edge) = (0_u64, Vec::new());
        for (hash, bit) in self.edge.iter().zip(bits(self.size)) {
            let next = at.saturating_add(bit);
            if at >= begin && next <= end {
                edge.push(*hash);
            }
            at = next;
        }
        let size = self.size.min(end).saturating_sub(begin);
        Self { size, edge }
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut hashes = self.edge.iter().rev();
        let Some(last) = hashes.next() else {
            return empty_root();
        };
        hashes.fold(*last, |right, left| node_hash(left, &right))
    }

    /// The size, 8 bytes big-endian, and the hashes, from left to right.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        bytes.extend(self.edge.iter().flatten());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` when it is anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, hashes) = bytes.split_first_chunk()?;
        let size = u64::from_be_bytes(*size);
        let (edge, rest) = hashes.as_chunks();
        let whole = rest.is_empty() && edge.len() as u64 == u64::from(size.count_ones());
        (whole && size <= SIZE_MAX).then(|| Self {
            size,
            edge: edge.to_vec(),
        })
    }
}

/// The bits that are set in a number, from the largest.
fn bits(number: u64) -> impl Iterator<Item = u64> {
    let bits = (0..u64::BITS).rev().map(|bit| 1_u64 << bit);
    bits.filter(move |bit| number & bit != 0)
}

/// Proves that leaf `index` is in the tree of the first `size` leaves (RFC 9162, section 2.1.3.1);
/// `None` when it is not. Reads each of the other leaf hashes once, in order within each subtree.
///
/// # Errors
/// The first error of `leaf`.
pub fn inclusion_proof<E>(
    leaf: &mut dyn FnMut(u64) -> Result<Hash, E>,
    index: u64,
    size: u64,
) -> Result<Option<Vec<Hash>>, E> {
    if index >= size || size > SIZE_MAX {
        return Ok(None);
    }
    let mut proof = Vec::new();
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let middle = begin + largest_power_below(end - begin);
        if index < middle {
            proof.push(subtree(leaf, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(leaf, begin, middle)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Proves that the tree of the first `older` leaves is the beginning of the tree of the first
/// `newer` ones (RFC 9162, section 2.1.4.1); `None` when `older` is above `newer`. Of nothing, and
/// of the tree itself, the proof is empty.
///
/// # Errors
/// The first error of `leaf`.
pub fn consistency_proof<E>(
    leaf: &mut dyn FnMut(u64) -> Result<Hash, E>,
    older: u64,
    newer: u64,
) -> Result<Option<Vec<Hash>>, E> {
    if older > newer || newer > SIZE_MAX {
        return Ok(None);
    }
    let mut proof = Vec::new();
    if older == 0 || older == newer {
        return Ok(Some(proof));
    }
    // SUBPROOF(m, D_n, b): `begin..end` is D_n, and `known` is b.
    let (mut begin, mut end, mut known) = (0, newer, true);
    while older != end {
        let middle = begin + largest_power_below(end - begin);
        if older <= middle {
            proof.push(subtree(leaf, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(leaf, begin, middle)?);
            begin = middle;
            known = false;
        }
    }
    if !known {
        proof.push(subtree(leaf, begin, end)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether `proof` shows that the leaf with this hash is number `index` of the `size` leaves under
/// `root` (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    // 1. Compare leaf_index with tree_size.
    if index >= size {
        return false;
    }
    // 2., 3.
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    // 4.
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    // 5.
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `older` leaves under `older_root` is the beginning of the
/// tree of `newer` leaves under `newer_root` (RFC 9162, section 2.1.4.2).
#[must_use]
pub fn verify_consistency(
    older: u64,
    newer: u64,
    older_root: &Hash,
    newer_root: &Hash,
    proof: &[Hash],
) -> bool {
    if older > newer {
        return false;
    }
    // The RFC leaves these two out: everything begins with nothing, and with itself.
    if older == newer {
        let right = older != 0 || *older_root == empty_root();
        return right && proof.is_empty() && older_root == newer_root;
    }
    if older == 0 {
        return proof.is_empty() && *older_root == empty_root();
    }
    // 1. An empty path fails. 2. Where `older` is a power of two its root begins the path.
    let (first, path) = if older.is_power_of_two() {
        (older_root, proof)
    } else {
        match proof.split_first() {
            Some(split) => split,
            None => return false,
        }
    };
    if path.is_empty() {
        return false;
    }
    // 3., 4.
    let (mut node, mut last) = (older - 1, newer - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // 5.
    let (mut older_hash, mut newer_hash) = (*first, *first);
    // 6.
    for hash in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            older_hash = node_hash(hash, &older_hash);
            newer_hash = node_hash(hash, &newer_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            newer_hash = node_hash(&newer_hash, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    // 7.
    last == 0 && older_hash == *older_root && newer_hash == *newer_root
}

/// The root of the tree over the leaves from `begin` up to `end`.
fn subtree<E>(
    leaf: &mut dyn FnMut(u64) -> Result<Hash, E>,
    begin: u64,
    end: u64,
) -> Result<Hash, E> {
    let mut frontier = Frontier::new();
    for index in begin..end {
        frontier.append(leaf(index)?);
    }
    Ok(frontier.root())
}

/// The largest power of two below `count`, which is at least 2.
fn largest_power_below(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The leaves, and the roots of their first 1 to 8, that Certificate Transparency's
    /// implementations share as their reference for RFC 6962.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hash(hexadecimal: &str) -> Hash {
        hex::decode(hexadecimal).unwrap().try_into().unwrap()
    }

    fn reference_leaves() -> Vec<Hash> {
        LEAVES
            .iter()
            .map(|leaf| leaf_hash(&hex::decode(leaf).unwrap()))
            .collect()
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    /// The definition of RFC 9162, section 2.1.1, word by word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let mut split = 1;
                while split * 2 < leaves.len() {
                    split *= 2;
                }
                node_hash(
                    &root_by_definition(&leaves[..split]),
                    &root_by_definition(&leaves[split..]),
                )
            }
        }
    }

    fn inclusion(leaves: &[Hash], index: u64, size: u64) -> Option<Vec<Hash>> {
        let mut leaf = |n: u64| Ok::<_, Infallible>(leaves[usize::try_from(n).unwrap()]);
        inclusion_proof(&mut leaf, index, size).unwrap()
    }

    fn consistency(leaves: &[Hash], older: u64, newer: u64) -> Option<Vec<Hash>> {
        let mut leaf = |n: u64| Ok::<_, Infallible>(leaves[usize::try_from(n).unwrap()]);
        consistency_proof(&mut leaf, older, newer).unwrap()
    }

    #[test]
    fn roots_are_those_of_the_reference() {
        assert_eq!(
            root_of([]),
            hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
        let leaves = reference_leaves();
        for (index, root) in ROOTS.iter().enumerate() {
            assert_eq!(root_of(leaves[..=index].iter().copied()), hash(root));
        }
    }

    #[test]
    fn inclusion_proofs_are_those_of_the_reference() {
        let leaves = reference_leaves();
        for (index, size, proof) in [
            (0, 1, vec![]),
            (
                0,
                8,
                vec![
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                5,
                8,
                vec![
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                3,
                vec!["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
            ),
            (
                1,
                5,
                vec![
                    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ] {
            let proof: Vec<_> = proof.into_iter().map(hash).collect();
            assert_eq!(inclusion(&leaves, index, size).unwrap(), proof);
        }
    }

    #[test]
    fn consistency_proofs_are_those_of_the_reference() {
        let leaves = reference_leaves();
        for (older, newer, proof) in [
            (1, 1, vec![]),
            (
                1,
                8,
                vec![
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                6,
                8,
                vec![
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                5,
                vec![
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ] {
            let proof: Vec<_> = proof.into_iter().map(hash).collect();
            assert_eq!(consistency(&leaves, older, newer).unwrap(), proof);
        }
    }

    #[test]
    fn every_root_is_that_of_the_definition() {
        let leaves = leaves(130);
        let mut frontier = Frontier::new();
        for size in 0..=leaves.len() {
            assert_eq!(frontier.root(), root_by_definition(&leaves[..size]));
            assert_eq!(frontier.size(), size as u64);
            let bytes = frontier.to_bytes();
            assert_eq!(Frontier::from_bytes(&bytes), Some(frontier.clone()));
            if let Some(leaf) = leaves.get(size) {
                frontier.append(*leaf);
            }
        }
    }

    #[test]
    fn every_inclusion_proof_holds_and_no_altered_one_does() {
        let leaves = leaves(33);
        for size in 1..=33 {
            let root = root_of(leaves[..size as usize].iter().copied());
            for index in 0..size {
                let leaf = &leaves[index as usize];
                let proof = inclusion(&leaves, index, size).unwrap();
                assert!(verify_inclusion(leaf, index, size, &proof, &root));
                assert!(!verify_inclusion(&[0; 32], index, size, &proof, &root));
                assert!(!verify_inclusion(leaf, size, size, &proof, &root));
                assert!(!verify_inclusion(leaf, index, 0, &proof, &root));
                assert!(!verify_inclusion(leaf, index, size, &proof, &[0; 32]));
                for other in (0..size).filter(|other| *other != index) {
                    assert!(!verify_inclusion(leaf, other, size, &proof, &root));
                }
                let mut longer = proof.clone();
                longer.push(root);
                assert!(!verify_inclusion(leaf, index, size, &longer, &root));
                for at in 0..proof.len() {
                    let mut altered = proof.clone();
                    altered[at][31] ^= 1;
                    assert!(!verify_inclusion(leaf, index, size, &altered, &root));
                    altered.remove(at);
                    assert!(!verify_inclusion(leaf, index, size, &altered, &root));
                }
            }
            assert_eq!(inclusion(&leaves, size, size), None);
        }
    }

    #[test]
    fn every_consistency_proof_holds_and_no_altered_one_does() {
        let leaves = leaves(33);
        let roots: Vec<_> = (0..=33)
            .map(|size| root_of(leaves[..size].iter().copied()))
            .collect();
        for newer in 0..=33_u64 {
            let new = &roots[newer as usize];
            for older in 0..=newer {
                let old = &roots[older as usize];
                let proof = consistency(&leaves, older, newer).unwrap();
                assert!(verify_consistency(older, newer, old, new, &proof));
                assert!(!verify_consistency(older, newer, &[0; 32], new, &proof));
                let mut longer = proof.clone();
                longer.push(*new);
                assert!(!verify_consistency(older, newer, old, new, &longer));
                for at in 0..proof.len() {
                    let mut altered = proof.clone();
                    altered[at][0] ^= 1;
                    assert!(!verify_consistency(older, newer, old, new, &altered));
                    altered.remove(at);
                    assert!(!verify_consistency(older, newer, old, new, &altered));
                }
                if older > 0 {
                    assert!(!verify_consistency(older, newer, old, &[0; 32], &proof));
                }
                if older < newer {
                    assert!(!verify_consistency(newer, older, new, old, &proof));
                    assert_eq!(consistency(&leaves, newer, older), None);
                }
            }
        }
    }

    #[test]
    fn of_a_tree_above_the_largest_nothing_is_read() {
        let mut unread = |_| Err::<Hash, _>("read");
        for (size, answer) in [(SIZE_MAX, Err("read")), (SIZE_MAX + 1, Ok(None))] {
            assert_eq!(inclusion_proof(&mut unread, 0, size), answer);
            assert_eq!(consistency_proof(&mut unread, 1, size), answer);
        }
    }

    #[test]
    fn a_frontier_of_another_length_is_refused() {
        let mut frontier = Frontier::new();
        for leaf in leaves(7) {
            frontier.append(leaf);
        }
        let bytes = frontier.to_bytes();
        assert_eq!(bytes.len(), 8 + 3 * 32);
        for length in 0..bytes.len() {
            assert_eq!(Frontier::from_bytes(&bytes[..length]), None);
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Frontier::from_bytes(&longer), None);
        let mut huge = u64::MAX.to_be_bytes().to_vec();
        huge.resize(8 + 64 * 32, 0);
        assert_eq!(Frontier::from_bytes(&huge), None);
    }
}
