use mintmark_keys::{KeyUri, Prompt, Purpose};

use super::*;
use crate::drafting::{self, Subject};
use crate::registry::Registry;

#[test]
fn what_is_drafted_twice_within_one_second_is_one_draft_and_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let uri: KeyUri = format!("file:{}", folder.path().join("keys").display())
        .parse()
        .unwrap();
    let prompt: Prompt<'_> = &|_| Ok("1234".to_owned().into());
    let store = mintmark_keys::create(&uri, prompt).unwrap();
    store.generate("dispatch", Purpose::Sign).unwrap();
    let dispatch = store.signer("dispatch").unwrap();
    Registry::create(folder.path()).unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let record = Record::new(folder.path());
    let manifest = include_bytes!("../../../fixtures/vectors/trust-manifest-1.cose");
    let proposal = Proposal::read(manifest, PROPOSAL_BYTES_MAX)
        .unwrap()
        .without_signatures();
    let draft = || Draft {
        id: "trust".to_owned(),
        fingerprint: proposal.fingerprint(),
        kind: Kind::TrustManifest,
        vault: None,
        version: 1,
        drafted_at: 7,
        approve_until: 8,
        state: State::Open,
    };
    let keep = |output: &str| {
        let gone = drafting::note(&registry.sql, &draft(), &Subject::Trust).unwrap();
        let output = folder.path().join(output);
        let draft = (&proposal, &draft());
        keep_draft(&record, draft, &*dispatch, Some(&output)).unwrap();
        gone.len()
    };
    let expect_one_open = || {
        let all = drafts::all(&registry.sql).unwrap();
        assert_eq!((all.len(), all[0].state), (1, State::Open));
        collected(&registry.sql, &record, &all[0]).unwrap();
    };
    assert_eq!((keep("first"), keep("second")), (0, 0));
    expect_one_open();
    drafts::set_state(&registry.sql, &proposal.fingerprint(), State::Superseded).unwrap();
    assert_eq!(keep("third"), 0);
    expect_one_open();
    // What was published is not drafted again.
    drafts::set_state(&registry.sql, &proposal.fingerprint(), State::Sealed).unwrap();
    let again = drafting::note(&registry.sql, &draft(), &Subject::Trust);
    assert_eq!(again.map(drop).unwrap_err().code, "REGISTRY-CONTRADICTED");
}
