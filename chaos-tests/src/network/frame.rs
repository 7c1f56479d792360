//! What a switch reads of a frame, and what a network card would have done to it.

use super::host::Host;

/// Of an Ethernet frame: who it is for, who sent it, and of what kind it is.
const HEADER_BYTES: usize = 14;
const IPV4: [u8; 2] = [8, 0];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The host that sent a frame.
pub(super) fn sender(frame: &[u8]) -> Option<Host> {
    host(frame.get(6..12)?)
}

/// The host that a frame is for; none unless it is IPv4.
pub(super) fn receiver(frame: &[u8]) -> Option<Host> {
    (frame.get(12..HEADER_BYTES)? == IPV4).then_some(host(&frame[..6])?)
}

fn host(mac: &[u8]) -> Option<Host> {
    mac.try_into().ok().and_then(Host::of)
}

/// Writes the checksum of TCP or UDP: the kernel leaves that to network cards, and a virtual one does not do it, since
/// what does not leave the machine is not damaged.
pub(super) fn complete(frame: &mut [u8]) {
    let Some(packet) = frame.get_mut(HEADER_BYTES..).filter(|packet| packet.len() >= 20) else { return };
    let number = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (header, total) = (usize::from(packet[0] & 15) * 4, number(2));
    // The kernel has written it before it took a packet apart.
    let is_fragment = number(6) & 0x3fff != 0;
    let place = match packet[9] {
        TCP => 16,
        UDP => 6,
        _ => return,
    };
    if is_fragment || total > packet.len() || total < header + place + 2 {
        return;
    }
    let (header, segment) = packet[..total].split_at_mut(header);
    segment[place..place + 2].fill(0);
    let pseudo_header = sum(&header[12..20]) + u64::from(header[9]) + segment.len() as u64;
    let checksum = match !folded(pseudo_header + sum(segment)) {
        // None, for UDP.
        0 => u16::MAX,
        other => other,
    };
    segment[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

fn sum(bytes: &[u8]) -> u64 {
    let word = |two: &[u8]| u64::from(u16::from_be_bytes([two[0], two.get(1).copied().unwrap_or_default()]));
    bytes.chunks(2).map(word).sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, Host, TCP, UDP, complete, folded, receiver, sender, sum};

    fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to) = (Host::TEST, Host::member(1));
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let header = [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
        let addresses = [from.address().octets(), to.address().octets()].concat();
        [&to.mac()[..], &from.mac(), &[8, 0], &header, &addresses, payload].concat()
    }

    #[test]
    fn only_ipv4_between_two_hosts_is_for_somebody() {
        let good = frame(UDP, &[0; 8]);
        assert_eq!((sender(&good), receiver(&good)), (Some(Host::TEST), Some(Host::member(1))));
        let mut all = good.clone();
        all[..6].fill(0xff);
        let mut arp = good.clone();
        arp[13] = 6;
        for bad in [&all[..], &arp, &good[..13], &[]] {
            assert_eq!(receiver(bad), None);
        }
    }

    #[test]
    fn a_checksum_is_what_a_receiver_expects_however_long_the_segment_is() {
        for protocol in [TCP, UDP] {
            for length in [20, 21, 1_480] {
                let payload: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
                let mut done = frame(protocol, &payload);
                complete(&mut done);
                let packet = &done[HEADER_BYTES..];
                let pseudo_header = sum(&packet[12..20]) + u64::from(protocol) + length as u64;
                assert_eq!(folded(pseudo_header + sum(&packet[20..])), u16::MAX);
                assert_eq!(done.len(), HEADER_BYTES + 20 + length);
            }
        }
    }

    #[test]
    fn what_has_no_checksum_to_write_stays_as_it_is() {
        let mut fragment = frame(UDP, &[1; 30]);
        fragment[HEADER_BYTES + 6] = 0x20;
        let mut short = frame(TCP, &[1; 17]);
        short.truncate(HEADER_BYTES + 20);
        for mut untouched in [fragment, short, frame(1, &[1; 30]), vec![0; 3]] {
            let before = untouched.clone();
            complete(&mut untouched);
            assert_eq!(untouched, before);
        }
    }
}
