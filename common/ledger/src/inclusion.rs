//! Proofs of inclusion for several records of a log, in one pass over it.

use crate::merkle::{Frontier, Hash};

/// Takes the leaves of a tree one by one, in order, and keeps what leads from some of them to the root: the log of it, not
/// the leaves.
#[derive(Debug)]
pub struct InclusionProver {
    tree: Frontier,
    size: u64,
    paths: Vec<Path>,
}

/// The subtrees beside the way from one leaf to the root: together with the leaf they are the whole tree.
#[derive(Debug)]
struct Path {
    /// First leaf, the one after the last, and what was taken of them; from the leaf's sibling on.
    beside: Vec<(u64, u64, Frontier)>,
}

impl InclusionProver {
    /// For the leaves of these indices in the tree of the first `size`; `None` when one is not in it.
    #[must_use]
    pub fn new(size: u64, indices: &[u64]) -> Option<Self> {
        Self::after(Frontier::new(), size, indices)
    }

    /// The same with the first leaves taken already, as this tree of them: none of those has an index, and they are not taken
    /// again.
    #[must_use]
    pub fn after(tree: Frontier, size: u64, indices: &[u64]) -> Option<Self> {
        let taken = tree.size();
        if taken > size || indices.iter().any(|index| *index < taken) {
            return None;
        }
        let mut paths = Vec::new();
        for index in indices {
            let mut path = Path::new(size, *index)?;
            for (begin, end, subtree) in &mut path.beside {
                if *begin < taken {
                    *subtree = tree.from(*begin, *end);
                }
            }
            paths.push(path);
        }
        Some(Self { tree, size, paths })
    }

    /// The next leaf, given its hash; those beyond the size are left out.
    pub fn append(&mut self, leaf: Hash) {
        let at = self.tree.size();
        if at >= self.size {
            return;
        }
        self.tree.append(leaf);
        for path in &mut self.paths {
            let mut beside = path.beside.iter_mut();
            if let Some((_, _, subtree)) =
                beside.find(|(begin, end, _)| (*begin..*end).contains(&at))
            {
                subtree.append(leaf);
            }
        }
    }

    /// The root, and for each index the path to it (RFC 9162, section 2.1.3.1); `None` when leaves are missing.
    #[must_use]
    pub fn finish(self) -> Option<(Hash, Vec<Vec<Hash>>)> {
        if self.tree.size() != self.size {
            return None;
        }
        let paths = self.paths.iter();
        let hashes = |path: &Path| path.beside.iter().map(|(_, _, tree)| tree.root()).collect();
        Some((self.tree.root(), paths.map(hashes).collect()))
    }
}

impl Path {
    fn new(size: u64, index: u64) -> Option<Self> {
        if index >= size || size > 1 << 62 {
            return None;
        }
        let mut beside = Vec::new();
        let (mut begin, mut end) = (0, size);
        while end - begin > 1 {
            // The largest power of two below the size of the subtree, which is two at least.
            let middle = begin + (1 << (end - begin - 1).ilog2());
            if index < middle {
                beside.push((middle, end, Frontier::new()));
                end = middle;
            } else {
                beside.push((begin, middle, Frontier::new()));
                begin = middle;
            }
        }
        beside.reverse();
        Some(Self { beside })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::merkle::{inclusion_proof, leaf_hash, verify_inclusion};

    #[test]
    fn what_is_proven_in_one_pass_is_what_is_proven_leaf_by_leaf() {
        let leaves: Vec<Hash> = (0_u8..70).map(|number| leaf_hash(&[number])).collect();
        for size in 1..=70_u64 {
            let indices: Vec<u64> = (0..size).collect();
            let mut prover = InclusionProver::new(size, &indices).unwrap();
            leaves.iter().for_each(|leaf| prover.append(*leaf));
            let (root, paths) = prover.finish().unwrap();
            for (index, path) in indices.into_iter().zip(paths) {
                let mut leaf = |at: u64| Ok::<_, Infallible>(leaves[at as usize]);
                let expected = inclusion_proof(&mut leaf, index, size).unwrap().unwrap();
                assert_eq!(path, expected, "{index} of {size}");
                let hash = leaves[index as usize];
                assert!(verify_inclusion(&hash, index, size, &path, &root));
            }
        }
    }

    #[test]
    fn what_is_proven_from_a_tree_on_is_what_is_proven_from_its_beginning() {
        let leaves: Vec<Hash> = (0_u8..40).map(|number| leaf_hash(&[number])).collect();
        for size in 1..=40_u64 {
            let mut tree = Frontier::new();
            for taken in 0..size {
                let indices: Vec<u64> = (taken..size).collect();
                let mut prover = InclusionProver::after(tree.clone(), size, &indices).unwrap();
                let rest = leaves.iter().skip(taken as usize);
                rest.for_each(|leaf| prover.append(*leaf));
                let (root, paths) = prover.finish().unwrap();
                for (index, path) in indices.into_iter().zip(paths) {
                    let hash = leaves[index as usize];
                    let holds = verify_inclusion(&hash, index, size, &path, &root);
                    assert!(holds, "{index} of {size} from {taken} on");
                }
                tree.append(leaves[taken as usize]);
                assert!(InclusionProver::after(tree.clone(), size, &[taken]).is_none());
            }
            assert_eq!(
                tree.root(),
                crate::merkle::root_of(leaves[..size as usize].iter().copied())
            );
        }
    }

    #[test]
    fn a_leaf_that_is_not_there_has_no_proof() {
        assert!(InclusionProver::new(3, &[3]).is_none());
        assert!(InclusionProver::new(0, &[0]).is_none());
        let mut prover = InclusionProver::new(3, &[0]).unwrap();
        prover.append(leaf_hash(b"one"));
        assert!(prover.finish().is_none());
    }

    #[test]
    fn a_tree_ends_where_it_was_said_to() {
        let leaves: Vec<Hash> = (0_u8..5).map(|number| leaf_hash(&[number])).collect();
        let proven = |count: usize| {
            let mut prover = InclusionProver::new(3, &[1]).unwrap();
            leaves[..count].iter().for_each(|leaf| prover.append(*leaf));
            prover.finish()
        };
        assert!(proven(3).is_some());
        assert_eq!(proven(5), proven(3), "what comes after it is left out");
        let mut tree = Frontier::new();
        leaves[..3].iter().for_each(|leaf| tree.append(*leaf));
        let whole = InclusionProver::after(tree.clone(), 3, &[]).unwrap();
        assert_eq!(whole.finish(), Some((tree.root(), vec![])));
        assert!(InclusionProver::after(tree, 2, &[]).is_none());
        assert!(InclusionProver::new(1 << 62, &[0]).is_some());
        assert!(InclusionProver::new((1 << 62) + 1, &[0]).is_none());
    }
}
