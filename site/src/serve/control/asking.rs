//! The side of whoever asks: a command that has the service do what it is to do.

use std::fs;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use mintmark_console::{Console, Exit, HasGlobal as _, Stop};

use super::{
    ANSWER, Conversation, DIAGNOSTICS, Door, EXIT, NOBODY, OUTPUT, QUESTION, Request, VERSION,
    frame, send,
};
use crate::command_line::CommandLine;
use crate::commands::issue::unheard;
use crate::failure::{Error, Result};
use crate::home::Home;

/// How often is looked whether somebody asks a command to stop.
const STOP_TIME: Duration = Duration::from_millis(50);
/// How many frames a command takes before what it was told first is written.
const FRAMES_AHEAD_MAX: usize = 128;

/// Has the service do the command of this process, if a service holds the home; none if there is no service.
///
/// # Errors
/// SERVICE-LOST if the service went away before the command was done.
pub(crate) fn forward(
    home: Option<&Path>,
    line: &CommandLine,
    console: &Console,
) -> Result<Option<Exit>> {
    // What is wrong with the home, the command itself says.
    let Ok(home) = Home::open(home) else {
        return Ok(None);
    };
    let Some(stream) = connect(&home) else {
        return Ok(None);
    };
    let folder = std::env::current_dir().map_err(|error| {
        Error::environment("HOME-UNREADABLE", "the current folder cannot be told").cause(error)
    })?;
    let words = std::env::args_os().skip(1);
    let request = Request {
        version: VERSION,
        words: words.map(|word| hex::encode(word.as_bytes())).collect(),
        folder: hex::encode(folder.as_os_str().as_bytes()),
        color: !line.global().json && console.is_colored(),
    };
    let stop = line.heeds_signals().then(Stop::listen).transpose();
    let stop = stop.map_err(unheard)?;
    let conversation = Conversation(stream);
    let exit = thread::scope(|threads| {
        // The watch ends with this.
        let (_following, over) = channel();
        if let Some(stop) = &stop {
            let stream = &conversation.0;
            threads.spawn(move || watch(stop, stream, &over, console));
        }
        follow(&conversation.0, &request, console)
    });
    exit.map(Some)
}

/// Somebody behind the socket of a home whose lock is taken.
fn connect(home: &Home) -> Option<UnixStream> {
    let door = Door::of(home.path()).ok()?;
    let found = fs::symlink_metadata(&door.path).ok()?;
    if !found.file_type().is_socket() || !home.is_locked() {
        return None;
    }
    UnixStream::connect(&door.path).ok()
}

/// Has the service stop when somebody asks this process to: it is said nothing more, and says how far it came.
fn watch(stop: &Stop, stream: &UnixStream, over: &Receiver<()>, console: &Console) {
    while over.recv_timeout(STOP_TIME) == Err(RecvTimeoutError::Timeout) {
        if let Some(signal) = stop.asked() {
            console.note(format!(
                "{signal}: the service finishes what is begun; once more ends this command at once, and changes nothing of that"
            ));
            // Where it has ended meanwhile, what it said comes next.
            let _ = stream.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// Sends the request, and does what comes back. What comes is taken as it comes, and waits here for whoever reads what this
/// process writes.
fn follow(mut stream: &UnixStream, request: &Request, console: &Console) -> Result<Exit> {
    let lost = |error: io::Error| {
        Error::unknown("SERVICE-LOST", "the service went away before this was done")
            .cause(error)
            .hint("look at `site status`, and at what the service says of itself, before running it again")
    };
    let request = serde_json::to_vec(request).map_err(|error| lost(error.into()))?;
    let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
    // Where it is not even taken, what the service says of it comes next.
    let _ = stream
        .write_all(&length.to_be_bytes())
        .and_then(|()| stream.write_all(&request));
    let (taken, frames) = sync_channel(FRAMES_AHEAD_MAX);
    let reader = stream.try_clone().map_err(lost)?;
    thread::Builder::new()
        .name("service".to_owned())
        .spawn(move || take(&reader, &taken))
        .map_err(lost)?;
    loop {
        let frame = frames.recv();
        let frame = frame.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into()));
        let (kind, bytes) = frame.map_err(lost)?;
        match kind {
            OUTPUT => {
                // A reader that has gone changes nothing of what is done.
                console
                    .write_data(&bytes)
                    .map_err(|error| mintmark_console::Failure::output(&error))?;
            }
            DIAGNOSTICS => {
                let _ = io::stderr().write_all(&bytes);
            }
            QUESTION => {
                let question = String::from_utf8_lossy(&bytes);
                match console.ask_line(&question) {
                    Ok(typed) => send(&mut stream, ANSWER, typed.as_bytes()),
                    Err(_) => send(&mut stream, NOBODY, &[]),
                }
                .map_err(lost)?;
            }
            EXIT => {
                let code = bytes.first().copied();
                let all = [
                    Exit::Done,
                    Exit::Negative,
                    Exit::Usage,
                    Exit::Environment,
                    Exit::Integrity,
                ];
                let exit = all.into_iter().find(|exit| Some(exit.code()) == code);
                return Ok(exit.unwrap_or(Exit::Unknown));
            }
            _ => return Err(lost(io::ErrorKind::InvalidData.into())),
        }
    }
}

/// Takes what the service says, to its end.
fn take(mut stream: &UnixStream, taken: &SyncSender<io::Result<(u8, Vec<u8>)>>) {
    loop {
        let frame = frame(&mut stream);
        let is_last = !matches!(&frame, Ok((kind, _)) if *kind != EXIT);
        if taken.send(frame).is_err() || is_last {
            return;
        }
    }
}
