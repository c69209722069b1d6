//! The control socket, `HOME/control.sock`: while the service holds a vault, commands of the operator are done by it.
//!
//! A command that finds the home's lock taken and somebody behind the socket sends its words and the folder that it was
//! started in, and gets back what is to be written to standard output and standard error, and the exit code. Questions come
//! back to the terminal that it was started at. No PIN crosses: the service's vault is open.
//!
//! Only the user that the service runs as, and root, are listened to, by what the operating system says of who is at the
//! other end.
//!
//! ```text
//! request = length (4 octets, big-endian), JSON { "version": 1, "words": [hex ...], "folder": hex, "color": bool }
//! frame   = kind (1 octet), length (4 octets, big-endian), octets
//!   from the service: 1 standard output, 2 standard error, 3 exit code (1 octet), 4 a question
//!   from the command: 5 what was typed, 6 there is nobody to ask
//! ```
//!
//! Nobody reads what the command writes, for a while: a pager, a terminal that was halted. That holds up that command and
//! nothing else. A command that shuts its half of the socket has gone or wants no more done, and is still told what there is to
//! tell. Whoever has the vault never waits for it, and the service ends the conversation, whatever became of it.

mod asking;
mod outbox;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser as _;
use mintmark_console::{ColorChoice, Console, Exit, GlobalOptions, HasGlobal as _};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

pub(crate) use self::asking::forward;
use self::outbox::{Ending, Outbox};
use super::desk::Desk;
use crate::command_line::CommandLine;
use crate::failure::{Error, Result};
use crate::place::{Place, Service};

/// The name of the socket in the home.
const SOCKET: &str = "control.sock";

const VERSION: u32 = 1;
/// The largest request, in bytes: a command line has no more.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// The largest frame, in bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// How many commands are at work at the same time.
const COMMANDS_MAX: usize = 16;
/// How long a command may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a command may take nothing of what it is told before it is taken for one that has gone.
const TAKING_PATIENCE: Duration = Duration::from_secs(600);

/// How long the end of the service waits for commands to hear how they ended.
const PARTING_TIME: Duration = Duration::from_secs(2);

const OUTPUT: u8 = 1;
const DIAGNOSTICS: u8 = 2;
const EXIT: u8 = 3;
const QUESTION: u8 = 4;
const ANSWER: u8 = 5;
const NOBODY: u8 = 6;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: u32,
    words: Vec<String>,
    folder: String,
    color: bool,
}

/// The path of the socket through a folder that is open, so that no home is too deep for it.
struct Door {
    _home: File,
    path: PathBuf,
}

impl Door {
    fn of(home: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(home)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        Ok(Self {
            _home: folder,
            path: path.into(),
        })
    }
}

/// The socket, listened to until it is dropped.
pub(crate) struct Control {
    door: Door,
    over: Arc<AtomicBool>,
    at_work: Arc<AtomicUsize>,
}

impl Control {
    /// Listens to commands for the vault of this home, whose lock this process holds.
    ///
    /// # Errors
    /// CONTROL-UNAVAILABLE.
    pub(crate) fn listen(home: &Path, desk: &Arc<Desk>) -> Result<Self> {
        let failed = |error: io::Error| {
            let path = home.join(SOCKET);
            let message = format!("the control socket {} cannot be made", path.display());
            Error::environment("CONTROL-UNAVAILABLE", message)
                .cause(error)
                .hint("it stands in the home: see that the home can be written to, and that nothing else has this name")
        };
        let door = Door::of(home).map_err(failed)?;
        // Whoever holds the lock is the only one who listens: what is there is left of a process that was killed.
        match fs::symlink_metadata(&door.path) {
            Ok(found) if found.file_type().is_socket() => {
                fs::remove_file(&door.path).map_err(failed)?;
            }
            Ok(_) => return Err(failed(io::ErrorKind::AlreadyExists.into())),
            Err(_) => {}
        }
        let listener = UnixListener::bind(&door.path).map_err(failed)?;
        fs::set_permissions(&door.path, Permissions::from_mode(0o600)).map_err(failed)?;
        let over = Arc::new(AtomicBool::new(false));
        let at_work = Arc::default();
        let hall = Hall {
            home: home.into(),
            desk: Arc::clone(desk),
            over: Arc::clone(&over),
            at_work: Arc::clone(&at_work),
            media: Arc::default(),
        };
        thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || hall.receive(&listener))
            .map_err(failed)?;
        Ok(Self {
            door,
            over,
            at_work,
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Whoever waits there finds that it is over.
        let _ = UnixStream::connect(&self.door.path);
        let _ = fs::remove_file(&self.door.path);
        // Whoever asked is still told what became of it.
        let begin = Instant::now();
        while self.at_work.load(Ordering::SeqCst) > 0 && begin.elapsed() < PARTING_TIME {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where commands are received.
struct Hall {
    home: Box<Path>,
    desk: Arc<Desk>,
    over: Arc<AtomicBool>,
    at_work: Arc<AtomicUsize>,
    media: Arc<Mutex<()>>,
}

impl Hall {
    fn receive(self, listener: &UnixListener) {
        let hall = Arc::new(self);
        for stream in listener.incoming() {
            if hall.over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else {
                // No more files can be opened, for instance: that passes.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if hall.at_work.fetch_add(1, Ordering::SeqCst) >= COMMANDS_MAX {
                hall.at_work.fetch_sub(1, Ordering::SeqCst);
                tell(&stream, &busy());
                continue;
            }
            let visited = Arc::clone(&hall);
            let spawned = thread::Builder::new()
                .name("command".to_owned())
                .spawn(move || {
                    let _place = Seat(&visited.at_work);
                    let conversation = Conversation(stream);
                    if let Err(error) = visited.serve(&conversation.0) {
                        tell(&conversation.0, &error);
                    }
                });
            if spawned.is_err() {
                hall.at_work.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Does one command.
    fn serve(&self, stream: &UnixStream) -> Result<()> {
        let peer = rustix::net::sockopt::socket_peercred(stream).map_err(|error| {
            Error::environment("CONTROL-PEER", "who asks cannot be told").cause(error)
        })?;
        let (user, process) = (peer.uid.as_raw(), peer.pid.as_raw_nonzero().get());
        if user != 0 && user != rustix::process::geteuid().as_raw() {
            tracing::warn!(user, process, "a command of another user was refused");
            let message = format!("the service does nothing for user {user}");
            return Err(Error::environment("HOME-FOREIGN", message)
                .hint("run as the user that owns the home"));
        }
        let lost = |error: io::Error| {
            Error::environment("CONTROL-REQUEST", "the command did not arrive whole").cause(error)
        };
        let timed = stream.set_read_timeout(Some(PATIENCE));
        timed
            .and_then(|()| stream.set_write_timeout(Some(TAKING_PATIENCE)))
            .map_err(lost)?;
        let request = receive(&mut &*stream).map_err(lost)?;
        stream.set_read_timeout(None).map_err(lost)?;
        let (line, global) = parse(&request)?;
        let command = line.name();
        tracing::info!(user, process, command, "a command of the operator");
        let outbox = Arc::new(Outbox::default());
        let carry = || {
            let carried = outbox.carry(stream);
            if carried.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                let seconds = TAKING_PATIENCE.as_secs();
                tracing::warn!(
                    user,
                    process,
                    command,
                    seconds,
                    "whoever asked takes nothing of what they are told, and is taken for gone"
                );
            }
        };
        thread::scope(|threads| {
            let _ending = Ending(&outbox);
            let out = thread::Builder::new().name("command-out".to_owned());
            out.spawn_scoped(threads, carry).map_err(unanswerable)?;
            let exit = self.execute(line, global, stream, &outbox)?;
            tracing::info!(user, process, command, exit = exit.code(), "done");
            // Whoever has gone does not need it.
            let _ = outbox.put(EXIT, &[exit.code()]);
            Ok(())
        })
    }

    fn execute(
        &self,
        line: CommandLine,
        global: GlobalOptions,
        stream: &UnixStream,
        outbox: &Arc<Outbox>,
    ) -> Result<Exit> {
        let (typed, answers) = channel();
        let reader = stream.try_clone().map_err(unanswerable)?;
        let visitor = Arc::clone(outbox);
        thread::Builder::new()
            .name("command-in".to_owned())
            .spawn(move || listen(&reader, &typed, &visitor))
            .map_err(unanswerable)?;
        let stream_of = |kind| Box::new(frames(kind, outbox));
        let console =
            Console::into_streams("site", &global, stream_of(OUTPUT), stream_of(DIAGNOSTICS))
                .asking(asker(Arc::clone(outbox), answers));
        let console = Arc::new(console);
        let (gone, taken) = (Arc::clone(outbox), Arc::clone(outbox));
        let service = Service {
            home: self.home.clone(),
            desk: Arc::clone(&self.desk),
            console: Arc::clone(&console),
            is_gone: Box::new(move || gone.is_gone()),
            wait_until_taken: Box::new(move || taken.wait_until_taken()),
            media: Arc::clone(&self.media),
        };
        let done = line.execute_at(&Place::Service(&service), &console);
        // The thread that listens ends with the connection.
        Ok(done.unwrap_or_else(|failure| {
            console.report(&failure);
            failure.exit
        }))
    }
}

struct Seat<'a>(&'a AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A conversation, which is over for both sides when this is dropped: whoever still listens finds its end.
struct Conversation(UnixStream);

impl Drop for Conversation {
    fn drop(&mut self) {
        // Whoever has gone has ended it already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn unanswerable(error: io::Error) -> Error {
    Error::environment("CONTROL-REQUEST", "the command cannot be answered").cause(error)
}

/// What the command types, until it has gone.
fn listen(mut stream: &UnixStream, typed: &Sender<Option<String>>, outbox: &Outbox) {
    while let Ok((kind, bytes)) = frame(&mut stream) {
        let answer = (kind == ANSWER).then(|| String::from_utf8_lossy(&bytes).into_owned());
        if typed.send(answer).is_err() {
            break;
        }
    }
    outbox.leave();
}

/// Asks at the terminal that the command was started at.
fn asker(
    outbox: Arc<Outbox>,
    answers: Receiver<Option<String>>,
) -> impl Fn(&str) -> io::Result<String> + Send + Sync + 'static {
    let answers = Mutex::new(answers);
    move |question| {
        outbox.put(QUESTION, question.as_bytes())?;
        let answer = lock(&answers).recv();
        answer
            .ok()
            .flatten()
            .ok_or_else(|| io::Error::other("there is nobody to ask"))
    }
}

/// A stream of the command's.
struct Frames {
    kind: u8,
    outbox: Arc<Outbox>,
}

fn frames(kind: u8, outbox: &Arc<Outbox>) -> Frames {
    Frames {
        kind,
        outbox: Arc::clone(outbox),
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..FRAME_BYTES_MAX).unwrap_or(bytes);
        self.outbox.put(self.kind, piece)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the request asks for, its paths as they are meant.
fn parse(request: &Request) -> Result<(CommandLine, GlobalOptions)> {
    let wrong = |why: String| {
        Error::usage(
            "CONTROL-REQUEST",
            "the service does not understand the command",
        )
        .cause(why)
        .hint("the service runs another version of this program: start it again")
    };
    if request.version != VERSION {
        return Err(wrong(format!("version {}", request.version)));
    }
    let bytes = |text: &String| hex::decode(text).map(OsString::from_vec);
    let words: std::result::Result<Vec<OsString>, _> = request.words.iter().map(bytes).collect();
    let words = words.map_err(|error| wrong(error.to_string()))?;
    let folder = bytes(&request.folder).map_err(|error| wrong(error.to_string()))?;
    let name = std::iter::once(OsStr::new("site").to_owned());
    let mut line =
        CommandLine::try_parse_from(name.chain(words)).map_err(|error| wrong(error.to_string()))?;
    if !line.needs_vault() {
        return Err(wrong(
            "it is none of those that the service does".to_owned(),
        ));
    }
    line.resolve(Path::new(&folder));
    let color = match request.color {
        true => ColorChoice::Always,
        false => ColorChoice::Never,
    };
    let global = GlobalOptions {
        json: line.global().json,
        color,
    };
    Ok((line, global))
}

/// Tells somebody why nothing is done.
fn tell(stream: &UnixStream, error: &Error) {
    let failure = error.failure();
    let outbox = Arc::new(Outbox::default());
    let words = Console::into_streams(
        "site",
        &GlobalOptions::default(),
        Box::new(io::sink()),
        Box::new(frames(DIAGNOSTICS, &outbox)),
    );
    words.report(failure);
    let _ = outbox.put(EXIT, &[failure.exit.code()]);
    outbox.end();
    // Whoever has gone does not need it.
    let _ = outbox.carry(stream);
}

fn busy() -> Error {
    let message = format!("the service does {COMMANDS_MAX} commands already");
    Error::environment("SERVICE-BUSY", message).hint("nothing was changed; run it again later")
}

/// Whether these bytes are a command that the service does.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzzed(mut bytes: &[u8]) -> bool {
    let request = receive(&mut bytes);
    request.is_ok_and(|request| parse(&request).is_ok())
}

fn receive(stream: &mut impl Read) -> io::Result<Request> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let bytes = read(stream, length, REQUEST_BYTES_MAX)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn send(stream: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(&framed(kind, bytes)?)
}

fn framed(kind: u8, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(bytes.len().saturating_add(5));
    frame.push(kind);
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    Ok(frame)
}

fn frame(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    Ok((kind, read(stream, length, FRAME_BYTES_MAX)?))
}

fn read(stream: &mut impl Read, length: usize, length_max: usize) -> io::Result<Vec<u8>> {
    if length > length_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
