//! How many connections there may be: in all, of one address, of one station, and of those who do not say who they are.
//! Those who do always find room that the others cannot take.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mintmark_protocol::identifier::Fingerprint;

use super::counters::TurnedAway;

/// Connections in all.
const SEATS_MAX: usize = 1024;
/// Of those, whose handshake is under way.
const GREETING_MAX: usize = 256;
/// Of those, without a client certificate.
const NAMELESS_MAX: usize = 384;
/// Of one address: a host, or a network of IPv6 (64 bits).
const PER_ADDRESS_MAX: usize = 256;
/// Of one address, with the handshake under way.
const GREETING_PER_ADDRESS_MAX: usize = 128;
/// Of one address, without a client certificate.
const NAMELESS_PER_ADDRESS_MAX: usize = 64;
/// Of one station.
const PER_STATION_MAX: usize = 128;

#[derive(Debug, Default)]
struct OfAddress {
    all: usize,
    greeting: usize,
    nameless: usize,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    greeting: usize,
    nameless: usize,
    addresses: HashMap<IpAddr, OfAddress>,
    stations: HashMap<Fingerprint, usize>,
}

/// The seats of the service.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<Counts>);

/// Who sits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sitter {
    Greeting,
    Nameless,
    Station(Fingerprint),
}

/// One connection's seat, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
    sitter: Sitter,
}

impl Seats {
    /// A seat for a connection from this address, whose handshake begins.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Seat, TurnedAway> {
        let address = neighbourhood(address);
        let mut counts = self.counts();
        if counts.all >= SEATS_MAX || counts.greeting >= GREETING_MAX {
            return Err(TurnedAway::Full);
        }
        let here = counts.addresses.entry(address).or_default();
        if here.all >= PER_ADDRESS_MAX || here.greeting >= GREETING_PER_ADDRESS_MAX {
            return Err(TurnedAway::Address);
        }
        here.all += 1;
        here.greeting += 1;
        counts.all += 1;
        counts.greeting += 1;
        drop(counts);
        Ok(Seat {
            seats: Arc::clone(self),
            address,
            sitter: Sitter::Greeting,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The handshake is done, and this is who it is.
    pub(crate) fn name(&mut self, station: Option<Fingerprint>) -> Result<(), TurnedAway> {
        let seats = Arc::clone(&self.seats);
        let mut counts = seats.counts();
        let counts = &mut *counts;
        let here = counts.addresses.entry(self.address).or_default();
        let sitter = match station {
            Some(station) => {
                let of_station = counts.stations.entry(station).or_default();
                if *of_station >= PER_STATION_MAX {
                    return Err(TurnedAway::Station);
                }
                *of_station += 1;
                Sitter::Station(station)
            }
            None if counts.nameless >= NAMELESS_MAX => return Err(TurnedAway::Full),
            None if here.nameless >= NAMELESS_PER_ADDRESS_MAX => return Err(TurnedAway::Address),
            None => {
                counts.nameless += 1;
                here.nameless += 1;
                Sitter::Nameless
            }
        };
        counts.greeting = counts.greeting.saturating_sub(1);
        here.greeting = here.greeting.saturating_sub(1);
        self.sitter = sitter;
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.seats.counts();
        let counts = &mut *counts;
        counts.all = counts.all.saturating_sub(1);
        if let Some(here) = counts.addresses.get_mut(&self.address) {
            here.all = here.all.saturating_sub(1);
            match self.sitter {
                Sitter::Greeting => here.greeting = here.greeting.saturating_sub(1),
                Sitter::Nameless => here.nameless = here.nameless.saturating_sub(1),
                Sitter::Station(_) => {}
            }
            if here.all == 0 {
                counts.addresses.remove(&self.address);
            }
        }
        match self.sitter {
            Sitter::Greeting => counts.greeting = counts.greeting.saturating_sub(1),
            Sitter::Nameless => counts.nameless = counts.nameless.saturating_sub(1),
            Sitter::Station(station) => {
                if let Some(left) = counts.stations.get_mut(&station) {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        counts.stations.remove(&station);
                    }
                }
            }
        }
    }
}

/// What counts as one address: whoever has one of a network of IPv6 has all of them.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_seat_is_free_again_when_it_is_left() {
        let seats = Arc::new(Seats::default());
        for station in [None, Some(Fingerprint::of(b"station"))] {
            let mut seat = seats.take(address(1)).unwrap();
            seat.name(station).unwrap();
            assert_eq!(seats.counts().all, 1);
            drop(seat);
        }
        drop(seats.take(address(1)).unwrap());
        let counts = seats.counts();
        assert_eq!((counts.all, counts.greeting, counts.nameless), (0, 0, 0));
        assert!(counts.addresses.is_empty() && counts.stations.is_empty());
    }

    #[test]
    fn an_address_that_opens_many_leaves_room_for_others() {
        let seats = Arc::new(Seats::default());
        let taken: Vec<Seat> = std::iter::from_fn(|| seats.take(address(1)).ok()).collect();
        assert_eq!(taken.len(), GREETING_PER_ADDRESS_MAX);
        assert_eq!(seats.take(address(1)).unwrap_err(), TurnedAway::Address);
        seats.take(address(2)).unwrap();
    }

    #[test]
    fn who_says_nothing_of_themselves_leaves_room_for_stations() {
        let seats = Arc::new(Seats::default());
        let mut nameless = Vec::new();
        for last in 0..=255 {
            while let Ok(mut seat) = seats.take(address(last)) {
                if seat.name(None).is_err() {
                    break;
                }
                nameless.push(seat);
            }
        }
        assert_eq!(nameless.len(), NAMELESS_MAX);
        let mut seat = seats.take(address(1)).unwrap();
        seat.name(Some(Fingerprint::of(b"station"))).unwrap();
    }

    #[test]
    fn a_station_has_so_many_seats_and_no_more() {
        let seats = Arc::new(Seats::default());
        let station = Fingerprint::of(b"station");
        let mut taken = Vec::new();
        for at in 0..=PER_STATION_MAX {
            let mut seat = seats.take(address(at as u8)).unwrap();
            if at == PER_STATION_MAX {
                assert_eq!(seat.name(Some(station)), Err(TurnedAway::Station));
            } else {
                seat.name(Some(station)).unwrap();
            }
            taken.push(seat);
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let one = neighbourhood("2001:db8::1".parse().unwrap());
        assert_eq!(one, neighbourhood("2001:db8::2:3".parse().unwrap()));
        assert_ne!(one, neighbourhood("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(
            neighbourhood("::ffff:10.0.0.1".parse().unwrap()),
            address(1)
        );
    }
}
