//! NTLM messages as a server reads them: every offset checked, and the layout rules of MS-NLMP 2.2
//! held against it.

use std::fmt::Display;

use super::verify::Why;

pub const UNICODE: u32 = 0x0000_0001;
pub const OEM: u32 = 0x0000_0002;
pub const REQUEST_TARGET: u32 = 0x0000_0004;
pub const SIGN: u32 = 0x0000_0010;
pub const SEAL: u32 = 0x0000_0020;
pub const LM_KEY: u32 = 0x0000_0080;
pub const NTLM: u32 = 0x0000_0200;
pub const OEM_DOMAIN_SUPPLIED: u32 = 0x0000_1000;
pub const OEM_WORKSTATION_SUPPLIED: u32 = 0x0000_2000;
pub const ALWAYS_SIGN: u32 = 0x0000_8000;
pub const TARGET_TYPE_DOMAIN: u32 = 0x0001_0000;
pub const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
pub const TARGET_INFO: u32 = 0x0080_0000;
pub const VERSION: u32 = 0x0200_0000;
pub const KEY_128: u32 = 0x2000_0000;
pub const KEY_EXCH: u32 = 0x4000_0000;
pub const KEY_56: u32 = 0x8000_0000;
/// Bits that mean nothing and must be zero.
const RESERVED: u32 = 0x1D24_4508;

pub const AV_EOL: u16 = 0;
pub const AV_FLAGS: u16 = 6;
pub const AV_TIMESTAMP: u16 = 7;

const SIGNATURE: &[u8] = b"NTLMSSP\0";

/// Reads numbers and security buffers of one message; a buffer taken is remembered, for the overlap
/// check.
pub struct Reader<'a> {
    name: &'static str,
    message: &'a [u8],
    taken: Vec<(usize, usize)>,
}

impl<'a> Reader<'a> {
    pub fn new(
        name: &'static str,
        message: &'a [u8],
        kind: u32,
        least: usize,
    ) -> Result<Self, Why> {
        let reader = Self { name, message, taken: Vec::new() };
        if message.len() < least {
            return reader.bad(format_args!("{} bytes, at least {least} wanted", message.len()));
        }
        if !message.starts_with(SIGNATURE) {
            return reader.bad("no NTLMSSP signature");
        }
        match reader.u32(8)? {
            found if found == kind => Ok(reader),
            found => reader.bad(format_args!("message type {found}")),
        }
    }

    pub fn bad<T>(&self, what: impl Display) -> Result<T, Why> {
        Err(Why::Malformed(format!("{}: {what}", self.name)))
    }

    pub fn bytes(&self, at: usize, length: usize) -> Result<&'a [u8], Why> {
        match at.checked_add(length).and_then(|end| self.message.get(at..end)) {
            Some(bytes) => Ok(bytes),
            None => self.bad(format!(
                "{length} bytes at {at} lie outside its {} bytes",
                self.message.len()
            )),
        }
    }

    pub fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Why> {
        self.bytes(at, N).map(|bytes| bytes.try_into().expect("as many as were asked for"))
    }

    pub fn u16(&self, at: usize) -> Result<usize, Why> {
        self.array(at).map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    pub fn u32(&self, at: usize) -> Result<u32, Why> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// The payload that the security buffer at `at` describes.
    pub fn field(&mut self, at: usize, what: &str) -> Result<&'a [u8], Why> {
        let (length, offset) = (self.u16(at)?, self.u32(at + 4)? as usize);
        if length == 0 && offset <= self.message.len() {
            return Ok(&[]);
        }
        let Ok(bytes) = self.bytes(offset, length) else {
            return self
                .bad(format_args!("{what} ({length} at {offset}) lies outside the message"));
        };
        self.taken.push((offset, offset + length));
        Ok(bytes)
    }

    /// Where the payload begins, thus the largest possible header.
    pub fn payload_start(&self) -> usize {
        self.taken.iter().map(|(start, _)| *start).min().unwrap_or(self.message.len())
    }

    /// No field in the header, no two fields in the same bytes.
    pub fn check_layout(&mut self, header: usize) -> Result<(), Why> {
        self.taken.sort_unstable();
        let start = self.payload_start();
        if start < header {
            return self.bad(format_args!("a field at {start} overlaps the {header}-byte header"));
        }
        match self.taken.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            Some(pair) => self.bad(format_args!("fields overlap at {}", pair[1].0)),
            None => Ok(()),
        }
    }

    pub fn check_version(&self, at: usize, claimed: bool) -> Result<(), Why> {
        let version: [u8; 8] = self.array(at)?;
        if claimed && version[7] != 15 {
            return self.bad(format_args!(
                "VERSION claimed, but its revision is {} and not 15",
                version[7]
            ));
        }
        Ok(())
    }
}

/// What a NEGOTIATE message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiate {
    pub flags: u32,
    pub length: usize,
    pub domain: String,
    pub workstation: String,
}

impl Negotiate {
    /// Strictly: 40 bytes with a VERSION that is there if claimed, a charset, NTLM, no reserved
    /// bit.
    pub fn read(message: &[u8], lenient: bool) -> Result<Self, Why> {
        let mut reader = Reader::new("NEGOTIATE", message, 1, if lenient { 16 } else { 40 })?;
        let flags = reader.u32(12)?;
        if message.len() < 32 {
            return Ok(Self {
                flags,
                length: message.len(),
                domain: String::new(),
                workstation: String::new(),
            });
        }
        let supplied = |bit, at, what, reader: &mut Reader<'_>| match flags & bit {
            0 if !lenient && reader.u16(at)? != 0 => {
                reader.bad(format_args!("{what} without its flag"))
            }
            0 => Ok(String::new()),
            _ => Ok(latin1(reader.field(at, what)?)),
        };
        let domain = supplied(OEM_DOMAIN_SUPPLIED, 16, "domain", &mut reader)?;
        let workstation = supplied(OEM_WORKSTATION_SUPPLIED, 24, "workstation", &mut reader)?;
        reader.check_layout(if lenient { 32 } else { 40 })?;
        if !lenient {
            reader.check_version(32, flags & VERSION != 0)?;
            check_flags(&reader, flags)?;
        }
        Ok(Self { flags, length: message.len(), domain, workstation })
    }
}

fn check_flags(reader: &Reader<'_>, flags: u32) -> Result<(), Why> {
    if flags & RESERVED != 0 {
        return reader.bad(format_args!("reserved flags {:#010x}", flags & RESERVED));
    }
    if flags & (UNICODE | OEM) == 0 {
        return reader.bad(format_args!("flags {flags:#010x} name no character set"));
    }
    if flags & NTLM == 0 {
        return reader.bad(format_args!("flags {flags:#010x} lack NEGOTIATE_NTLM"));
    }
    Ok(())
}

/// What an AUTHENTICATE message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    pub flags: u32,
    pub lm: Vec<u8>,
    pub nt: Vec<u8>,
    pub domain: String,
    pub user: String,
    pub workstation: String,
    pub session_key: Vec<u8>,
    /// The 16 bytes at 72, where the header has room for them; whether they are a MIC the blob's
    /// flags say.
    pub mic: Option<[u8; 16]>,
}

/// Bits an answer may carry only if the challenge had them.
const AGREED: u32 = UNICODE
    | OEM
    | SIGN
    | SEAL
    | LM_KEY
    | NTLM
    | ALWAYS_SIGN
    | EXTENDED_SESSION_SECURITY
    | KEY_EXCH
    | KEY_56
    | KEY_128;

impl Authenticate {
    pub fn read(message: &[u8], offered: u32, lenient: bool) -> Result<Self, Why> {
        let mut reader = Reader::new("AUTHENTICATE", message, 3, 64)?;
        let flags = reader.u32(60)?;
        if !lenient {
            check_flags(&reader, flags)?;
            if flags & UNICODE != 0 && flags & OEM != 0 {
                return reader.bad("claims two character sets");
            }
            let unasked = flags & !offered & AGREED;
            if unasked != 0 {
                return reader.bad(format_args!("flags {unasked:#010x} were not in the challenge"));
            }
        }
        let lm = reader.field(12, "LM response")?.to_vec();
        let nt = reader.field(20, "NT response")?.to_vec();
        let text = |bytes, what| {
            let text = if flags & UNICODE != 0 { utf16(bytes) } else { Some(latin1(bytes)) };
            text.ok_or_else(|| Why::Malformed(format!("AUTHENTICATE: {what} is not UTF-16")))
        };
        let domain = text(reader.field(28, "domain")?, "domain")?;
        let user = text(reader.field(36, "user")?, "user")?;
        let workstation = text(reader.field(44, "workstation")?, "workstation")?;
        let session_key = reader.field(52, "session key")?.to_vec();
        if !session_key.is_empty() && flags & KEY_EXCH == 0 && !lenient {
            return reader.bad("a session key without KEY_EXCH");
        }
        let claimed = flags & VERSION != 0;
        reader.check_layout(if claimed && !lenient { 72 } else { 64 })?;
        if claimed && !lenient {
            reader.check_version(64, true)?;
        }
        let mic = if reader.payload_start() >= 88 { Some(reader.array(72)?) } else { None };
        Ok(Self { flags, lm, nt, domain, user, workstation, session_key, mic })
    }
}

/// An id and its value.
pub type AvPair<'a> = (u16, &'a [u8]);

/// The AV_PAIRs up to the end of list, and what follows it.
pub fn av_pairs(mut bytes: &[u8]) -> Option<(Vec<AvPair<'_>>, &[u8])> {
    let mut pairs = Vec::new();
    loop {
        let (id, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        match u16::from_le_bytes(*id) {
            AV_EOL => return value.is_empty().then_some((pairs, rest)),
            id => pairs.push((id, value)),
        }
        bytes = rest;
    }
}

/// Strict: an odd length or a lone surrogate is no text.
fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    if rest.is_empty() { String::from_utf16(&units).ok() } else { None }
}

/// The OEM code page is the server's; these tests live on a server whose code page is Latin-1.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
