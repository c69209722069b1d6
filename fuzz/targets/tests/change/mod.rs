//! Changes of an input: bits, bytes, lengths, cuts, and pieces of another one.

/// A sequence of changes, the same each time.
pub(crate) struct Changes(u64);

/// What a length or a number is changed to.
const NUMBERS: [u64; 9] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];

impl Changes {
    /// A sequence that the name decides on.
    pub(crate) fn new(name: &str) -> Self {
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(seed | 1)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// The next change of `input`: one to four steps.
    pub(crate) fn of(&mut self, input: &[u8], others: &[&[u8]], bytes_max: usize) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            self.step(&mut bytes, others);
        }
        bytes.truncate(bytes_max);
        bytes
    }

    fn step(&mut self, bytes: &mut Vec<u8>, others: &[&[u8]]) {
        let at = self.below(bytes.len());
        match self.below(8) {
            0 => {
                let bit = self.below(8);
                bytes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|byte| *byte ^= 1 << bit);
            }
            1 => {
                let new = self.next() as u8;
                bytes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|byte| *byte = new);
            }
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + self.below(16)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            4 => {
                let end = (at + 1 + self.below(32)).min(bytes.len());
                let again = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, again);
            }
            // A number of 1, 2, 4 or 8 bytes becomes another one.
            5 | 6 => {
                let width = 1 << self.below(4);
                let end = (at + width).min(bytes.len());
                let Some(place) = bytes.get_mut(at..end) else {
                    return;
                };
                let is = place
                    .iter()
                    .fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
                let new = match self.below(3) {
                    0 => is.wrapping_add(1),
                    1 => is.wrapping_sub(1),
                    _ => NUMBERS[self.below(NUMBERS.len())],
                };
                let new = new.to_be_bytes();
                let width = place.len();
                place.copy_from_slice(&new[8 - width..]);
            }
            _ => {
                let other = others[self.below(others.len())];
                let from = self.below(other.len());
                let end = (from + 1 + self.below(other.len())).min(other.len());
                let piece = other.get(from..end).unwrap_or_default();
                let till = (at + self.below(64)).min(bytes.len());
                bytes.splice(at..till, piece.iter().copied());
            }
        }
    }
}
