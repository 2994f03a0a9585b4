//! The one-way functions of MS-NLMP 3.3, from the server's side: what a password must have
//! produced.

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use md4::Md4;
use md5::{Digest, Md5};

pub fn utf16le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Upper case as Windows does it, one code point for one: `ß` stays.
pub fn upper(text: &str) -> String {
    let one = |c: char| {
        let mut all = c.to_uppercase();
        match (all.next(), all.next()) {
            (Some(only), None) => only,
            _ => c,
        }
    };
    text.chars().map(one).collect()
}

pub fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

pub fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

pub fn ntowf_v1(password: &str) -> [u8; 16] {
    Md4::digest(utf16le(password)).into()
}

/// The LAN Manager hash; a password of more than 14 bytes, or outside ASCII, has none that is worth
/// checking.
pub fn lmowf_v1(password: &str) -> [u8; 16] {
    let mut padded = [0; 14];
    for (to, from) in padded.iter_mut().zip(password.to_ascii_uppercase().bytes()) {
        *to = from;
    }
    let mut hash = [0; 16];
    for (out, half) in hash.chunks_exact_mut(8).zip(padded.chunks_exact(7)) {
        out.copy_from_slice(&des(half, b"KGS!@#$%"));
    }
    hash
}

/// `domain` is the one the client sent, in the case it sent; only the user is upper-cased.
pub fn ntowf_v2(password: &str, user: &str, domain: &str) -> [u8; 16] {
    hmac_md5(&ntowf_v1(password), &[&utf16le(&upper(user)), &utf16le(domain)])
}

/// DESL: three DES encryptions of one block under a 16-byte key padded to 21.
pub fn desl(key: &[u8; 16], block: &[u8; 8]) -> [u8; 24] {
    let mut padded = [0; 21];
    padded[..16].copy_from_slice(key);
    let mut out = [0; 24];
    for (to, third) in out.chunks_exact_mut(8).zip(padded.chunks_exact(7)) {
        to.copy_from_slice(&des(third, block));
    }
    out
}

/// The NTLMv1 response under extended session security: both challenges are hashed into the block.
pub fn ntlm2_session(nt_hash: &[u8; 16], server: &[u8; 8], client: &[u8]) -> [u8; 24] {
    let mut block = [0; 8];
    block.copy_from_slice(&md5(&[server, client])[..8]);
    desl(nt_hash, &block)
}

/// Only to open the session key of a client that exchanges one: its MIC is made with that key.
pub fn rc4(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut state: [u8; 256] = std::array::from_fn(|i| i as u8);
    let mut j = 0u8;
    for i in 0..256 {
        j = j.wrapping_add(state[i]).wrapping_add(key[i % key.len()]);
        state.swap(i, usize::from(j));
    }
    let (mut i, mut j) = (0u8, 0u8);
    let step = |byte: &u8| {
        i = i.wrapping_add(1);
        j = j.wrapping_add(state[usize::from(i)]);
        state.swap(usize::from(i), usize::from(j));
        let at = state[usize::from(i)].wrapping_add(state[usize::from(j)]);
        byte ^ state[usize::from(at)]
    };
    data.iter().map(step).collect()
}

/// One block under 7 bytes of key, spread over 8; DES ignores the parity bits left at zero.
fn des(key: &[u8], block: &[u8; 8]) -> [u8; 8] {
    let bits = key.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let spread: [u8; 8] = std::array::from_fn(|i| (bits >> (49 - 7 * i) << 1) as u8);
    let mut block = Array::from(*block);
    Des::new(&Array::from(spread)).encrypt_block(&mut block);
    block.into()
}
