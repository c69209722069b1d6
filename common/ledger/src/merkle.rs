//! The Merkle tree over a vault's log (RFC 9162, section 2.1).
