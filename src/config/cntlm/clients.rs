//! `Allow` and `Deny` of cntlm.conf, where the first match wins and who matches nothing may come,
//! as a list of those who may come. Knows IPv4 alone, as cntlm does; looks no name up.

use std::net::Ipv4Addr;

use super::grammar::{Entries, Entry};
use crate::config::Acl;
use crate::config::notice::{Report, quoted};

/// A block of addresses, its base cut to the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    base: u32,
    prefix: u32,
}

const EVERYBODY: Block = Block { base: 0, prefix: 0 };
const LOOPBACK: Block = Block { base: 127 << 24, prefix: 8 };

/// So many blocks nobody reads any more.
const MOST_BLOCKS: usize = 256;

impl Block {
    fn new(address: Ipv4Addr, prefix: u32) -> Self {
        Self { base: address.to_bits() & Self::mask(prefix), prefix }
    }

    fn mask(prefix: u32) -> u32 {
        u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0)
    }

    fn contains(self, other: Self) -> bool {
        self.prefix <= other.prefix && other.base & Self::mask(self.prefix) == self.base
    }

    /// What is left of it without `hole`, as blocks.
    fn without(self, hole: Self) -> Vec<Self> {
        if hole.contains(self) {
            return Vec::new();
        }
        if !self.contains(hole) {
            return vec![self];
        }
        // The half without the hole stays whole; so there is one block for each bit between.
        let prefix = self.prefix + 1;
        let upper = self.base | 1_u32.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
        [self.base, upper]
            .into_iter()
            .flat_map(|base| Self { base, prefix }.without(hole))
            .collect()
    }

    fn text(self) -> String {
        let address = Ipv4Addr::from_bits(self.base);
        if self.prefix == 32 { address.to_string() } else { format!("{address}/{}", self.prefix) }
    }
}

/// Whom a rule means.
enum Source {
    Block(Block),
    /// A name, which only its lookup tells more about.
    Name,
    /// Nobody: cntlm does not start with it.
    Nonsense,
}

fn source(text: &str) -> Source {
    let (host, prefix) = match text.split_once('/') {
        None => (text, Some(32)),
        Some((host, bits)) => (host, bits.parse().ok().filter(|prefix| *prefix <= 32)),
    };
    let Some(prefix) = prefix else { return Source::Nonsense };
    match host.parse() {
        _ if host == "*" => Source::Block(EVERYBODY),
        _ if host == "0" => Source::Block(Block::new(Ipv4Addr::UNSPECIFIED, prefix)),
        Ok(address) => Source::Block(Block::new(address, prefix)),
        Err(_) if prefix == 32 && Acl::default().add(text).is_ok() => Source::Name,
        Err(_) => Source::Nonsense,
    }
}

/// Who may come, besides this machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Clients {
    pub(super) everybody: bool,
    /// Entries of `FRIENDLY_IPS`.
    pub(super) friends: Vec<String>,
    /// `friends` holds everybody but those whom a Deny named.
    pub(super) all_others: bool,
}

/// Goes through the rules. What cannot be said as a list of friends is left out of it, never
/// added to it.
pub(super) fn clients(entries: &Entries, report: &mut Report<'_>) -> Clients {
    let is_rule = |entry: &&Entry| entry.key == "Allow" || entry.key == "Deny";
    let rules: Vec<&Entry> = entries.read.iter().filter(is_rule).collect();
    let (mut allowed, mut names, mut denied) = (Vec::new(), Vec::new(), Vec::<Block>::new());
    let (mut decided, mut all_others) = (false, false);
    for (place, rule) in rules.iter().enumerate() {
        let (origin, allow) = (rule.origin(), rule.key == "Allow");
        match source(&rule.value) {
            Source::Block(block) if allow => {
                all_others |= block == EVERYBODY;
                allowed.extend(left_of(block, &denied));
            }
            Source::Block(block) => denied.push(block),
            Source::Name if allow && denied.is_empty() => names.push(rule.value.to_string()),
            Source::Name if allow => {
                let message = format!(
                    "{} is not taken over: it may stand for an address that a Deny before it means",
                    quoted(&rule.value)
                );
                report.warning(origin, rule.key, message);
            }
            Source::Nonsense if allow => {
                let message = "is not taken over: cntlm does not start with it";
                report.warning(origin, rule.key, message);
            }
            Source::Name | Source::Nonsense => {
                let after = rules.get(place + 1..).unwrap_or_default();
                if !denies_all(after) {
                    let message = format!(
                        "{} cannot be taken over, so nobody is let in by the rules after it, nor \
                         by there being none",
                        quoted(&rule.value)
                    );
                    report.warning(origin, rule.key, message);
                }
                decided = true;
                break;
            }
        }
        let last = matches!(source(&rule.value), Source::Block(EVERYBODY));
        if last || allowed.len() > MOST_BLOCKS {
            decided = true;
            break;
        }
    }
    if !decided {
        all_others = true;
        allowed.extend(left_of(EVERYBODY, &denied));
    }
    if allowed.len() > MOST_BLOCKS {
        if let Some(first) = rules.first() {
            let message = "these rules come to too many blocks of addresses; nobody is let in";
            report.warning(first.origin(), first.key, message);
        }
        return Clients::default();
    }
    let this_machine = Block::new(Ipv4Addr::LOCALHOST, 32);
    if let (Some(first), false) = (rules.first(), allowed.iter().any(|b| b.contains(this_machine)))
    {
        let message = "by these rules cntlm let nobody in from 127.0.0.1; here this machine may \
                       always come";
        report.note(first.origin(), first.key, message);
    }
    let everybody = allowed.contains(&EVERYBODY);
    allowed.retain(|block| !LOOPBACK.contains(*block));
    let friends = allowed.into_iter().map(Block::text).chain(names).collect();
    match everybody {
        true => Clients { everybody, ..Clients::default() },
        false => Clients { everybody, friends, all_others },
    }
}

/// What the holes leave of it; all of them, unless there are too many blocks before.
fn left_of(block: Block, holes: &[Block]) -> Vec<Block> {
    let mut blocks = vec![block];
    for hole in holes {
        blocks = blocks.into_iter().flat_map(|block| block.without(*hole)).collect();
        if blocks.len() > MOST_BLOCKS {
            break;
        }
    }
    blocks
}

/// True when these rules let nobody in.
fn denies_all(rules: &[&Entry]) -> bool {
    let all = |rule: &&&Entry| matches!(source(&rule.value), Source::Block(EVERYBODY));
    let first = rules.iter().position(|rule| rule.key == "Allow" || all(&rule));
    first.and_then(|place| rules.get(place)).is_some_and(|rule| rule.key == "Deny")
}

#[cfg(test)]
mod tests {
    use super::super::grammar;
    use super::*;

    fn of(rules: &str) -> (Clients, String) {
        let mut report = Report::new("f");
        let file = rules.replace(", ", "\n") + "\n";
        let entries = grammar::read(file.as_bytes(), &mut report);
        let clients = clients(&entries, &mut report);
        let notices = report.finish().0;
        (clients, notices.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn rules_become_friends() {
        let local = "here this machine may always come";
        for (rules, friends, said) in [
            ("Allow 10.0.0.0/8, Deny 0/0", "10.0.0.0/8", local),
            ("Allow 10.1.2.3/8, Allow 192.0.2.7, Deny *", "10.0.0.0/8 192.0.2.7", local),
            ("Allow 127.0.0.1, Allow 192.0.2.0/24, Deny *", "192.0.2.0/24", ""),
            ("Allow 127.0.0.1, Deny 0/0", "", ""),
            ("Deny *", "", local),
            ("Allow pc7, Allow 127.0.0.1, Deny *", "pc7", ""),
            ("Deny 10.0.0.1, Allow pc7, Allow 127.0.0.1, Deny *", "", "may stand for an address"),
            ("Deny 10.0.0.1, Allow 10.0.0.0/30, Deny *", "10.0.0.0 10.0.0.2/31", local),
            ("Deny 10.0.0.0/8, Allow 10.0.0.7, Deny *", "", local),
            (
                "Allow 10.0.0.7, Deny 10.0.0.0/8, Allow 10.0.0.0/7, Deny *",
                "10.0.0.7 11.0.0.0/8",
                local,
            ),
            ("Allow 127.0.0.0/8, Deny evil, Deny *", "", ""),
            ("Allow 127.0.0.0/8, Deny evil, Allow 10.0.0.0/8, Deny *", "", "\"evil\" cannot be"),
            ("Allow 127.0.0.0/8, Deny evil", "", "\"evil\" cannot be taken over"),
            ("Allow 127.0.0.0/8, Deny 10.0.0.0/40", "", "\"10.0.0.0/40\" cannot be taken over"),
            ("Allow 127.0.0.0/8, Allow 10.0.0.0/40, Deny *", "", "cntlm does not start with it"),
            ("Allow 127.0.0.0/8, Deny *, Allow 10.0.0.0/8", "", ""),
            ("Deny 0.0.0.0/1", "128.0.0.0/1", local),
        ] {
            let (clients, notices) = of(rules);
            assert!(!clients.everybody, "{rules}");
            assert_eq!(clients.friends.join(" "), friends, "{rules}");
            assert_eq!(notices.is_empty(), said.is_empty(), "{rules}: {notices}");
            assert!(notices.contains(said), "{rules}: {notices}");
        }
        for rules in ["", "Allow *", "Allow 10.0.0.1", "Allow 0/0, Deny 10.0.0.1", "Allow pc7"] {
            let expected = Clients { everybody: true, ..Clients::default() };
            assert_eq!(of(rules), (expected, String::new()), "{rules}");
        }
    }

    /// The definition: the first rule that means the address decides.
    fn first_match(rules: &str, address: Ipv4Addr) -> bool {
        let one = Block::new(address, 32);
        let mut rules = rules.split(", ").filter_map(|rule| rule.split_once(' '));
        let decides = |text: &str| matches!(source(text), Source::Block(b) if b.contains(one));
        rules.find(|(_, text)| decides(text)).is_none_or(|(key, _)| key == "Allow")
    }

    #[test]
    fn the_friends_are_those_whom_the_first_match_lets_in() {
        let places = ["10.0.0.0/8", "10.0.0.0/30", "10.0.0.2", "10.128.0.0/9", "0/0"];
        let rules: Vec<String> =
            places.iter().flat_map(|p| [format!("Allow {p}, "), format!("Deny {p}, ")]).collect();
        let mut files = vec![String::new()];
        for _ in 0..3 {
            let longer = files.iter().flat_map(|file| rules.iter().map(move |r| file.clone() + r));
            files = std::iter::once(String::new()).chain(longer).collect();
        }
        for file in files {
            let rules = file.trim_end_matches(", ");
            let clients = of(rules).0;
            let mut acl = Acl { everybody: clients.everybody, ..Acl::default() };
            clients.friends.iter().for_each(|friend| acl.add(friend).unwrap());
            for address in ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.128.0.1", "11.0.0.0", "9.9.9.9"]
            {
                let address: Ipv4Addr = address.parse().unwrap();
                let expected = first_match(rules, address);
                assert_eq!(acl.permits(address.into()), expected, "{address} by {rules}");
            }
        }
    }

    #[test]
    fn too_many_blocks_let_nobody_in() {
        // The second would fill the memory and take hours if anybody went to the end of it.
        for (denied, allowed) in [(20, 0), (5_000, 5_000)] {
            let deny = |n| format!("Deny 10.{}.{}.{}", n % 256, n / 256, n % 251);
            let rules: Vec<String> = (0..denied).map(deny).collect();
            let rules = [rules, vec!["Allow 0.0.0.0/1".to_owned(); allowed]].concat();
            let (clients, notices) = of(&rules.join(", "));
            assert_eq!(clients, Clients::default());
            assert!(notices.contains("too many blocks"), "{notices}");
        }
    }
}
