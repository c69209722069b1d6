//! A ledger read without a lock, by whoever may read its files: while another process writes it, or none.

use std::path::{Path, PathBuf};

use mintmark_protocol::identifier::{DeviceId, Sku};

use super::index::decode;
use super::open::{Floor, Folder, apply_from};
use super::prune::expect_pruned;
use super::read::{DeviceHistory, Entries, certificate, history};
use crate::entry::{Body, LogSequence};
use crate::error::Error;
use crate::index::SledIndex;
use crate::log::{FileLog, Head, LogStore, Position, Records};
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::storage_error::StorageError;
use crate::watch::{NOBODY, Watch};

/// A ledger as it was when the view was opened. It has no index: what is looked up is looked for.
pub struct View {
    log: FileLog,
    state: State,
    /// A head of the log whose position is known.
    known: Head,
    torn_bytes: u64,
    index: PathBuf,
}

impl View {
    /// Opens the ledger in `folder` to read. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`Error::Storage`] if there is no log or it does not hold what was written; [`Error::RecordUnreadable`] and
    /// [`Error::GenesisMissing`] if it is not a vault's.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Self::open_watched(folder, NOBODY)
    }

    /// As [`View::open`], for somebody who sees how far it is.
    ///
    /// # Errors
    /// As there.
    pub fn open_watched(folder: &Path, watch: Watch<'_>) -> Result<Self, Error> {
        let view = Self::open_once(folder, watch)?;
        if expect_pruned(&view.log, &view.state).is_ok() {
            return Ok(view);
        }
        // Its owner may have pruned it meanwhile, and the log says so by now.
        let view = Self::open_once(folder, watch)?;
        expect_pruned(&view.log, &view.state)?;
        Ok(view)
    }

    fn open_once(folder: &Path, watch: Watch<'_>) -> Result<Self, Error> {
        let paths = Folder::new(folder);
        // In this order: a snapshot is never ahead of the log.
        let mut snapshot = Snapshot::read(&paths.snapshot)?;
        let known = snapshot.as_ref().map(|snapshot| snapshot.head);
        let (log, found) = match FileLog::open_read_only(&paths.log, known) {
            Err(corrupt @ StorageError::LogCorrupt { .. }) => {
                super::open::expect_whole(&paths.log, known, corrupt)?;
                snapshot = None;
                FileLog::open_read_only(&paths.log, None)?
            }
            other => other?,
        };
        let (mut state, known) = match snapshot {
            Some(snapshot) => (snapshot.state, snapshot.head),
            None => (State::new(), Head::default()),
        };
        apply_from(&log, &mut state, &known, watch)?;
        if state.genesis().is_none() {
            return Err(Error::GenesisMissing {
                path: folder.to_owned(),
            });
        }
        Ok(Self {
            log,
            state,
            known,
            torn_bytes: found.torn_bytes,
            index: paths.index,
        })
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn log(&self) -> &FileLog {
        &self.log
    }

    /// How many records there are.
    pub fn size(&self) -> u64 {
        self.log.head().size
    }

    /// Bytes of an incomplete group at the end of the log, which may be one that is just being written.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Makes sure that the log holds what somebody outside its folder knows of it.
    ///
    /// # Errors
    /// [`StorageError::LogRolledBack`] if it has fewer records; [`StorageError::LogForked`] if it has others;
    /// [`Error::Storage`] if it cannot be read.
    pub fn expect_floor(&self, floor: Floor) -> Result<(), Error> {
        let (head, size) = (self.log.head(), floor.size);
        if size > head.size {
            let found = head.size;
            return Err(StorageError::LogRolledBack { known: size, found }.into());
        }
        let link = match size.checked_sub(1) {
            None => Some([0; 32]),
            Some(_) if size == head.size => Some(head.link),
            Some(last) => {
                let record = self.reader(LogSequence(last))?.next().transpose()?;
                record.map(|record| record.link)
            }
        };
        match link == Some(floor.link) {
            true => Ok(()),
            false => Err(StorageError::LogForked { size }.into()),
        }
    }

    /// Why the index would have to be made again from the log, as far as that can be told without opening it; none if
    /// it seems in order.
    ///
    /// # Errors
    /// [`Error::Storage`] if what stands there cannot be looked at.
    pub fn index_complaint(&self) -> Result<Option<&'static str>, Error> {
        Ok(SledIndex::complaint(&self.index)?)
    }

    /// The records from `from` on, in order, one at a time.
    ///
    /// # Errors
    /// [`Error::Storage`] if the log cannot be read.
    pub fn reader(&self, from: LogSequence) -> Result<Records<'_>, Error> {
        let start = if from.number() >= self.known.size {
            self.known.end
        } else {
            self.log.position_before(from.number())?
        };
        let records = self.log.scan(start)?;
        // An error is passed on wherever it stands.
        Ok(Box::new(records.skip_while(move |record| {
            record
                .as_ref()
                .is_ok_and(|record| record.sequence < from.number())
        })))
    }

    /// The entries from `from` on, in order, one at a time.
    ///
    /// # Errors
    /// [`Error::Storage`] if the log cannot be read.
    pub fn entries(&self, from: LogSequence) -> Result<Entries<'_>, Error> {
        Ok(Entries(self.reader(from)?))
    }

    /// Everything that was ever reserved for a device, in the order of the log; of one product, or of all. Reads the
    /// whole log.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::RecordUnreadable`] if the log cannot be read; [`Error::Certificate`].
    pub fn device(
        &self,
        sku: Option<&Sku>,
        device_id: &DeviceId,
    ) -> Result<Vec<DeviceHistory>, Error> {
        let mut found: Vec<(DeviceHistory, Option<Vec<u8>>)> = Vec::new();
        for record in self.log.scan(Position::START)? {
            let record = record?;
            let sequence = LogSequence(record.sequence);
            let entry = decode(&record)?;
            match &entry.body {
                Body::Reserved(reserved) if reserved.device_id == *device_id => {
                    let Some(account) = self.state.account(reserved.account) else {
                        continue;
                    };
                    if sku.is_none_or(|sku| *sku == account.sku) {
                        let tbs = record.whole().map(|_| reserved.tbs.clone());
                        let history = history(sequence, None, &account.sku, &entry, None);
                        found.extend(history.map(|history| (history, tbs)));
                    }
                }
                Body::Signed(signed) => {
                    let of = |(history, _): &&mut (DeviceHistory, Option<Vec<u8>>)| {
                        history.reservation == signed.reservation && history.signed.is_none()
                    };
                    if let Some((history, tbs)) = found.iter_mut().find(of) {
                        history.signed = Some(sequence);
                        history.pruned = record.pruned.is_some() || tbs.is_none();
                        if let Some(tbs) = tbs.as_ref().filter(|_| !history.pruned) {
                            history.certificate =
                                Some(certificate(signed.reservation, tbs, &signed.signature)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found.into_iter().map(|(history, _)| history).collect())
    }
}
