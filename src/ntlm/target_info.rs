//! TargetInfo: the list of AV_PAIRs a CHALLENGE brings and an NTLMv2 response gives back
//! (MS-NLMP 2.2.2.1). The bytes stay as they came; pairs nobody here knows pass through.

/// The meaning of an AV_PAIR. Only those this side looks for have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvId(pub u16);

impl AvId {
    /// MsvAvEOL: ends the list.
    pub const EOL: Self = Self(0);
    /// MsvAvNbComputerName.
    pub const NB_COMPUTER_NAME: Self = Self(1);
    /// MsvAvNbDomainName.
    pub const NB_DOMAIN_NAME: Self = Self(2);
    /// MsvAvDnsComputerName.
    pub const DNS_COMPUTER_NAME: Self = Self(3);
    /// MsvAvDnsDomainName.
    pub const DNS_DOMAIN_NAME: Self = Self(4);
    /// MsvAvFlags, 32 bits; 0x2 says that a MIC is present.
    pub const FLAGS: Self = Self(6);
    /// MsvAvTimestamp, a FILETIME: the server's clock.
    pub const TIMESTAMP: Self = Self(7);

    /// The specification's name of it, where it has one.
    pub fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 11] = [
            "MsvAvEOL",
            "MsvAvNbComputerName",
            "MsvAvNbDomainName",
            "MsvAvDnsComputerName",
            "MsvAvDnsDomainName",
            "MsvAvDnsTreeName",
            "MsvAvFlags",
            "MsvAvTimestamp",
            "MsvAvSingleHost",
            "MsvAvTargetName",
            "MsvAvChannelBindings",
        ];
        NAMES.get(usize::from(self.0)).copied()
    }
}

/// One AV_PAIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvPair<'a> {
    /// AvId.
    pub id: AvId,
    /// Value, of AvLen bytes.
    pub value: &'a [u8],
}

/// The bit of MsvAvFlags that announces a MIC.
const MIC_PRESENT: u32 = 0x2;

/// A checked list of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetInfo<'a>(&'a [u8]);

impl<'a> TargetInfo<'a> {
    /// Takes the list as it came; `None` when a pair reaches beyond it. A missing MsvAvEOL is
    /// tolerated.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (pair, after) = split_pair(rest)?;
            if pair.id == AvId::EOL {
                break;
            }
            rest = after;
        }
        Some(Self(bytes))
    }

    /// The pairs before MsvAvEOL, in their order.
    pub fn pairs(self) -> impl Iterator<Item = AvPair<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (pair, after) = split_pair(rest)?;
            rest = after;
            (pair.id != AvId::EOL).then_some(pair)
        })
    }

    /// The first pair of that id.
    pub fn find(self, id: AvId) -> Option<&'a [u8]> {
        self.pairs().find(|pair| pair.id == id).map(|pair| pair.value)
    }

    /// MsvAvTimestamp, where the server sent one.
    pub fn timestamp(self) -> Option<u64> {
        self.find(AvId::TIMESTAMP)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The list an NTLMv2 response carries: every pair as it came; and when `with_mic`, MsvAvFlags
    /// saying so (MS-NLMP 3.1.5.1.2). Nothing at all for a challenge without TargetInfo.
    pub fn answer(self, with_mic: bool) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut list = Vec::with_capacity(self.0.len().saturating_add(12));
        let mut append = |id: AvId, value: &[u8]| {
            list.extend_from_slice(&id.0.to_le_bytes());
            // A value out of a decoded list is never longer than its 16-bit length said.
            list.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
            list.extend_from_slice(value);
        };
        let mut flags_sent = !with_mic;
        for pair in self.pairs() {
            match pair.value.try_into().map(u32::from_le_bytes) {
                Ok(flags) if pair.id == AvId::FLAGS && !flags_sent => {
                    append(pair.id, &(flags | MIC_PRESENT).to_le_bytes());
                    flags_sent = true;
                }
                _ => append(pair.id, pair.value),
            }
        }
        if !flags_sent {
            append(AvId::FLAGS, &MIC_PRESENT.to_le_bytes());
        }
        append(AvId::EOL, &[]);
        list
    }
}

/// The first pair of `bytes` and what follows it.
fn split_pair(bytes: &[u8]) -> Option<(AvPair<'_>, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    Some((AvPair { id: AvId(u16::from_le_bytes(*id)), value }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NbDomainName "D", an unknown pair, Timestamp 1, EOL.
    const LIST: &[u8] = b"\x02\0\x02\0D\0\xff\x7f\x01\0x\x07\0\x08\0\x01\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn unknown_pairs_pass_through_and_flags_come_last() {
        let info = TargetInfo::decode(LIST).unwrap();
        assert_eq!(info.timestamp(), Some(1));
        assert_eq!(info.answer(false), LIST);
        let (pairs, eol) = LIST.split_at(LIST.len() - 4);
        assert_eq!(info.answer(true), [pairs, b"\x06\0\x04\0\x02\0\0\0", eol].concat());
    }

    #[test]
    fn flags_the_server_sent_are_kept() {
        let info = TargetInfo::decode(b"\x06\0\x04\0\x01\0\0\0\0\0\0\0").unwrap();
        assert_eq!(info.answer(true), b"\x06\0\x04\0\x03\0\0\0\0\0\0\0");
    }

    #[test]
    fn every_cut_is_refused_or_a_shorter_list() {
        for cut in 0..LIST.len() {
            if let Some(info) = TargetInfo::decode(&LIST[..cut]) {
                assert!(info.pairs().count() <= 3, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_list_without_its_end_is_tolerated() {
        let info = TargetInfo::decode(b"\x02\0\x02\0D\0").unwrap();
        assert_eq!(info.answer(false), b"\x02\0\x02\0D\0\0\0\0\0");
    }
}
