//! What the fuzz targets call of this crate that nobody else may: what stations, media and the token hand it.

use std::path::Path;

use mintmark_console::{Console, GlobalOptions};

use crate::config::Config;
use crate::medium::{Interest, Medium};
use crate::serve;
use crate::vault::anchor::Anchor;

/// Reads an anchor and writes it again; none if it is none.
pub fn anchor(bytes: &[u8]) -> Option<Vec<u8>> {
    Anchor::from_cbor(bytes).map(|anchor| anchor.to_cbor())
}

/// Reads the configuration of a home and writes it again; none if it is none.
pub fn config(bytes: &[u8]) -> Option<String> {
    Config::from_toml(bytes).ok()?.to_toml().ok()
}

/// Reads what a station asks for in one line, with the request in it. Whether it is one.
pub fn station_line(line: &[u8]) -> bool {
    serve::fuzzing::enrol(line)
}

/// Reads what a station orders of a device. Whether it is that.
pub fn device_order(body: &[u8]) -> bool {
    serve::fuzzing::order(body)
}

/// The lines of a body that arrives in these pieces; whether the last thing was its end, and no error.
pub fn station_lines(pieces: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, bool) {
    serve::fuzzing::lines(pieces)
}

/// Reads a command that somebody sends to the service of a home. Whether it is one.
pub fn command(bytes: &[u8]) -> bool {
    serve::control::fuzzed(bytes)
}

/// Paths, and what stands there as far as it can be read.
pub type Files = Vec<(String, Option<Vec<u8>>)>;

/// The paths of the files with names of ours on a medium, and what of each can be read of at most `bytes_max` bytes.
///
/// # Errors
/// The code of what is wrong with the medium.
pub fn medium(dir: &Path, bytes_max: usize) -> Result<Files, String> {
    let medium = Medium::open(dir).map_err(|error| error.code().to_owned())?;
    let survey = medium
        .survey(Interest::All)
        .map_err(|error| error.code().to_owned())?;
    let (out, err) = (Box::new(std::io::sink()), Box::new(std::io::sink()));
    survey.warn(&Console::into_streams(
        "site",
        &GlobalOptions::default(),
        out,
        err,
    ));
    let files = survey.files.iter();
    Ok(files
        .map(|file| (file.path(), medium.read(file, bytes_max).ok()))
        .collect())
}
