//! What the tools read that is no message: the anchor in a token, configurations, what stations send, commands.

use mintmark_site::fuzzing;

/// An anchor that is read is written again as the same bytes.
pub(crate) fn anchor(input: &[u8]) {
    if let Some(written) = fuzzing::anchor(input) {
        assert_eq!(written, input, "one anchor, one encoding");
    }
}

/// A configuration that is read means the same once it was written again.
pub(crate) fn site_config(input: &[u8]) {
    if let Some(written) = fuzzing::config(input) {
        let again = fuzzing::config(written.as_bytes());
        assert_eq!(again, Some(written), "it means what it meant");
    }
}

/// The same of headquarters'.
pub(crate) fn hq_config(input: &[u8]) {
    if let Some(written) = mintmark_hq::fuzzing::config(input) {
        let again = mintmark_hq::fuzzing::config(&written);
        assert_eq!(again, Some(written), "it means what it meant");
    }
}

/// The bodies that stations send: what is asked for one device, and what is ordered of one. Nothing is both.
pub(crate) fn station_body(input: &[u8]) {
    let (asked, ordered) = (fuzzing::station_line(input), fuzzing::device_order(input));
    assert!(!(asked && ordered), "it is one or the other");
}

/// A body of lines: however it is cut on its way, the lines are the same. The first byte says how long its pieces are.
pub(crate) fn station_lines(input: &[u8]) {
    let Some((length, body)) = input.split_first() else {
        return;
    };
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let expected: Vec<Vec<u8>> = lines
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let pieces = body.chunks(usize::from(*length).max(1)).map(<[u8]>::to_vec);
    for pieces in [pieces.collect(), vec![body.to_vec()]] {
        let (found, ended) = fuzzing::station_lines(pieces);
        assert!(ended, "nothing is too long here");
        assert_eq!(found, expected);
    }
}

/// A command to the service of a home, its length before it: it is one, or it is not.
pub(crate) fn command(input: &[u8]) {
    let whole = fuzzing::command(input);
    let framed = [&(input.len() as u32).to_be_bytes()[..], input].concat();
    assert!(
        !(whole && fuzzing::command(&framed)),
        "it is one or the other"
    );
}
