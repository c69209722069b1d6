//! Proofs that another project made for its own implementation of RFC 6962, those that do not hold included.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use mintmark_ledger::merkle::{Hash, verify_consistency, verify_inclusion};
use serde_json::Value;

/// The cases of one kind.
fn cases(kind: &str) -> Vec<Value> {
    let file = format!("../../fixtures/vectors/merkle/{kind}.json");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What is no hash at all, for its length, cannot even be asked about here.
fn hash(value: &Value) -> Option<Hash> {
    let bytes = hex::decode(value.as_str()?).unwrap();
    bytes.try_into().ok()
}

fn proof(case: &Value) -> Option<Vec<Hash>> {
    case["proof"].as_array().unwrap().iter().map(hash).collect()
}

/// How many hold; each has to be as its authors say.
fn judged(cases: &[Value], holds: impl Fn(&Value) -> Option<bool>) -> usize {
    let mut count = 0;
    for case in cases {
        let holds = holds(case).unwrap_or(false);
        assert_eq!(holds, case["wantErr"] == false, "{case}");
        count += usize::from(holds);
    }
    count
}

#[test]
fn inclusion_proofs_of_another_project_hold_or_not_as_it_says() {
    let cases = cases("inclusion");
    let held = judged(&cases, |case| {
        let number = |name: &str| case[name].as_u64();
        let (leaf, root) = (hash(&case["leafHash"])?, hash(&case["root"])?);
        let (index, size) = (number("leafIdx")?, number("treeSize")?);
        Some(verify_inclusion(&leaf, index, size, &proof(case)?, &root))
    });
    assert_eq!((cases.len(), held), (98, 6));
}

#[test]
fn consistency_proofs_of_another_project_hold_or_not_as_it_says() {
    let mut cases = cases("consistency");
    // Its roots are placeholders, as that implementation only compares them.
    cases.retain(|case| {
        case["name"] != "consistency/additional/sizes-are-equal-one-and-proof-is-empty"
    });
    let held = judged(&cases, |case| {
        let number = |name: &str| case[name].as_u64();
        let (older, newer) = (hash(&case["root1"])?, hash(&case["root2"])?);
        let (from, to) = (number("size1")?, number("size2")?);
        Some(verify_consistency(from, to, &older, &newer, &proof(case)?))
    });
    assert_eq!((cases.len(), held), (97, 5));
}
