use super::*;

fn rule(hex_bytes: &str) -> Result<(), Rule> {
    check_deterministic(&hex::decode(hex_bytes).unwrap()).map_err(|(_, rule)| rule)
}

#[test]
fn each_breach_of_deterministic_encoding_is_named() {
    assert_eq!(rule("a2010203f6"), Ok(()));
    assert_eq!(rule("80"), Ok(()));
    assert_eq!(rule("a0"), Ok(()));
    assert_eq!(rule(""), Err(Rule::Truncated));
    assert_eq!(rule("42ff"), Err(Rule::Truncated));
    assert_eq!(rule("5bffffffffffffffff"), Err(Rule::Truncated));
    assert_eq!(rule("bbffffffffffffffff"), Err(Rule::Truncated));
    assert_eq!(rule("0000"), Err(Rule::TrailingBytes));
    assert_eq!(rule("1817"), Err(Rule::NotShortest));
    assert_eq!(rule("190001"), Err(Rule::NotShortest));
    assert_eq!(rule("5800"), Err(Rule::NotShortest));
    assert_eq!(rule("9f00ff"), Err(Rule::IndefiniteLength));
    assert_eq!(rule("a202000100"), Err(Rule::MapOrder));
    assert_eq!(rule("a201000100"), Err(Rule::DuplicateKey));
    assert_eq!(rule("61ff"), Err(Rule::NotUtf8));
    assert_eq!(rule("f93c00"), Err(Rule::ForbiddenSimple));
    assert_eq!(rule("f7"), Err(Rule::ForbiddenSimple));
    assert_eq!(rule("1c"), Err(Rule::Reserved));
    assert_eq!(rule("d280"), Ok(()));
    assert_eq!(rule("c24105"), Err(Rule::ForbiddenTag));
    assert_eq!(rule("81c24105"), Err(Rule::ForbiddenTag));
    assert_eq!(rule("d2d280"), Err(Rule::ForbiddenTag));
}

#[test]
fn a_number_or_a_length_has_one_form_on_either_side_of_each_border() {
    for (longest, next) in [
        ("17", "1818"),
        ("18ff", "190100"),
        ("19ffff", "1a00010000"),
        ("1affffffff", "1b0000000100000000"),
    ] {
        assert_eq!(rule(longest), Ok(()));
        assert_eq!(rule(next), Ok(()));
    }
    for too_long in ["1817", "1900ff", "1a0000ffff", "1b00000000ffffffff"] {
        assert_eq!(rule(too_long), Err(Rule::NotShortest), "{too_long}");
    }
    for length in [
        0,
        23,
        24,
        0xff,
        0x100,
        0xffff,
        0x1_0000,
        0xffff_ffff,
        0x1_0000_0000,
    ] {
        let head = bytes_head(length);
        assert_eq!(read_bytes_head(&head), Some((length, head.len())));
        let cut = &head[..head.len() - 1];
        assert_eq!(read_bytes_head(cut), None, "{length}");
    }
    // The head of a text is not one of bytes.
    assert_eq!(read_bytes_head(&[0x61]), None);
}

#[test]
fn sixteen_levels_are_read_and_the_seventeenth_is_refused_where_it_begins() {
    let nested = |levels: usize| [vec![0x81; levels], vec![0x00]].concat();
    assert_eq!(check_deterministic(&nested(16)), Ok(()));
    let refused = check_deterministic(&nested(17)).unwrap_err();
    assert_eq!(refused, (16, Rule::TooDeep));
}

#[test]
fn a_hundred_thousand_nested_arrays_are_refused_and_not_followed() {
    let deep = vec![0x81; 100_000];
    assert_eq!(check_deterministic(&deep).unwrap_err().1, Rule::TooDeep);
    let tags = vec![0xc1; 100_000];
    let refused = check_deterministic(&tags).unwrap_err();
    assert_eq!(refused, (0, Rule::ForbiddenTag));
    let messages = vec![0xd2; 100_000];
    let refused = check_deterministic(&messages).unwrap_err();
    assert_eq!(refused, (1, Rule::ForbiddenTag));
}

#[test]
fn a_map_writes_its_keys_in_deterministic_order() {
    let bytes = Map::new()
        .with(-2, 1)
        .with(3, 1)
        .with(-1, 1)
        .with(1000, 1)
        .with(0, 1)
        .encode();
    assert_eq!(check_deterministic(&bytes), Ok(()));
}

#[test]
fn a_field_that_nobody_knows_is_an_error() {
    let mut fields =
        Fields::decode("test", &Map::new().with(1, 1).with(9, 1).encode(), 64).unwrap();
    assert_eq!(fields.uint(1).unwrap(), 1);
    assert!(fields.finish().unwrap_err().to_string().contains("field 9"));
}
