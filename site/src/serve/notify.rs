//! What the service says to systemd: that it is ready, that it stops, that it is alive (sd_notify(3)). Elsewhere nobody
//! listens, and nothing is said.

use std::env;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where systemd listens, as it says in the environment.
#[derive(Debug)]
pub(crate) struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// As NOTIFY_SOCKET says: a path, or a name in the abstract namespace that begins with @.
    pub(crate) fn from_environment() -> Self {
        Self::to(env::var_os("NOTIFY_SOCKET"))
    }

    fn to(place: Option<OsString>) -> Self {
        let open = || {
            let place = place?;
            let address = match place.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
                [b'/', ..] => SocketAddr::from_pathname(&place).ok()?,
                _ => return None,
            };
            Some((UnixDatagram::unbound().ok()?, address))
        };
        Self(open())
    }

    /// How often systemd wants to hear that the service is alive: half of what it waits.
    pub(crate) fn watchdog() -> Option<Duration> {
        let microseconds = env::var("WATCHDOG_USEC").ok()?.parse::<u64>().ok()?;
        let for_us = match env::var("WATCHDOG_PID") {
            Ok(pid) => pid.parse() == Ok(std::process::id()),
            Err(_) => true,
        };
        (for_us && microseconds > 0).then(|| Duration::from_micros(microseconds / 2))
    }

    /// It takes requests.
    pub(crate) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// It takes no more.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=finishing what is begun");
    }

    /// It is alive.
    pub(crate) fn alive(&self, status: &str) {
        self.say(&format!("WATCHDOG=1\nSTATUS={status}"));
    }

    fn say(&self, state: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::debug!(%error, "systemd did not hear it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_it_where_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listens = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.into()));
        notify.ready("up");
        let mut said = [0; 64];
        let length = listens.recv(&mut said).unwrap();
        assert_eq!(&said[..length], b"READY=1\nSTATUS=up");
    }

    #[test]
    fn nobody_who_listens_is_no_failure() {
        for place in [None, Some("relative"), Some("/nowhere/at/all"), Some("@")] {
            Notify::to(place.map(OsString::from)).stopping();
        }
    }
}
