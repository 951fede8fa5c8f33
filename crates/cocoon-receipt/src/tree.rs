//! Many receipts under one signature: the Merkle tree of RFC 9162, section 2.1.
//!
//! A leaf is `SHA-256(0 ‖ body)`, a node `SHA-256(1 ‖ left ‖ right)`, and a node without a neighbour moves up as it is.
//! A receipt carries its place and its neighbours up to the root, which is what was signed; of the other receipts that
//! says how many there are, and hashes that nobody can guess the text of, since each body holds a random id.

use sha2::{Digest as _, Sha256};

use crate::limits::BATCH_MAX;

/// A hash of the tree.
pub(crate) type Node = [u8; 32];

/// Where a leaf stands, and its neighbours from the bottom up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    index: u8,
    size: u8,
    neighbours: Vec<Node>,
}

/// The hash of one receipt's body.
pub(crate) fn leaf(body: &str) -> Node {
    Sha256::new().chain_update([0]).chain_update(body).finalize().into()
}

fn parent(left: &Node, right: &Node) -> Node {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over 1 to [`BATCH_MAX`] leaves, and the path of each; `None` for any other number of them.
pub(crate) fn grow(leaves: &[Node]) -> Option<(Node, Vec<Path>)> {
    let size = u8::try_from(leaves.len()).ok().filter(|&size| is_size(size))?;
    let mut paths: Vec<_> = (0..size).map(|index| Path { index, size, neighbours: Vec::new() }).collect();
    let mut level = leaves.to_vec();
    let mut height = 0_u32;
    while level.len() > 1 {
        for path in &mut paths {
            let place = usize::from(path.index) >> height;
            path.neighbours.extend(level.get(place ^ 1));
        }
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => parent(left, right),
                lone => lone.first().copied().unwrap_or_default(),
            })
            .collect();
        height = height.saturating_add(1);
    }
    Some((*level.first()?, paths))
}

impl Path {
    /// The path of a tree's only leaf.
    pub(crate) const fn alone() -> Self {
        Self { index: 0, size: 1, neighbours: Vec::new() }
    }

    /// The path of that place; `None` if the tree has no such place, or the neighbours are not as many as it takes.
    pub(crate) fn new(index: u8, size: u8, neighbours: Vec<Node>) -> Option<Self> {
        (neighbours.len() == Self::neighbours_of(index, size)?).then_some(Self { index, size, neighbours })
    }

    /// How many neighbours a place has; `None` for no place of a tree.
    pub(crate) fn neighbours_of(index: u8, size: u8) -> Option<usize> {
        (is_size(size) && index < size).then(|| levels(index, size).filter(|side| *side != Side::Alone).count())
    }

    pub(crate) const fn index(&self) -> u8 {
        self.index
    }

    pub(crate) const fn size(&self) -> u8 {
        self.size
    }

    pub(crate) fn neighbours(&self) -> &[Node] {
        &self.neighbours
    }

    /// The root that the tree has, if the leaf is at this place of it.
    pub(crate) fn root(&self, leaf: Node) -> Node {
        let mut neighbours = self.neighbours.iter();
        levels(self.index, self.size).fold(leaf, |node, side| match side {
            Side::Alone => node,
            // There are as many as sides: `new` counted them.
            Side::Left => neighbours.next().map_or(node, |right| parent(&node, right)),
            Side::Right => neighbours.next().map_or(node, |left| parent(left, &node)),
        })
    }
}

/// On which side of its parent a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Alone,
}

/// The side of a leaf, of its parent, and so on up to the root.
fn levels(index: u8, size: u8) -> impl Iterator<Item = Side> {
    let step = |&(index, size): &(u8, u8)| (size > 1).then(|| (index >> 1, size.div_ceil(2)));
    std::iter::successors(Some((index, size)), step).take_while(|(_, size)| *size > 1).map(|(index, size)| {
        match (index & 1, index.checked_add(1)) {
            (1, _) => Side::Right,
            (_, Some(next)) if next < size => Side::Left,
            _ => Side::Alone,
        }
    })
}

fn is_size(size: u8) -> bool {
    (1..=BATCH_MAX).contains(&usize::from(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Node> {
        (0..count).map(|number| leaf(&number.to_string())).collect()
    }

    /// As RFC 9162 defines it: split at the largest power of two below the length.
    fn by_definition(leaves: &[Node]) -> Node {
        if let [only] = leaves {
            return *only;
        }
        let split = leaves.len().next_power_of_two() / 2;
        parent(&by_definition(&leaves[..split]), &by_definition(&leaves[split..]))
    }

    #[test]
    fn each_leaf_of_each_tree_leads_to_the_root_of_the_rfc() {
        for count in 1..=BATCH_MAX {
            let leaves = leaves(count);
            let (root, paths) = grow(&leaves).unwrap();
            assert_eq!(root, by_definition(&leaves), "{count}");
            for (path, leaf) in paths.iter().zip(&leaves) {
                assert_eq!(path.root(*leaf), root, "{count}");
                let Path { index, size, neighbours } = path.clone();
                assert_eq!(Path::new(index, size, neighbours).as_ref(), Some(path));
            }
        }
    }

    #[test]
    fn a_leaf_at_another_place_of_the_tree() {
        let leaves = leaves(7);
        let (root, paths) = grow(&leaves).unwrap();
        for (at, path) in paths.iter().enumerate() {
            for (from, leaf) in leaves.iter().enumerate() {
                assert_eq!(path.root(*leaf) == root, at == from);
            }
        }
    }

    #[test]
    fn a_node_passed_off_as_a_leaf() {
        let leaves = leaves(4);
        let (root, _) = grow(&leaves).unwrap();
        let (left, right) = (parent(&leaves[0], &leaves[1]), parent(&leaves[2], &leaves[3]));
        let body = [left, right].concat();
        let forged = Sha256::new().chain_update([0]).chain_update(body).finalize();
        assert_ne!(root, <Node>::from(forged));
    }

    #[test]
    fn trees_that_there_are_none_of() {
        assert!(grow(&[]).is_none() && grow(&leaves(BATCH_MAX + 1)).is_none());
        for (index, size) in [(0, 0), (1, 1), (7, 7), (0, 65), (255, 255)] {
            assert_eq!(Path::new(index, size, Vec::new()), None, "{index} of {size}");
        }
        assert_eq!(Path::new(0, 3, vec![[0; 32]]), None);
        assert_eq!(Path::new(2, 3, vec![[0; 32]; 2]), None);
        assert!(Path::new(2, 3, vec![[0; 32]]).is_some());
    }
}
