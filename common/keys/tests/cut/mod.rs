//! A store that fails at a chosen moment, and values with a counter and a check of their own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use mintmark_keys::{
    Agreement, Error, KeyDescription, KeyStore, OaepHash, Probe, Purpose, SecretAlgorithm,
    SecretKey, Signer, StoreFacts, TransportKey,
};
use p256::PublicKey;

pub(crate) const LABEL: &str = "mintmark-anchor";

/// A value of version `counter`, one of several that `variant` tells apart.
pub(crate) fn value(counter: u64, variant: u8) -> Vec<u8> {
    let mut value = counter.to_be_bytes().to_vec();
    value.push(variant);
    value.extend_from_slice(digest(&SHA256, &value).as_ref());
    value
}

/// The counter of a value that is whole.
pub(crate) fn valid(value: &[u8]) -> Option<u64> {
    let (content, check) = value.split_at_checked(9)?;
    if digest(&SHA256, content).as_ref() != check {
        return None;
    }
    Some(u64::from_be_bytes(content.get(..8)?.try_into().ok()?))
}

/// The highest valid counter.
pub(crate) fn highest(values: &[Vec<u8>]) -> Option<u64> {
    values.iter().filter_map(|value| valid(value)).max()
}

fn failed(action: &'static str) -> Error {
    let reason = "the test cuts here".into();
    Error::Internal { action, reason }
}

/// Counts the moments at which a store can fail, and fails at one of them and ever after.
pub(crate) struct Fuse(AtomicUsize);

impl Fuse {
    pub(crate) fn never() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    /// Fails after `moments` went well.
    pub(crate) fn set(&self, moments: usize) {
        self.0.store(moments, Ordering::SeqCst);
    }

    pub(crate) fn is_blown(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    fn pass(&self) -> Result<(), Error> {
        let left = |moments: usize| match moments {
            usize::MAX => Some(usize::MAX),
            moments => moments.checked_sub(1),
        };
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
            .map(|_| ())
            .map_err(|_| failed("going on"))
    }
}

/// Data objects in memory. Every creation passes through a state in which half of the value is there.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) objects: Mutex<Vec<Vec<u8>>>,
    /// The highest valid counter after each change: `None` once there was none.
    pub(crate) history: Mutex<Vec<Option<u64>>>,
}

impl Memory {
    pub(crate) fn holding(objects: &[Vec<u8>]) -> Self {
        Self {
            objects: Mutex::new(objects.to_vec()),
            history: Mutex::new(vec![highest(objects)]),
        }
    }

    pub(crate) fn values(&self) -> Vec<Vec<u8>> {
        self.objects.lock().unwrap().clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut objects = self.objects.lock().unwrap();
        change(&mut objects);
        self.history.lock().unwrap().push(highest(&objects));
    }

    /// That at every moment there was a valid value, once there was one, and that it never went back.
    #[track_caller]
    pub(crate) fn demand_progress(&self) {
        let history = self.history.lock().unwrap();
        assert!(history.is_sorted(), "{history:?}");
    }
}

/// What a [`Cut`] store is made of.
pub(crate) enum Inner<'a> {
    Memory(&'a Memory),
    Real(&'a dyn KeyStore),
}

/// A store that fails before and after any operation on its data, as the fuse says.
pub(crate) struct Cut<'a> {
    pub(crate) inner: Inner<'a>,
    pub(crate) fuse: Fuse,
    /// What another writer makes just before the next creation in memory.
    pub(crate) rival: Mutex<Option<Vec<u8>>>,
}

impl<'a> Cut<'a> {
    pub(crate) fn new(inner: Inner<'a>) -> Self {
        let fuse = Fuse::never();
        let rival = Mutex::default();
        Self { inner, fuse, rival }
    }
}

impl KeyStore for Cut<'_> {
    fn data(&self, label: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.fuse.pass()?;
        let values = match &self.inner {
            Inner::Memory(memory) => memory.values(),
            Inner::Real(store) => store.data(label)?,
        };
        self.fuse.pass()?;
        Ok(values)
    }

    fn add_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        self.fuse.pass()?;
        if let (Inner::Memory(memory), Some(rival)) =
            (&self.inner, self.rival.lock().unwrap().take())
        {
            memory.change(|objects| objects.push(rival));
        }
        match &self.inner {
            Inner::Memory(memory) if memory.values().iter().any(|is| is == value) => {}
            Inner::Memory(memory) => {
                memory.change(|objects| objects.push(value[..value.len() / 2].to_vec()));
                self.fuse.pass()?;
                memory.change(|objects| *objects.last_mut().unwrap() = value.to_vec());
            }
            Inner::Real(store) => store.add_data(label, value)?,
        }
        self.fuse.pass()
    }

    fn remove_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        self.fuse.pass()?;
        match &self.inner {
            Inner::Memory(memory) => memory.change(|objects| objects.retain(|is| is != value)),
            Inner::Real(store) => store.remove_data(label, value)?,
        }
        self.fuse.pass()
    }

    fn facts(&self) -> StoreFacts {
        StoreFacts {
            kind: "file".into(),
            label: "memory".into(),
            manufacturer: String::new(),
            model: String::new(),
            serial: String::new(),
            firmware: String::new(),
            library: String::new(),
            mechanisms: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        Err(failed("check"))
    }

    fn find(&self, _: &str, _: Purpose) -> Result<Option<PublicKey>, Error> {
        Err(failed("find"))
    }

    fn generate(&self, _: &str, _: Purpose) -> Result<PublicKey, Error> {
        Err(failed("generate"))
    }

    fn signer_for(&self, _: &str, _: Purpose) -> Result<Arc<dyn Signer>, Error> {
        Err(failed("signer_for"))
    }

    fn agreement(&self, _: &str) -> Result<Arc<dyn Agreement>, Error> {
        Err(failed("agreement"))
    }

    fn transport(&self, _: &str) -> Result<Option<TransportKey>, Error> {
        Err(failed("transport"))
    }

    fn generate_transport(&self, _: &str) -> Result<Option<TransportKey>, Error> {
        Err(failed("generate_transport"))
    }

    fn unwrap_secret(
        &self,
        _: &str,
        _: SecretAlgorithm,
        _: &str,
        _: OaepHash,
        _: &[u8],
    ) -> Result<(), Error> {
        Err(failed("unwrap_secret"))
    }

    fn import_secret(&self, _: &str, _: SecretAlgorithm, _: &[u8; 32]) -> Result<(), Error> {
        Err(failed("import_secret"))
    }

    fn find_secret(&self, _: &str, _: SecretAlgorithm) -> Result<bool, Error> {
        Err(failed("find_secret"))
    }

    fn secret(&self, _: &str, _: SecretAlgorithm) -> Result<Arc<dyn SecretKey>, Error> {
        Err(failed("secret"))
    }

    fn destroy_secret(&self, _: &str, _: SecretAlgorithm) -> Result<(), Error> {
        Err(failed("destroy_secret"))
    }

    fn labels(&self) -> Result<Vec<KeyDescription>, Error> {
        Err(failed("labels"))
    }

    fn self_test(&self) -> Result<Vec<Probe>, Error> {
        Err(failed("self_test"))
    }
}
