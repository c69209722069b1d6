use super::*;

fn station(name: &str) -> StationId {
    name.parse().unwrap()
}

fn want(device: usize) -> Want {
    Want::History {
        product: None,
        device_id: format!("D{device:06}").parse().unwrap(),
    }
}

fn round(desk: &Desk, wants_max: usize) -> Vec<(String, String)> {
    match desk.next(wants_max, Duration::ZERO) {
        Next::Round(round) => round.iter().map(name).collect(),
        _ => Vec::new(),
    }
}

fn name(waiting: &Waiting) -> (String, String) {
    let Want::History { device_id, .. } = &waiting.want else {
        panic!("another want")
    };
    (waiting.station.to_string(), device_id.to_string())
}

#[test]
fn a_station_that_floods_waits_behind_itself_and_nobody_else_does() {
    let desk = Desk::default();
    let (flood, calm) = (station("flood"), station("calm"));
    let mut receivers = Vec::new();
    for device in 0..WAITING_PER_STATION_MAX {
        receivers.push(desk.ask(&flood, want(device)).unwrap());
    }
    let refused = desk.ask(&flood, want(999_999));
    assert!(matches!(refused, Err(Unanswered::Busy { .. })));
    receivers.push(desk.ask(&calm, want(1)).unwrap());
    let round = round(&desk, 2);
    assert_eq!(round[0], ("flood".into(), "D000000".into()));
    assert_eq!(round[1], ("calm".into(), "D000001".into()));
}

#[test]
fn the_wants_of_a_station_are_answered_in_their_order() {
    let desk = Desk::default();
    let (one, two) = (station("one"), station("two"));
    let receivers: Vec<_> = (0..6)
        .map(|device| {
            desk.ask(if device < 4 { &one } else { &two }, want(device))
                .unwrap()
        })
        .collect();
    let order: Vec<String> = round(&desk, 99)
        .into_iter()
        .map(|(_, device)| device)
        .collect();
    let expected = [
        "D000000", "D000004", "D000001", "D000005", "D000002", "D000003",
    ];
    assert_eq!(order, expected);
    assert_eq!(desk.waiting(), 0);
    drop(receivers);
}

#[test]
fn all_stations_together_have_no_more_waiting_than_there_is_room_for() {
    let desk = Desk::default();
    let mut receivers = Vec::new();
    for at in 0..WAITING_MAX {
        let id = station(&format!("s{}", at / WAITING_PER_STATION_MAX));
        receivers.push(desk.ask(&id, want(at)).unwrap());
    }
    let refused = desk.ask(&station("late"), want(0));
    assert!(matches!(refused, Err(Unanswered::Busy { .. })));
    assert_eq!(round(&desk, 512).len(), 512);
    receivers.push(desk.ask(&station("late"), want(0)).unwrap());
}

#[test]
fn whoever_has_gone_is_not_answered() {
    let desk = Desk::default();
    let id = station("one");
    drop(desk.ask(&id, want(1)).unwrap());
    let stays = desk.ask(&id, want(2)).unwrap();
    assert_eq!(round(&desk, 99), [("one".into(), "D000002".into())]);
    assert_eq!(desk.waiting(), 0);
    drop(stays);
}

#[test]
fn what_waits_when_it_drains_is_answered_and_nothing_after_it() {
    let desk = Desk::default();
    let id = station("one");
    let waits = desk.ask(&id, want(1)).unwrap();
    desk.drain();
    assert!(matches!(desk.ask(&id, want(2)), Err(Unanswered::Draining)));
    assert_eq!(desk.borrow().err().unwrap().code(), "SERVICE-STOPPING");
    assert_eq!(round(&desk, 99).len(), 1);
    assert!(matches!(desk.next(99, Duration::ZERO), Next::Over));
    drop(waits);
}

#[test]
fn whoever_borrows_the_vault_goes_before_a_round() {
    let desk = Desk::default();
    let waits = desk.ask(&station("one"), want(1)).unwrap();
    thread::scope(|threads| {
        let borrowed = threads.spawn(|| desk.borrow().map(drop).unwrap_err());
        while lock(&desk) == 0 {
            thread::yield_now();
        }
        let Next::Lend(borrower) = desk.next(99, Duration::ZERO) else {
            panic!("the borrower comes first")
        };
        let failure = Failure::new(mintmark_console::Exit::Environment, "TOKEN-GONE", "gone");
        borrower.send(Err(failure)).unwrap();
        assert_eq!(borrowed.join().unwrap().code(), "TOKEN-GONE");
    });
    assert_eq!(round(&desk, 99).len(), 1);
    assert!(matches!(desk.next(99, Duration::ZERO), Next::Nothing));
    drop(waits);
}

fn lock(desk: &Desk) -> usize {
    desk.queues().borrowers.len()
}

#[test]
fn while_nothing_is_answered_wants_go_on_waiting() {
    let desk = Desk::default();
    let waits = desk.ask(&station("one"), want(1)).unwrap();
    assert!(matches!(desk.next(0, Duration::ZERO), Next::Nothing));
    assert_eq!(desk.waiting(), 1);
    desk.drain();
    assert!(matches!(desk.next(0, Duration::ZERO), Next::Over));
    drop(waits);
}

#[test]
fn everybody_who_waits_can_be_told_why_there_is_no_answer() {
    let desk = Desk::default();
    let mut waits = desk.ask(&station("one"), want(1)).unwrap();
    desk.turn_away(&Unanswered::Busy {
        retry_after_seconds: 5,
    });
    let told = waits.try_recv().unwrap();
    assert!(matches!(
        told,
        Err(Unanswered::Busy {
            retry_after_seconds: 5
        })
    ));
}
