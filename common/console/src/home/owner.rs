//! Whose a home is.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::geteuid;

use crate::{Exit, Failure};

/// What somebody is about to do in a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing that leaves a trace there.
    Look,
    /// Files may be made.
    Change,
}

/// Refuses a home that belongs to somebody else, or that others can use. `tool` is the program's name, `found` what stands at
/// `home`.
///
/// Root, which reads everything in any case, may look at anybody's. What it made there would be root's, and the home's
/// owner, the service for one, could not go on: so it is told to run the command as that user.
///
/// # Errors
/// HOME-FOREIGN, HOME-EXPOSED.
pub fn expect_own(
    tool: &str,
    home: &Path,
    found: &Metadata,
    purpose: Purpose,
) -> Result<(), Failure> {
    let user = geteuid().as_raw();
    judge(
        tool,
        home,
        (found.uid(), found.permissions().mode()),
        purpose,
        user,
    )
}

fn judge(
    tool: &str,
    home: &Path,
    (owner, mode): (u32, u32),
    purpose: Purpose,
    user: u32,
) -> Result<(), Failure> {
    let refused = |code, message| Err(Failure::new(Exit::Environment, code, message));
    let shown = home.display();
    if owner != user && (user != 0 || purpose == Purpose::Change) {
        let (belongs, this) = (named(owner), named(user));
        let message = match user {
            0 => format!(
                "the home {shown} belongs to {belongs}, who could not use what root makes in it"
            ),
            _ => format!("the home {shown} belongs to {belongs}, and this is {this}"),
        };
        let hint = match (owner, user) {
            (_, 0) => format!(
                "nothing was changed: run it as that user, `sudo -u {} {tool} ...`; root may look, and a service that is running \
                 does what root asks",
                account(owner)
            ),
            // Most likely it was made by a command that had no need of it.
            (0, _) => format!(
                "if it was made with sudo by mistake, give it to its user: `sudo chown -R {}: {shown}`; else run it as root",
                account(user)
            ),
            _ => format!(
                "run it as that user: `sudo -u {} {tool} ...`",
                account(owner)
            ),
        };
        return refused("HOME-FOREIGN", message).map_err(|failure| failure.hint(hint));
    }
    let mode = mode & 0o7777;
    if mode & 0o077 != 0 {
        let message = format!("the home {shown} is open to other users (mode {mode:04o})");
        let hint = format!("find out who was in it, then run `chmod 700 {shown}`");
        return refused("HOME-EXPOSED", message).map_err(|failure| failure.hint(hint));
    }
    Ok(())
}

/// A user in words.
fn named(user: u32) -> String {
    match name(user) {
        Some(name) => format!("the user {name} ({user})"),
        None => format!("the user {user}"),
    }
}

/// A user as sudo(8) and chown(1) take one: by name, where this machine's own list has it.
fn account(user: u32) -> String {
    // Only sudo wants the mark before a number, and only chown goes without.
    name(user).unwrap_or_else(|| format!("'#{user}'"))
}

fn name(user: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(user) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(of: (u32, u32), purpose: Purpose, user: u32) -> Option<String> {
        let judged = judge("site", Path::new("/home"), of, purpose, user);
        judged.err().map(|failure| failure.code.into_owned())
    }

    #[test]
    fn a_home_is_its_owners_alone_and_root_only_looks() {
        use Purpose::{Change, Look};
        let foreign = Some("HOME-FOREIGN".to_owned());
        for purpose in [Look, Change] {
            assert_eq!(code((7, 0o40_700), purpose, 7), None);
            assert_eq!(code((0, 0o40_700), purpose, 0), None);
            for owner in [0, 8] {
                assert_eq!(code((owner, 0o40_700), purpose, 7), foreign);
            }
            for mode in [0o40_750, 0o40_701, 0o40_777, 0o40_704] {
                let exposed = Some("HOME-EXPOSED".to_owned());
                assert_eq!(code((7, mode), purpose, 7), exposed, "{mode:o}");
            }
        }
        assert_eq!(code((7, 0o40_700), Look, 0), None);
        assert_eq!(code((7, 0o40_700), Change, 0), foreign);
        assert_eq!(
            code((7, 0o40_755), Look, 0).as_deref(),
            Some("HOME-EXPOSED")
        );
    }

    #[test]
    fn whoever_is_refused_is_told_as_whom_to_run_it() {
        let hint = |owner, user| {
            let judged = judge(
                "site",
                Path::new("/h"),
                (owner, 0o700),
                Purpose::Change,
                user,
            );
            judged.unwrap_err().hint.unwrap()
        };
        assert!(hint(4_000_000_000, 0).contains("`sudo -u '#4000000000' site ...`"));
        assert!(hint(0, 4_000_000_000).contains("`sudo chown -R"));
        assert!(hint(4_000_000_001, 4_000_000_000).contains("`sudo -u"));
        assert_eq!(name(0).as_deref(), Some("root"));
    }
}
