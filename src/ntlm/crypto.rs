//! The one-way functions of MS-NLMP 3.3 and 6: LMOWFv1, NTOWFv1, NTOWFv2, DESL, HMAC_MD5.

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use md4::{Digest, Md4};
use md5::Md5;

/// A 16-byte hash or key.
pub type Key = [u8; 16];

/// LMOWFv1 (MS-NLMP 3.3.1): two DES encryptions of a constant under the upper-cased password.
/// Only ASCII is upper-cased; what ASCII cannot say goes in as Latin-1 where it fits. `None` when a
/// character does not fit one byte: such a password has no LM hash.
pub fn lmowfv1(password: &str) -> Option<Key> {
    let mut oem = [0; 14];
    for (slot, c) in oem.iter_mut().zip(password.chars()) {
        *slot = u8::try_from(u32::from(c.to_ascii_uppercase())).ok()?;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = oem;
    let mut hash = [0; 16];
    let (left, right) = hash.split_at_mut(8);
    left.copy_from_slice(&des([a, b, c, d, e, f, g], *b"KGS!@#$%"));
    right.copy_from_slice(&des([h, i, j, k, l, m, n], *b"KGS!@#$%"));
    Some(hash)
}

/// NTOWFv1 (MS-NLMP 3.3.1): MD4 of the password in UTF-16LE.
pub fn ntowfv1(password: &str) -> Key {
    let mut utf16 = zeroize::Zeroizing::new(Vec::with_capacity(password.len().saturating_mul(2)));
    utf16.extend(password.encode_utf16().flat_map(u16::to_le_bytes));
    Md4::digest(utf16.as_slice()).into()
}

/// NTOWFv2 (MS-NLMP 3.3.2) from NTOWFv1: the user name is upper-cased, the domain is not.
pub fn ntowfv2(ntowfv1: &Key, user: &str, domain: &str) -> Key {
    let name = format!("{}{domain}", user.to_uppercase());
    let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    hmac_md5(ntowfv1, &[&utf16])
}

/// DESL (MS-NLMP 6): 24 bytes, the challenge encrypted under three keys cut from `key` and zeros.
pub fn desl(key: &Key, challenge: [u8; 8]) -> [u8; 24] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *key;
    let thirds = [[a, b, c, d, e, f, g], [h, i, j, k, l, m, n], [o, p, 0, 0, 0, 0, 0]];
    let mut response = [0; 24];
    for (slot, third) in response.chunks_exact_mut(8).zip(thirds) {
        slot.copy_from_slice(&des(third, challenge));
    }
    response
}

/// HMAC_MD5 over the concatenation of `parts`.
pub fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> Key {
    // HMAC takes keys of every length; the error type is for algorithms that do not.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return [0; 16] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// MD5 over the concatenation of `parts`.
pub fn md5(parts: &[&[u8]]) -> Key {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// DES of one block under seven bytes of key. DES wants eight, with a parity bit (that nobody
/// reads) at the end of each: 56 bits are dealt out seven at a time.
fn des(key: [u8; 7], block: [u8; 8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g] = key;
    let bits = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
    let mut spread = [0; 8];
    for (slot, shift) in spread.iter_mut().zip([49, 42, 35, 28, 21, 14, 7, 0]) {
        let [.., low] = (bits >> shift << 1).to_be_bytes();
        *slot = low & 0xfe;
    }
    let mut block = block.into();
    Des::new(&spread.into()).encrypt_block(&mut block);
    block.into()
}
