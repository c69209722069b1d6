//! Every command of the README and of the guides, in the order in which a reader comes to them, in an empty environment.
//!
//! What stands in a block that is marked `sh` is run, as one script; a block that is not to be run is not marked so.

use mintmark_tests::guide;

#[test]
fn every_command_of_the_guides_works_as_it_stands() {
    guide::run(&[
        "README.md",
        "docs/operator.md",
        "docs/auditor.md",
        "docs/officer.md",
        "docs/pkcs11.md",
    ]);
}

#[test]
fn every_command_of_the_drills_after_a_loss_works_as_it_stands() {
    guide::run(&["README.md", "docs/recovery.md"]);
}
