//! One AES-GCM ciphertext that two keys accept: GCM authenticates with a polynomial, which commits to no key. With one
//! free block, the tags under two keys are made equal by solving one equation in GF(2^128) (NIST SP 800-38D section 6;
//! Dodis et al., "Fast Message Franking", 2018).

use aes_gcm::KeyInit as _;
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::BlockCipherEncrypt as _;

const BLOCK: usize = 16;

fn encrypt(key: &[u8; 32], block: [u8; BLOCK]) -> [u8; BLOCK] {
    let mut block = block.into();
    Aes256::new(key.into()).encrypt_block(&mut block);
    block.into()
}

/// The counter block of this number; 1 masks the tag, 2 is the first of the text.
fn counter(iv: &[u8; 12], number: u32) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..12].copy_from_slice(iv);
    block[12..].copy_from_slice(&number.to_be_bytes());
    block
}

/// The key stream that a text is XORed with.
pub fn key_stream(key: &[u8; 32], iv: &[u8; 12], bytes: usize) -> Vec<u8> {
    let blocks = (2..).map(|number| encrypt(key, counter(iv, number)));
    blocks
        .take(bytes.div_ceil(BLOCK))
        .flatten()
        .take(bytes)
        .collect()
}

/// A product in GF(2^128), in GCM's order of bits.
fn product(x: u128, y: u128) -> u128 {
    const R: u128 = 0xe1 << 120;
    let (mut sum, mut shifted) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            sum ^= shifted;
        }
        shifted = shifted >> 1 ^ if shifted & 1 == 1 { R } else { 0 };
    }
    sum
}

fn power(x: u128, exponent: u128) -> u128 {
    // One, in this order of bits, is the highest.
    let (mut result, mut square) = (1 << 127, x);
    for bit in 0..128 {
        if exponent >> bit & 1 == 1 {
            result = product(result, square);
        }
        square = product(square, square);
    }
    result
}

fn inverse(x: u128) -> u128 {
    power(x, u128::MAX - 1)
}

/// The blocks that are authenticated: additional data, ciphertext, their lengths.
fn blocks(additional: &[u8], ciphertext: &[u8]) -> Vec<u128> {
    let padded = |bytes: &[u8]| {
        let block = |chunk: &[u8]| {
            let mut block = [0; BLOCK];
            block[..chunk.len()].copy_from_slice(chunk);
            u128::from_be_bytes(block)
        };
        bytes.chunks(BLOCK).map(block).collect::<Vec<_>>()
    };
    let lengths = ((additional.len() as u128 * 8) << 64) | (ciphertext.len() as u128 * 8);
    [padded(additional), padded(ciphertext), vec![lengths]].concat()
}

/// What the blocks come to under a key, and its powers for each block.
fn tag(key: &[u8; 32], iv: &[u8; 12], blocks: &[u128]) -> u128 {
    let h = u128::from_be_bytes(encrypt(key, [0; BLOCK]));
    let hash = blocks
        .iter()
        .fold(0, |hash, block| product(hash ^ block, h));
    hash ^ u128::from_be_bytes(encrypt(key, counter(iv, 1)))
}

/// Makes a ciphertext with its tag that both keys accept. Under the first it is `plaintext` but for the block of 16 bytes
/// that begins at `free_at`, a multiple of 16; under the second it is whatever it is.
pub fn ciphertext(
    keys: [&[u8; 32]; 2],
    iv: &[u8; 12],
    additional: &[u8],
    plaintext: &[u8],
    free_at: usize,
) -> Vec<u8> {
    assert!(free_at.is_multiple_of(BLOCK) && free_at + BLOCK <= plaintext.len());
    let stream = key_stream(keys[0], iv, plaintext.len());
    let mut text: Vec<u8> = plaintext.iter().zip(stream).map(|(a, b)| a ^ b).collect();
    text[free_at..free_at + BLOCK].fill(0);
    let without = blocks(additional, &text);
    // The free block's share of a tag is its product with the hash key to the number of blocks from it to the end.
    let index = additional.len().div_ceil(BLOCK) + free_at / BLOCK;
    let exponent = (without.len() - index) as u128;
    let share = |key| power(u128::from_be_bytes(encrypt(key, [0; BLOCK])), exponent);
    let difference = tag(keys[0], iv, &without) ^ tag(keys[1], iv, &without);
    let free = product(difference, inverse(share(keys[0]) ^ share(keys[1])));
    text[free_at..free_at + BLOCK].copy_from_slice(&free.to_be_bytes());
    let whole = blocks(additional, &text);
    let found = tag(keys[0], iv, &whole);
    assert_eq!(found, tag(keys[1], iv, &whole));
    [text, found.to_be_bytes().to_vec()].concat()
}
