//! Which clients find a place, and which lose theirs: those that nobody would miss go first, and
//! who listens does not suffer for those who do not.
//!
//! These are rules without a state. The daemon keeps the connections, of which there are few.
use super::event::Time;
use std::time::Duration;

/// Most connections at once.
pub const CONNECTIONS: usize = 256;
/// Most bytes that may wait for a client which asks for more.
const UNHEARD: usize = 1 << 20;
/// Most bytes of answers that wait for all clients together.
const ALL_CLIENTS: usize = 256 << 20;
/// Bytes that may wait for any client.
const LITTLE: usize = 64 << 10;
/// Who has just come is about to ask.
const NEWCOMER: Duration = Duration::from_secs(5);

/// What becomes of a client that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<Id> {
    /// There is a place.
    Free,
    /// It takes the place of this one, which has carried no request for longest.
    Of(Id),
    /// There is none.
    None,
}

/// What becomes of a client that connects beside these, of each of which it is said since when it
/// waits for nothing, if it does.
///
/// There is no other limit on that: an idle connection costs a descriptor, and there are never many.
pub fn place<Id>(clients: impl ExactSizeIterator<Item = (Id, Option<Time>)>, now: Time) -> Place<Id> {
    if clients.len() < CONNECTIONS {
        return Place::Free;
    }
    let idle = clients.filter_map(|(id, idle_since)| Some((id, idle_since?)));
    let idle = idle.filter(|(_, since)| now.since(*since) > NEWCOMER);
    idle.min_by_key(|(_, since)| *since).map_or(Place::None, |(id, _)| Place::Of(id))
}

/// Whether a client that asks for something is heard: not if it asks and asks and never listens.
pub fn is_heard(waiting: usize) -> bool {
    waiting <= UNHEARD
}

/// Whether a client may be sent more of its answer, for which so many bytes wait already, of at most
/// `limit`, and for all clients together so many. If not, it takes too little and is let go.
pub fn may_be_sent_more(waiting: usize, limit: usize, for_all: usize) -> bool {
    waiting <= limit && (waiting <= LITTLE || for_all <= ALL_CLIENTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::back_off::Random;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn who_has_rested_longest_goes_and_only_for_want_of_a_place() {
        let mut clients: Vec<(usize, Option<Time>)> = (0..CONNECTIONS - 1).map(|id| (id, Some(at(9)))).collect();
        assert_eq!(place(clients.iter().copied(), at(100)), Place::Free);
        clients.push((999, None));
        clients[7].1 = Some(at(8));
        assert_eq!(place(clients.iter().copied(), at(100)), Place::Of(7));
        assert_eq!(place(clients.iter().copied(), at(13)), Place::None, "they are about to ask");
        let busy: Vec<_> = clients.iter().map(|(id, _)| (*id, None)).collect();
        assert_eq!(place(busy.iter().copied(), at(100)), Place::None);
    }

    #[test]
    fn whatever_clients_there_are_no_busy_one_and_no_newcomer_loses_its_place() {
        for seed in 0..1_000 {
            let mut random = Random::new(seed);
            let count = CONNECTIONS - 2 + random.next() as usize % 4;
            let mut idle = || (!random.next().is_multiple_of(3)).then(|| at(random.next() % 20));
            let clients: Vec<(usize, Option<Time>)> = (0..count).map(|id| (id, idle())).collect();
            let now = at(20);
            let may_go = |since: &Time| now.since(*since) > NEWCOMER;
            let oldest = clients.iter().filter_map(|(_, since)| *since).filter(may_go).min();
            match place(clients.iter().copied(), now) {
                Place::Free => assert!(count < CONNECTIONS),
                Place::Of(id) => assert!(count >= CONNECTIONS && clients[id].1 == oldest && oldest.is_some()),
                Place::None => assert!(count >= CONNECTIONS && oldest.is_none()),
            }
        }
    }

    #[test]
    fn who_does_not_listen_is_let_go_and_who_listens_is_not() {
        assert!(is_heard(UNHEARD) && !is_heard(UNHEARD + 1));
        assert!(may_be_sent_more(100, 100, 0) && !may_be_sent_more(101, 100, 0));
        assert!(may_be_sent_more(LITTLE, 1 << 30, usize::MAX), "a little is always for everybody");
        assert!(may_be_sent_more(LITTLE + 1, 1 << 30, ALL_CLIENTS));
        assert!(!may_be_sent_more(LITTLE + 1, 1 << 30, ALL_CLIENTS + 1));
    }
}
